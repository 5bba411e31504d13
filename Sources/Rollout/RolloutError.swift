/// What can go wrong between a prompt and its latents.
public enum RolloutError: Error, Equatable, CustomStringConvertible {
  /// Settings that cannot be had; known before any work.
  case settings(String)
  /// The model gave a number that is not finite.
  case notFinite(chunk: Int, step: Int)

  public var description: String {
    switch self {
    case .settings(let problem): problem
    case .notFinite(let chunk, let step):
      "the model gave NaN or infinity in chunk \(chunk), step \(step); the weights are damaged or do not fit the settings"
    }
  }
}
