import Compute

/// The pages with the best pooled scores, for each tile of queries apart (Sparse Forcing, arXiv 2604.21221, section 3;
/// also VSA, SLA and the first stage-less case of Light Forcing).
///
///     S_ij = mean(q in tile i) . mean(k in page j)          normed and rotated queries and keys
///     Omega(i) = the K largest S_ij over the pages j        K = the budget of their number
///
/// j runs over the local pages, and the pages that persist are read besides, by every tile, in the same softmax; or over all
/// pages, if the budget counts them all (``CountedPages``). Equal scores: the older page is read. Without `anchors` no page
/// is forced, not even the tile's own. Chosen anew for every layer, head and pass.
public struct PooledTopK: PageSelector, Equatable {
  /// Pages that are read by turns whatever their score; nil for none.
  public var anchors: PageAnchors?

  public init(anchors: PageAnchors? = nil) { self.anchors = anchors }

  public var summary: String {
    "the best of each query tile" + (anchors.map { ", every \($0.stride)th page by turns" } ?? "")
  }
  public var dependsOnContent: Bool { true }
  public func check(geometry: PageGeometry) throws(SparsityError) { try anchors?.check() }

  public func pagesRead(of census: PageCensus, budget: PageBudget) -> Int {
    budget.fixed(census) + budget.pages(of: budget.choice(census))
  }

  public func plan(
    _ queries: DeviceTensor, over view: LayerView, budget: PageBudget, at context: StepContext, on backend: any Backend
  ) -> PageLists {
    let most = view.census.map(budget.choice).max() ?? 0
    let count = budget.pages(of: most)
    if count >= most { return PageLists(shared: view.all) }
    let slots = view.choice(budget)
    let means = backend.tileMeans(queries, tiles: view.tiles, heads: view.heads)
    let scores = backend.pageScores(means, pool: view.pool, layer: view.layer, slots: slots, scale: 1)
    let forced = anchors?.forced(view, budget: budget, at: context)
    return PageLists(
      shared: view.unchosen(budget), perTile: backend.topPages(scores, count: count, slots: slots, forced: forced))
  }
}
