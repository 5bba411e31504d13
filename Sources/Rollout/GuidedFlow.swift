import Compute
import SparseAttention
import Tensors
import WanModel

/// The flow that a transformer predicts, with or without classifier-free guidance: `v = v_u + g (v_c - v_u)`, v_c under
/// the prompt and v_u under the negative prompt. g = 1 is no guidance, and costs one pass instead of two.
struct GuidedFlow: Sendable {
  private let transformer: WanTransformer
  /// The prompt, and with guidance the negative prompt.
  private var contexts: [TextContext]
  private let guidance: Float
  /// One for each number of frames that a chunk may have.
  private let layouts: [TokenLayout]
  private let backend: any Backend

  /// - Throws: ``RolloutError/settings(_:)`` for guidance without a negative prompt.
  init(
    transformer: WanTransformer, text: TextContext, negative: TextContext?, guidance: Double,
    layouts: [TokenLayout], on backend: any Backend
  ) throws(RolloutError) {
    guard guidance.isFinite else { throw .settings("a guidance scale of \(guidance)") }
    self.transformer = transformer
    self.guidance = Float(guidance)
    self.layouts = layouts
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

  /// Replaces the prompt by one of the text encoder's rows `[length, textWidth]`.
  mutating func setPrompt(_ rows: Tensor) { contexts[0] = transformer.context(text: backend.upload(rows)) }

  /// A clean pass of the prompt's branch alone, for what it writes into `memory`.
  func remember(_ x: DeviceTensor, timestep: Float, in memory: KVMemory) {
    let layout = layout(of: x)
    _ = transformer.forward(
      x, timesteps: Array(repeating: timestep, count: layout.frames), text: contexts[0], layout: layout, memory: memory,
      onlyMemory: true)
  }

  private func layout(of x: DeviceTensor) -> TokenLayout {
    guard let layout = layouts.first(where: { $0.frames == x.shape[0] }) else {
      preconditionFailure("a chunk of \(x.shape[0]) frames, which no layout was made for")
    }
    return layout
  }

  /// The flow at latents `[frames, channels, height, width]`; nil with `onlyMemory`.
  /// - Parameter memories: One per branch, the prompt's first; both may be the same if nothing is kept between passes.
  /// - Throws: `CancellationError` between passes.
  func flow(_ x: DeviceTensor, timestep: Float, memories: [KVMemory], onlyMemory: Bool = false) throws -> DeviceTensor?
  {
    let layout = layout(of: x)
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
