import Compute
import SparseAttention
import Tensors
import Testing
import WanModel

@Suite("The Wan transformer")
struct WanTransformerTests {
  // A memory and layout for a run of `frames` latent frames in chunks of `chunk`.
  private func run(
    _ model: WanTransformer, input: DeviceTensor, times: [Float], chunk: Int, tile: PageTile? = nil,
    text: Tensor, on backend: any Backend
  ) throws -> Tensor {
    let c = model.configuration
    let frames = input.shape[0]
    let geometry = try PageGeometry(rows: input.shape[2] / 2, columns: input.shape[3] / 2, tile: tile)
    let memory = try KVMemory(
      recipe: .dense(), geometry: geometry, layers: c.layers, heads: c.heads, headDim: c.headDim, chunkFrames: chunk,
      totalFrames: frames, on: backend)
    let layout = model.layout(geometry: geometry, frames: chunk)
    let context = model.context(text: backend.upload(text))
    let parts = try stride(from: 0, to: frames, by: chunk).map { first in
      memory.begin(frames: chunk)
      defer { memory.seal() }
      return try #require(
        model.forward(
          backend.slice(input, first..<first + chunk), timesteps: Array(times[first..<first + chunk]), text: context,
          layout: layout, memory: memory))
    }
    return backend.download(backend.concatenate(parts))
  }

  @Test(
    "agrees with diffusers.WanTransformer3DModel on a whole clip, whatever the tile",
    arguments: ["transformer-head128", "transformer-small"], TestBackend.allCases)
  func agreesWithDiffusers(name: String, kind: TestBackend) throws {
    let fixture = try Fixture(name)
    let backend = kind.make()
    let model = try WanTransformer(
      fixture.configuration(TransformerConfiguration.init(path:)), weights: fixture.weights(), on: backend)
    let input = try fixture.tensor("input")
    let frames = input.shape[0]
    let time = try fixture.tensor("time").floats()[0]
    for tile in [nil, PageTile(rows: 1, columns: 1), PageTile(frames: frames, rows: 1, columns: input.shape[3] / 2)] {
      let found = try run(
        model, input: backend.upload(input), times: Array(repeating: time, count: frames), chunk: frames,
        tile: tile, text: fixture.tensor("text"), on: backend)
      expectParity(
        found, try fixture.tensor("output"), "WanTransformer3DModel \(name), tile \(tile?.description ?? "default")",
        on: kind)
    }
  }

  @Test("gives the same under original names with the prefixes of training", arguments: TestBackend.allCases)
  func originalNames(kind: TestBackend) throws {
    let fixture = try Fixture("transformer-small")
    let backend = kind.make()
    let configuration = try fixture.configuration(TransformerConfiguration.init(path:))
    let input = backend.upload(try fixture.tensor("input"))
    let frames = input.shape[0]
    let times = Array(repeating: try fixture.tensor("time").floats()[0], count: frames)
    let text = try fixture.tensor("text")
    let checkpoints: [any WeightSource] = try [
      fixture.weights(), Fixture("transformer-small-original").checkpoint(),
    ]
    let outputs = try checkpoints.map { weights in
      let model = try WanTransformer(configuration, weights: weights, on: backend)
      return try run(model, input: input, times: times, chunk: frames, text: text, on: backend).floats()
    }
    #expect(outputs[0] == outputs[1])
  }

  @Test(
    "chunk by chunk with pages equals block-causal attention without a memory, with a time per frame",
    arguments: ["step", "mixed"], TestBackend.allCases)
  func agreesWithBlockCausal(times: String, kind: TestBackend) throws {
    let fixture = try Fixture("transformer-head128-causal")
    let backend = kind.make()
    let model = try WanTransformer(
      fixture.configuration(TransformerConfiguration.init(path:)), weights: Fixture("transformer-head128").weights(),
      on: backend)
    let found = try run(
      model, input: backend.upload(fixture.tensor("input")),
      times: fixture.tensor("\(times).times").floats(), chunk: 3, text: fixture.tensor("text"), on: backend)
    expectParity(found, try fixture.tensor("\(times).output"), "WanTransformer3DModel causal, \(times)", on: kind)
  }
}
