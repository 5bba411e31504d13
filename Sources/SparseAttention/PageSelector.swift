import Compute

/// When a plan is made.
public struct StepContext: Sendable {
  /// Chunk number, from 0.
  public var chunk: Int
  /// Denoising step within the chunk; the clean pass follows the last.
  public var step: Int
  /// Transformer layer.
  public var layer: Int

  public init(chunk: Int, step: Int, layer: Int) {
    self.chunk = chunk
    self.step = step
    self.layer = layer
  }
}

/// Which pages a query tile reads.
///
/// A selector composes backend operations into page lists that the backend owns; it never reads a score back. Pages that
/// persist are read by every query; it chooses among the local ones.
public protocol PageSelector: Sendable {
  /// What a user reads, such as `the best of each query tile`.
  var summary: String { get }
  /// Whether a plan depends on the queries. If not, one plan serves all steps of a chunk.
  var dependsOnContent: Bool { get }
  /// The most pages that a query tile reads, of a head with such pages; known before any score.
  func pagesRead(of census: PageCensus, budget: PageBudget) -> Int
  /// The pages that each tile of `queries` `[rows, heads x headDim]`, normed and rotated, reads.
  func plan(
    _ queries: DeviceTensor, over view: LayerView, budget: PageBudget, at context: StepContext, on backend: any Backend
  ) -> PageLists
  /// - Throws: ``SparsityError/recipe(_:)`` for settings that cannot be had, or not with such pages.
  func check(geometry: PageGeometry) throws(SparsityError)
}

extension PageSelector {
  public func check(geometry: PageGeometry) throws(SparsityError) {}
}

/// Every page in memory, the current chunk's included: dense attention. Knows no budget.
public struct AllPages: PageSelector {
  public init() {}
  public var summary: String { "every page" }
  public var dependsOnContent: Bool { false }
  public func pagesRead(of census: PageCensus, budget: PageBudget) -> Int { census.persistent + census.local }

  public func plan(
    _ queries: DeviceTensor, over view: LayerView, budget: PageBudget, at context: StepContext, on backend: any Backend
  ) -> PageLists { PageLists(shared: view.all) }
}
