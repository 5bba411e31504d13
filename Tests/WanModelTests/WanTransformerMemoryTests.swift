import Compute
import SparseAttention
import Tensors
import Testing
import WanModel

@Suite struct WanTransformerMemoryTests {
  private static func configuration(_ fixture: Fixture) throws -> TransformerConfiguration {
    try fixture.configuration { try TransformerConfiguration(path: $0) }
  }

  @Test(
    "Noisy passes leave no trace, and a window that holds everything equals the dense memory",
    arguments: ["step", "mixed"])
  func noisyPassesLeaveNoTraceAndA(times: String) throws {
    let weights = try Fixture("transformer-head128")
    let fixture = try Fixture("transformer-head128-causal")
    let backend = CPUBackend(threads: 2)
    let c = try Self.configuration(weights)
    let transformer = try WanTransformer(c, weights: weights.weights(), on: backend)
    let input = backend.upload(try fixture.tensor("input"))
    let timesteps = try fixture.tensor(times + ".times").floats()
    let geometry = try PageGeometry(rows: input.shape[2] / 2, columns: input.shape[3] / 2)
    let text = transformer.context(text: backend.upload(try fixture.tensor("text")))
    let layout = transformer.layout(geometry: geometry, frames: 3)
    for recipe in [SparsityRecipe.dense(), .selfForcing(window: 6), .selfForcing(window: 6, positions: .window)] {
      let memory = try KVMemory(
        recipe: recipe, geometry: geometry, layers: c.layers, heads: c.heads, headDim: c.headDim, chunkFrames: 3,
        totalFrames: 6, on: backend)
      var flows: [DeviceTensor] = []
      for chunk in 0..<2 {
        memory.begin(frames: 3)
        // A first pass with other numbers, as the noisy passes before the clean one: it must leave no trace.
        let part = backend.slice(input, 3 * chunk..<3 * chunk + 3)
        _ = transformer.forward(
          backend.activate(part, .silu), timesteps: [1000, 1000, 1000], text: text, layout: layout, memory: memory)
        let flow = transformer.forward(
          part, timesteps: Array(timesteps[3 * chunk..<3 * chunk + 3]), text: text, layout: layout, memory: memory)
        flows.append(try #require(flow))
        memory.seal()
      }
      let found = backend.download(backend.concatenate(flows))
      expectParity(found, try fixture.tensor(times + ".output"), "block-causal, \(times), \(recipe.name)", on: .cpu)
    }
  }

  @Test("A prompt that fills the context has no padding row and still agrees with its padded self")
  func aPromptThatFillsTheContextHas() throws {
    let fixture = try Fixture("transformer-small")
    let backend = CPUBackend(threads: 1)
    let transformer = try WanTransformer(Self.configuration(fixture), weights: fixture.weights(), on: backend)
    let text = try fixture.tensor("text")
    let zeros = [Float](repeating: 0, count: (512 - text.shape[0]) * text.shape[1])
    let full = Tensor(text.floats() + zeros, shape: [512, text.shape[1]])
    let geometry = try PageGeometry(rows: 2, columns: 2)
    var results: [Tensor] = []
    for rows in [text, full] {
      let memory = try KVMemory(
        recipe: .dense(), geometry: geometry, layers: 1, heads: transformer.configuration.heads,
        headDim: transformer.configuration.headDim, chunkFrames: 1, totalFrames: 1, on: backend)
      memory.begin(frames: 1)
      let x = Tensor((0..<16 * 16).map { Float($0 % 7) / 3 - 1 }, shape: [1, 16, 4, 4])
      let flow = transformer.forward(
        backend.upload(x), timesteps: [500], text: transformer.context(text: backend.upload(rows)),
        layout: transformer.layout(geometry: geometry, frames: 1), memory: memory)
      results.append(backend.download(try #require(flow)))
    }
    expectParity(results[0], results[1], "one weighted row for all padding", on: .cpu)
  }

  @Test("The published sizes have the published parameter counts") func thePublishedSizesHaveThePublishedParameter() {
    #expect(TransformerConfiguration.wan1B.parameters == 1_418_996_800)
    #expect(TransformerConfiguration.wan14B.parameters == 14_288_491_584)
  }
}
