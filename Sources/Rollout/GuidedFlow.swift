import Compute
import SparseAttention
import WanModel

/// The flow that a transformer predicts, with or without classifier-free guidance: `v = v_u + g (v_c - v_u)`, v_c under
/// the prompt and v_u under the negative prompt. g = 1 is no guidance, and costs one pass instead of two.
struct GuidedFlow: Sendable {
  private let transformer: WanTransformer
  /// The prompt, and with guidance the negative prompt.
  private let contexts: [TextContext]
  private let guidance: Float
  private let layout: TokenLayout
  private let backend: any Backend

  /// - Throws: ``RolloutError/settings(_:)`` for guidance without a negative prompt.
  init(
    transformer: WanTransformer, text: TextContext, negative: TextContext?, guidance: Double, layout: TokenLayout,
    on backend: any Backend
  ) throws(RolloutError) {
    guard guidance.isFinite else { throw .settings("a guidance scale of \(guidance)") }
    self.transformer = transformer
    self.guidance = Float(guidance)
    self.layout = layout
    self.backend = backend
    if guidance == 1 {
      contexts = [text]
    } else {
      guard let negative else {
        throw .settings("a guidance scale of \(guidance) needs the context of a negative prompt")
      }
      contexts = [text, negative]
    }
  }

  var isGuided: Bool { contexts.count == 2 }

  /// The flow at latents `[frames, channels, height, width]`; nil with `onlyMemory`.
  /// - Parameter memories: One per branch, the prompt's first; both may be the same if nothing is kept between passes.
  /// - Throws: `CancellationError` between passes.
  func flow(_ x: DeviceTensor, timestep: Float, memories: [KVMemory], onlyMemory: Bool = false) throws -> DeviceTensor?
  {
    let timesteps = Array(repeating: timestep, count: layout.frames)
    var flows: [DeviceTensor] = []
    for (context, memory) in zip(contexts, memories) {
      if !flows.isEmpty { try Task.checkCancellation() }
      let flow = transformer.forward(
        x, timesteps: timesteps, text: context, layout: layout, memory: memory, onlyMemory: onlyMemory)
      if let flow { flows.append(flow) }
    }
    if onlyMemory { return nil }
    guard flows.count == 2 else { return flows.first }
    return backend.combine(guidance, flows[0], 1 - guidance, flows[1])
  }
}
