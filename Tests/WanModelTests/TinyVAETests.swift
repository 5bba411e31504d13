import Compute
import Foundation
import Tensors
import Testing
import WanModel

@Suite("The tiny autoencoder")
struct TinyVAETests {
  private func load(_ name: String, _ backend: any Backend) throws -> (Fixture, TinyVAE) {
    let fixture = try Fixture(name)
    let weights = try fixture.weights()
    return (fixture, try TinyVAE(TinyVAEConfiguration(shapesOf: weights), weights: weights, on: backend))
  }

  private func shipped(_ backend: any Backend) throws -> TinyVAE {
    let archive = try Fixture.shipped("tiny_vae/diffusion_pytorch_model.safetensors")
    let configuration = try TinyVAEConfiguration(
      path: Fixture.shippedURL("tiny_vae/config.json").path, shapesOf: archive)
    #expect(configuration == TinyVAEConfiguration(shapesOf: archive))
    return try TinyVAE(configuration, weights: archive, on: backend)
  }

  @Test("agrees with TAEHV at two sets of widths", arguments: ["taehv-a", "taehv-b"], TestBackend.allCases)
  func agrees(name: String, kind: TestBackend) throws {
    let backend = kind.make()
    let (fixture, vae) = try load(name, backend)
    let pixels = try vae.makeDecoder().decode(backend.upload(fixture.tensor("decode.latents")))
    expectParity(
      backend.download(backend.channelsFirst(pixels)), try fixture.tensor("decode.pixels"), "TAEHV \(name), decode",
      on: kind)
    let encoder = try vae.makeEncoder()
    for clip in 0..<(name == "taehv-a" ? 2 : 1) {
      let video = try fixture.tensor("video.\(clip)")
      let latents = backend.download(try encoder.encode(backend.pixels(channelsFirst: video)))
      expectParity(
        latents, try fixture.tensor("latents.\(clip)"), "TAEHV \(name), encode \(video.shape[0]) frames", on: kind)
    }
  }

  @Test("decodes a stream to the same pixels bit for bit, however it is portioned", arguments: TestBackend.allCases)
  func portions(kind: TestBackend) throws {
    let backend = kind.make()
    let (fixture, vae) = try load("taehv-a", backend)
    let latents = backend.upload(try fixture.tensor("decode.latents"))
    try expectEveryPortioningAgrees(try vae.makeDecoder(), latents, backend)
  }

  @Test("encodes a stream to the same latents bit for bit, however it is portioned and resumed")
  func encodesInPortions() throws {
    let backend = CPUBackend(threads: 2)
    let (fixture, vae) = try load("taehv-a", backend)
    let encoder = try vae.makeEncoder()
    #expect([1, 3, 4, 7, 8, 81].map { encoder.latentFrames(of: $0) } == [1, 1, 1, 1, 2, 20])
    try expectEveryPortioningEncodes(encoder, fixture.tensor("video.0"), backend)
  }

  @Test("of the shipped model decodes its reference latents to the reference frames")
  func shippedDecodes() throws {
    let backend = CPUBackend(threads: 2)
    let reference = try Fixture.shipped("reference.safetensors")
    let decoder = try shipped(backend).makeDecoder()
    // [16, frames, h, w] there, of which the first were decoded: n latent frames make 4n - 3.
    let latents = backend.channelsLast(backend.upload(try reference.tensor("latents").framesFirst()))
    let frames = try reference.tensor("frames")
    let pixels = try decoder.decode(backend.slice(backend.channelsFirst(latents), 0..<(frames.shape[0] + 3) / 4))
    expectSameLevels(backend.download(pixels), frames, "decode")
  }

  @Test("of the shipped model encodes and decodes a clip to the reference values")
  func shippedEncodes() throws {
    let backend = CPUBackend(threads: 2)
    let vae = try shipped(backend)
    let reference = try Fixture.shipped("reference.safetensors")
    let clip = try reference.tensor("encode_input")
    let video = backend.upload(Tensor(clip.floats().map { $0 / 255 }, shape: clip.shape))
    let latents = try vae.makeEncoder().encode(video)
    expectParity(
      backend.download(latents), try reference.tensor("encode_latents").framesFirst(), "TAEHV shipped, encode", on: .cpu
    )
    let decoded = backend.download(try vae.makeDecoder().decode(latents))
    expectSameLevels(decoded, try reference.tensor("encode_decoded"), "encode and decode")
  }

  // uint8 = trunc(255 x): a value next to a whole number may fall to either side.
  private func expectSameLevels(_ pixels: Tensor, _ wanted: Tensor, _ what: String) {
    #expect(pixels.shape == wanted.shape)
    let levels = pixels.floats().map { Int($0 * 255) }
    let differences = zip(levels, wanted.integers()).map { abs($0 - $1) }
    let different = differences.count { $0 > 0 }
    print("TAEHV shipped, \(what): \(different) of \(levels.count) levels differ, by \(differences.max() ?? 0) at most")
    #expect((differences.max() ?? 0) <= 1)
    #expect(different < differences.count / 1000)
  }

  @Test("refuses configurations that it cannot run, by file and reason")
  func badConfiguration() throws {
    let weights = try Fixture("taehv-a").weights()
    for (json, reason) in [
      (#"{"_class_name": "AutoencoderKL"}"#, "TAEHV"), (#"{"patch_size": 2}"#, "patch_size"),
      (#"{"temporal_grow": [1, 1, 2]}"#, "temporal_grow"), (#"{"decoder_widths": [4, 4]}"#, "decoder_widths"),
      (#"{"latent_channels": 2, "latents_mean": [0], "latents_std": [1]}"#, "latents_mean"),
      (#"{"decoder_widths": [4, 4, 4, -4]}"#, "decoder_widths"), (#"{"latents_mean": 3}"#, "latents_mean"),
    ] {
      try expectRefused(json, reason) { _ = try TinyVAEConfiguration(path: $0, shapesOf: weights) }
    }
  }

  @Test("asks for the parameters of taew2_1")
  func sizeOfPublishedModel() {
    let entries = TinyVAEConfiguration().weightTable.entries
    func parameters(_ half: String) -> Int {
      entries.filter { $0.name.hasPrefix(half) }.map { $0.shape.reduce(1, *) }.reduce(0, +)
    }
    #expect(parameters("decoder.") == 9_844_611)
    #expect(parameters("encoder.") == 1_470_928)
  }
}

extension Tensor {
  /// `[channels, frames, h, w]` → `[frames, channels, h, w]`, of float32.
  func framesFirst() -> Tensor {
    let (channels, frames, plane) = (shape[0], shape[1], shape[2] * shape[3])
    let values = floats()
    var moved: [Float] = []
    for frame in 0..<frames {
      for channel in 0..<channels {
        let start = (channel * frames + frame) * plane
        moved += values[start..<start + plane]
      }
    }
    return Tensor(moved, shape: [frames, channels, shape[2], shape[3]])
  }
}
