import Compute

/// When a plan is made.
public struct StepContext: Sendable {
  /// Chunk number, from 0.
  public var chunk: Int
  /// Denoising step within the chunk; the clean pass follows the last.
  public var step: Int
  /// Transformer layer.
  public var layer: Int
}

/// Which pages a query tile reads.
///
/// A selector composes backend operations into page lists that the backend owns; it never reads a score back.
public protocol PageSelector: Sendable {
  /// Whether a plan depends on the queries. If not, one plan serves all steps of a chunk.
  var dependsOnContent: Bool { get }
  /// The pages that each tile of `queries` `[rows, heads x headDim]` reads, out of those in `table`.
  func plan(_ queries: DeviceTensor, among table: PageTable, density: Double, at: StepContext, on: any Backend)
    -> PageLists
}

/// Every page in memory, the current chunk's included: dense attention.
public struct AllPages: PageSelector {
  public init() {}
  public var dependsOnContent: Bool { false }

  public func plan(
    _ queries: DeviceTensor, among table: PageTable, density: Double, at context: StepContext, on backend: any Backend
  ) -> PageLists {
    let lists = (0..<table.heads).map { table.resident(layer: context.layer, head: $0).map(\.slot) }
    let longest = lists.map(\.count).max() ?? 0
    let padded = lists.flatMap { $0 + Array(repeating: -1, count: longest - $0.count) }
    return PageLists(shared: backend.upload(indices: padded, shape: [table.heads, longest]))
  }
}
