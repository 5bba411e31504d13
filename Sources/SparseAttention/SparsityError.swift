/// What cannot be had from a memory, a selector or a recipe; known before any work.
public enum SparsityError: Error, Equatable, CustomStringConvertible {
  /// A tile that does not fit, and the nearest one that does.
  case tile(String, String)
  /// A window, sink or capacity that does not fit the chunk.
  case capacity(String)
  /// A recipe, policy or combination that does not exist.
  case recipe(String)

  public var description: String {
    switch self {
    case .tile(let problem, let nearest): "\(problem); a tile of \(nearest) fits"
    case .capacity(let problem), .recipe(let problem): problem
    }
  }
}
