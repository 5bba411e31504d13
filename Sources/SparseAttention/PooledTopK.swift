import Compute

/// The pages with the best pooled scores, for each tile of queries apart (Sparse Forcing, arXiv 2604.21221, section 3;
/// also VSA, SLA and the first stage-less case of Light Forcing).
///
///     S_ij = mean(q in tile i) . mean(k in page j)          normed and rotated queries and keys
///     Omega(i) = the K largest S_ij over the local pages j   K = the budget of their number
///
/// Pages that persist are read besides, by every tile, in the same softmax. Equal scores: the older page is read. No page
/// is forced, not even the tile's own. Chosen anew for every layer, head and pass.
public struct PooledTopK: PageSelector, Equatable {
  public init() {}
  public var summary: String { "the best of each query tile" }
  public var dependsOnContent: Bool { true }

  public func pagesRead(of census: PageCensus, budget: PageBudget) -> Int {
    census.persistent + budget.pages(of: census.local)
  }

  public func plan(
    _ queries: DeviceTensor, over view: LayerView, budget: PageBudget, at context: StepContext, on backend: any Backend
  ) -> PageLists {
    let most = view.census.map(\.local).max() ?? 0
    let count = budget.pages(of: most)
    if count >= most { return PageLists(shared: view.all) }
    let means = backend.tileMeans(queries, tiles: view.tiles, heads: view.heads)
    let scores = backend.pageScores(means, pool: view.pool, layer: view.layer, slots: view.local, scale: 1)
    return PageLists(
      shared: view.persistent, perTile: backend.topPages(scores, count: count, slots: view.local, forced: nil))
  }
}
