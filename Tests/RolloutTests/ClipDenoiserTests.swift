import Compute
import Rollout
import SparseAttention
import Tensors
import Testing
import WanModel

/// The shipped model over a whole clip.
@Suite struct ClipDenoiserTests {
  private let model: ShippedModel
  init() throws { model = try ShippedModel() }

  private func settings(_ frames: Int, _ select: any PageSelector = AllPages()) throws -> RolloutSettings {
    try model.settings(
      latentFrames: frames, recipe: SparsityRecipe(name: "dense", memory: KeepAll(), select: select))
  }

  /// The context of other words than the prompt's: of its last one alone.
  private func otherContext(_ transformer: WanTransformer, on backend: any Backend) throws -> TextContext {
    let rows = try model.reference.tensor("text_rows")
    return transformer.context(
      text: backend.upload(Tensor(rows.floats().suffix(rows.shape[1]), shape: [1, rows.shape[1]])))
  }

  private func denoise(
    _ frames: Int, _ select: any PageSelector = AllPages(), steps: Int = 2, guidance: Double = 1, threads: Int = 2
  ) throws -> [Float] {
    let backend = CPUBackend(threads: threads)
    let transformer = try model.folder.loadTransformer(on: backend)
    var settings = try settings(frames, select)
    settings.guidance = guidance
    var denoiser = try ClipDenoiser(
      transformer: transformer, text: model.context(transformer, on: backend),
      negative: otherContext(transformer, on: backend), noise: CounterNoise(seed: 5),
      sampler: ClipSampler(.unipc, steps: steps, shift: 5), settings: settings, on: backend)
    while !denoiser.isFinished { try denoiser.advance() }
    return backend.download(denoiser.latents).floats()
  }

  @Test("Each step is a pass over all frames and the sampler's step") func eachStepIsAPassOverAll() throws {
    let backend = CPUBackend(threads: 2)
    let transformer = try model.folder.loadTransformer(on: backend)
    let settings = try settings(4)
    let geometry = try settings.geometry()
    let c = transformer.configuration
    let (text, other) = (
      try model.context(transformer, on: backend), try otherContext(transformer, on: backend)
    )
    var noise = CounterNoise(seed: 5)
    var x = backend.upload(
      noise.initial(chunk: 0, frames: 4, channels: 16, height: settings.latentHeight, width: settings.latentWidth))
    var sampler = try ClipSampler(.unipc, steps: 2, shift: 5)
    let layout = transformer.layout(geometry: geometry, frames: 4)
    for t in sampler.timesteps {
      // A fresh memory with all layers for every pass.
      let flows = try [text, other].map { context in
        let memory = try KVMemory(
          recipe: .dense(), geometry: geometry, layers: c.layers, heads: c.heads, headDim: c.headDim, chunkFrames: 4,
          totalFrames: 4, on: backend)
        memory.begin(frames: 4)
        return try #require(
          transformer.forward(
            x, timesteps: [Float](repeating: Float(t), count: 4), text: context, layout: layout, memory: memory))
      }
      // v_u + 3 (v_c - v_u)
      let guided = backend.combine(1, flows[1], 3, backend.combine(1, flows[0], -1, flows[1]))
      x = sampler.advance(x, flow: guided, on: backend)
    }
    let error = distance(try denoise(4, guidance: 3), backend.download(x).floats())
    #expect(error < 1e-5, "relative L2 \(error)")
  }

  @Test("Anchors of stride 1 are dense to the last bit, of stride 3 they are not") func anchorsOfStride1AreDenseTo()
    throws
  {
    let dense = try denoise(6)
    #expect(try denoise(6, RotatingAnchors(AnchorPattern(frames: 6, stride: 1))) == dense)
    let sparse = try denoise(6, RotatingAnchors(AnchorPattern(frames: 6, stride: 3, halfWindow: 1)))
    let apart = distance(sparse, dense)
    #expect(apart > 1e-3 && apart < 1, "relative L2 \(apart)")
  }

  @Test("Any number of threads gives the same bytes") func anyNumberOfThreadsGivesTheSame() throws {
    let pattern = try AnchorPattern(frames: 7, stride: 3, halfWindow: 1)
    #expect(
      try denoise(7, RotatingAnchors(pattern), guidance: 2)
        == denoise(7, RotatingAnchors(pattern), guidance: 2, threads: 1))
  }

  @Test("Guidance without a negative prompt, and a clip without a length, are refused")
  func guidanceWithoutANegativePromptAndA() throws {
    let backend = CPUBackend(threads: 1)
    let transformer = try model.folder.loadTransformer(on: backend)
    var settings = try settings(2)
    func make(_ settings: RolloutSettings) throws {
      _ = try ClipDenoiser(
        transformer: transformer, text: model.context(transformer, on: backend), noise: CounterNoise(seed: 1),
        sampler: ClipSampler(.euler, steps: 1, shift: 5), settings: settings, on: backend)
    }
    settings.guidance = 5
    #expect(
      throws: RolloutError.settings("a guidance scale of 5.0 needs the context of a negative prompt")
    ) { try make(settings) }
    settings.guidance = 1
    settings.latentFrames = nil
    #expect(throws: RolloutError.self) { try make(settings) }
  }

  /// A rollout of 6 latent frames in two steps; `guidance` against the other context.
  private func rollout(guidance: Double, sameContext: Bool) async throws -> [[Float]] {
    let backend = CPUBackend(threads: 2)
    let transformer = try model.folder.loadTransformer(on: backend)
    var settings = try model.settings(latentFrames: 6)
    settings.schedule = try FlowSchedule(steps: 2, shift: 5)
    settings.guidance = guidance
    let text = try model.context(transformer, on: backend)
    let rollout = try Rollout(
      transformer: transformer, text: text, negative: sameContext ? text : otherContext(transformer, on: backend),
      noise: CounterNoise(seed: 3), settings: settings, on: backend)
    return try await rollout.latents(on: backend)
  }

  @Test("Chunk by chunk, guidance against the prompt itself changes nothing, against another prompt it does")
  func chunkByChunkGuidanceAgainstThePrompt()
    async throws
  {
    let plain = try await rollout(guidance: 1, sameContext: true)
    let same = try await rollout(guidance: 4, sameContext: true)
    let other = try await rollout(guidance: 4, sameContext: false)
    for (a, b) in zip(same, plain) { #expect(distance(a, b) < 1e-3, "\(distance(a, b))") }
    for (a, b) in zip(other, plain) { #expect(distance(a, b) > 1e-2, "\(distance(a, b))") }
  }

  @Test("Chunk by chunk, anchors with a stride of 1 equal dense, and a short past is read whole")
  func chunkByChunkAnchorsWithAStride() async throws {
    func latents(_ select: any PageSelector) async throws -> [[Float]] {
      let backend = CPUBackend(threads: 2)
      let transformer = try model.folder.loadTransformer(on: backend)
      var settings = try settings(12, select)
      settings.schedule = try FlowSchedule(steps: 2, shift: 5)
      let rollout = try Rollout(
        transformer: transformer, text: model.context(transformer, on: backend), noise: CounterNoise(seed: 3),
        settings: settings, on: backend)
      return try await rollout.latents(on: backend)
    }
    let dense = try await latents(AllPages())
    #expect(try await latents(CausalAnchors(budget: 7, recent: 2, chunkFrames: 3, stride: 1, steps: 2)) == dense)
    let sparse = try await latents(CausalAnchors(budget: 9, recent: 2, chunkFrames: 3, steps: 2))
    // 6 past frames fit into a budget of 9, 9 do not.
    #expect(sparse[..<3] == dense[..<3] && sparse[3] != dense[3])
  }
}
