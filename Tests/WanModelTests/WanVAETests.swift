import Compute
import Foundation
import Tensors
import Testing
import WanModel

@Suite("The Wan 2.1 autoencoder")
struct WanVAETests {
  private func load(_ name: String, _ backend: any Backend) throws -> (Fixture, WanVAE) {
    let fixture = try Fixture(name)
    let weights = try fixture.weights()
    #expect((weights.tensors["decoder.conv1.weight"] != nil) == (name == "wanvae-b"), "the fixtures' schemes differ")
    let configuration = try fixture.configuration(WanVAEConfiguration.init(path:))
    return (fixture, try WanVAE(configuration, weights: weights, on: backend))
  }

  @Test(
    "decodes like diffusers.AutoencoderKLWan under both naming schemes",
    arguments: ["wanvae-a", "wanvae-b"], TestBackend.allCases)
  func decodes(name: String, kind: TestBackend) throws {
    let backend = kind.make()
    let (fixture, vae) = try load(name, backend)
    let decoder = try vae.makeDecoder()
    let pixels = try decoder.decode(backend.upload(fixture.tensor("decode.latents")))
    let found = backend.download(backend.channelsFirst(pixels))
    let reference = try fixture.tensor("decode.pixels")
    let wanted = Tensor(reference.floats().map { $0 * 0.5 + 0.5 }, shape: reference.shape)
    expectParity(found, wanted, "AutoencoderKLWan \(name), decode", on: kind)
    // The same in the class's own range, where the mean does not flatter.
    let range = Tensor(found.floats().map { 2 * $0 - 1 }, shape: found.shape)
    expectParity(range, reference, "AutoencoderKLWan \(name), decode in -1...1", on: kind)
  }

  @Test(
    "encodes like diffusers.AutoencoderKLWan, short and long clips",
    arguments: ["wanvae-a", "wanvae-b"], TestBackend.allCases)
  func encodes(name: String, kind: TestBackend) throws {
    let backend = kind.make()
    let (fixture, vae) = try load(name, backend)
    let encoder = try vae.makeEncoder()
    for clip in 0..<2 {
      let video = try fixture.tensor("video.\(clip)")
      let latents = backend.download(try encoder.encode(backend.pixels(channelsFirst: video)))
      expectParity(
        latents, try fixture.tensor("latents.\(clip)"),
        "AutoencoderKLWan \(name), encode \(video.shape[0]) frames", on: kind)
    }
  }

  @Test("encodes a stream to the same latents bit for bit, however it is portioned and resumed")
  func encodesInPortions() throws {
    let backend = CPUBackend(threads: 2)
    let (fixture, vae) = try load("wanvae-a", backend)
    let encoder = try vae.makeEncoder()
    #expect([1, 4, 5, 8, 9, 81].map { encoder.latentFrames(of: $0) } == [1, 1, 2, 2, 3, 21])
    try expectEveryPortioningEncodes(encoder, fixture.tensor("video.0"), backend)
  }

  @Test("decodes a stream to the same pixels bit for bit, however it is portioned", arguments: TestBackend.allCases)
  func portions(kind: TestBackend) throws {
    let backend = kind.make()
    let (fixture, vae) = try load("wanvae-a", backend)
    let latents = backend.upload(try fixture.tensor("decode.latents"))
    try expectEveryPortioningAgrees(try vae.makeDecoder(), latents, backend)
  }

  @Test(
    "wide layers remember their past in bytes: near float32, and the same bits however it is portioned and resumed",
    .enabled(if: Precision.bf16.isSupported))
  func wideLayers() throws {
    var configuration = WanVAEConfiguration()
    (configuration.decoderBase, configuration.encoderBase) = (64, 16)
    (configuration.multipliers, configuration.blocksPerLevel, configuration.halvesTime) = (
      [1, 1, 2], 1, [false, true]
    )
    var random = SystemRandomNumberGenerator()
    let tensors = configuration.weightTable.entries.map { entry in
      let inputs = Float(entry.shape.dropFirst().reduce(1, *))
      let values = (0..<entry.shape.reduce(1, *)).map { _ in
        entry.name.hasSuffix("gamma") ? 1 : Float.random(in: -1.7...1.7, using: &random) / max(1, inputs).squareRoot()
      }
      return (entry.name, Tensor(values, shape: entry.shape))
    }
    let weights = WeightDictionary(Dictionary(uniqueKeysWithValues: tensors), label: "random weights")
    let latents = Tensor(
      (0..<4 * 16 * 5 * 7).map { _ in Float.random(in: -1...1, using: &random) }, shape: [4, 16, 5, 7])
    func decode(_ precision: Precision) throws -> [Float] {
      let backend = CPUBackend(threads: 2, precision: precision)
      let decoder = try WanVAE(configuration, weights: weights, on: backend).makeDecoder()
      let map = backend.upload(latents)
      if precision == .bf16 { try expectEveryPortioningAgrees(decoder, map, backend) }
      decoder.reset()
      return backend.download(try decoder.decode(map)).floats()
    }
    let (wanted, found) = (try decode(.f32), try decode(.bf16))
    let error = zip(wanted, found).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) } / Float(wanted.count)
    let mean = wanted.reduce(0, +) / Float(wanted.count)
    let variance = wanted.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Float(wanted.count)
    #expect(variance > 1e-3, "pixels without contrast say nothing: variance \(variance)")
    #expect(error < 4e-4 * variance, "mean squared error \(error) of a variance of \(variance)")
  }

  @Test("has the names that both checkpoints use, for the real sizes too")
  func names() throws {
    for name in ["wanvae-a", "wanvae-b"] {
      let fixture = try Fixture(name)
      let table = try fixture.configuration(WanVAEConfiguration.init(path:)).weightTable
      let wanted = try JSONDecoder().decode([String: String].self, from: Data(fixture.metadata("original_names").utf8))
      #expect(Dictionary(uniqueKeysWithValues: table.entries.map { ($0.converted, $0.name) }) == wanted)
    }
    let table = WanVAEConfiguration().weightTable
    #expect(table.entries.count == 194)
    #expect(table.parameters == 126_892_531)
  }

  @Test(
    "refuses configurations of other networks, by file and reason",
    arguments: [
      (#"{"is_residual": true}"#, "2.2"), (#"{"attn_scales": [0.5]}"#, "attn_scales"),
      (#"{"_class_name": "AutoencoderKL"}"#, "AutoencoderKL"), (#"{"dim_mult": [1, 2]}"#, "dim_mult"),
      (#"{"z_dim": 4}"#, "latents_mean"), (#"{"base_dim": -96}"#, "base_dim"), (#"{"z_dim": 2.5}"#, "z_dim"),
    ])
  func badConfiguration(json: String, reason: String) throws {
    try expectRefused(json, reason) { _ = try WanVAEConfiguration(path: $0) }
  }
}

/// Decodes `latents` whole, frame by frame, in all splits into two and with a state that is stored and put back, and
/// expects the same bits each time.
func expectEveryPortioningAgrees(_ decoder: any VideoDecoder, _ latents: DeviceTensor, _ backend: any Backend) throws {
  let count = latents.shape[0]
  let whole = backend.download(try decoder.decode(latents))
  #expect(whole.shape[0] == 1 + (count - 1) * decoder.framesPerLatent)
  #expect(whole.shape[1] == latents.shape[2] * decoder.pixelsPerLatent)
  #expect(whole.shape[2] == latents.shape[3] * decoder.pixelsPerLatent)
  #expect(whole.shape[3] == 3)
  let splits = (1..<count).map { [0..<$0, $0..<count] } + [(0..<count).map { $0..<$0 + 1 }]
  for split in splits {
    decoder.reset()
    var pixels: [Float] = []
    for range in split {
      // As a resumed run does: all that the stream remembers goes through a file.
      var state = StateBuilder()
      try decoder.state.save(to: &state, as: "decoder", on: backend)
      let path = NSTemporaryDirectory() + "longtake-stream-\(UUID().uuidString)"
      defer { try? FileManager.default.removeItem(atPath: path) }
      try state.write(to: path)
      decoder.reset()
      decoder.state = try VideoStreamState(from: SavedState(path: path), as: "decoder", on: backend)
      pixels += backend.download(try decoder.decode(backend.slice(latents, range))).floats()
    }
    #expect(pixels == whole.floats(), "portions \(split) differ")
  }
  decoder.reset()
  #expect(backend.download(try decoder.decode(latents)).floats() == whole.floats(), "a second stream differs")
}
