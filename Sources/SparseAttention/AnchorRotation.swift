/// What the offset of rotating anchors follows; chunks and steps count from 0 (lvsa.md section 7.4).
public enum AnchorRotation: String, Sendable, Codable, CaseIterable {
  /// R0, nothing: anchors are fixed.
  case fixed = "R0"
  /// R1, the denoising step: u = step.
  case step = "R1"
  /// R2, the chunk: u = chunk.
  case chunk = "R2"
  /// R3, both: u = chunk x steps + step.
  case both = "R3"
  /// R4, staggered: u = chunk x steps + step + layer, so that layers see different frames.
  case staggered = "R4"

  /// What a user reads after "anchors that".
  public var summary: String {
    switch self {
    case .fixed: "stay (R0)"
    case .step: "turn with the step (R1)"
    case .chunk: "turn with the chunk (R2)"
    case .both: "turn with chunk and step (R3)"
    case .staggered: "turn with chunk, step and layer (R4)"
    }
  }

  /// How long a list of anchors serves.
  var renewal: PlanRenewal {
    switch self {
    case .fixed, .chunk: .perChunk
    case .step, .both, .staggered: .perStep
    }
  }

  /// The number u. Keys and values written by the clean pass stay for ever, so that pass shares the offset of the last of
  /// a chunk's `steps`.
  func phase(at context: StepContext, steps: Int) -> Int {
    let step = min(context.step, steps - 1)
    return switch self {
    case .fixed: 0
    case .step: step
    case .chunk: context.chunk
    case .both: context.chunk * steps + step
    case .staggered: context.chunk * steps + step + context.layer
    }
  }
}
