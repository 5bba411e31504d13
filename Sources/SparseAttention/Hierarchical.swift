import Compute

/// First frames, then pages in them (hierarchical sparse attention of Light Forcing, arXiv 2602.04789; as in the released
/// code).
///
/// Once more than `keep` earlier frames are in memory, a query tile i first chooses frames: the oldest `sink`, the latest
/// `near`, and of those between the `keep - sink - near` with the best
///
///     p_it = mean(q in tile i) . mean over the pages of frame t of mean(k in page)
///
/// Then it reads the pages with the best pooled scores among those of these frames and of its own chunk, as many as the
/// budget of *all* local pages allows. No page is forced: frames only make candidates. With `keep` earlier frames or fewer
/// all pages are candidates. Pages that persist are read besides, or are candidates too if the budget counts them
/// (``CountedPages``); they count as no frames. However long the memory, there are at most `keep` + chunk frames of candidates.
public struct Hierarchical: PageSelector, Equatable {
  /// Earlier frames whose pages are candidates: 6 (3 in the long setting).
  public var keep: Int
  /// The oldest of them: 1.
  public var sink: Int
  /// The latest of them: 2 (1 in the long setting).
  public var near: Int

  public init(keep: Int = 6, sink: Int = 1, near: Int = 2) {
    self.keep = keep
    self.sink = sink
    self.near = near
  }

  public var summary: String { "pages of \(keep) earlier frames, sink \(sink), near \(near)" }
  public var dependsOnContent: Bool { true }
  private var retrieved: Int { keep - sink - near }

  public func check(geometry: PageGeometry) throws(SparsityError) {
    guard sink >= 0, near >= 0, keep >= 0, sink + near <= keep else {
      throw .recipe(
        "\(sink) sink and \(near) near frames are not among \(keep) kept ones; the least is \(max(0, sink) + max(0, near))"
      )
    }
    guard geometry.tile.frames == 1 else {
      let flat = PageGeometry.defaultTile(rows: geometry.rows, columns: geometry.columns)
      throw .tile("selection by frames needs pages inside one frame, not tiles of \(geometry.tile)", "\(flat)")
    }
  }

  /// The most pages that a tile may choose from.
  private func candidates(_ census: PageCensus, _ budget: PageBudget) -> Int {
    let past = census.past
    if past.count <= keep { return budget.choice(census) }
    let middle = past.dropFirst(sink).dropLast(near).sorted(by: >)
    let persistent = budget.choice(census) - census.local
    return past.prefix(sink).reduce(persistent + census.current, +) + past.suffix(near).reduce(0, +)
      + middle.prefix(retrieved).reduce(0, +)
  }

  public func pagesRead(of census: PageCensus, budget: PageBudget) -> Int {
    budget.fixed(census) + min(budget.pages(of: budget.choice(census)), candidates(census, budget))
  }

  public func plan(
    _ queries: DeviceTensor, over view: LayerView, budget: PageBudget, at context: StepContext, on backend: any Backend
  ) -> PageLists {
    let most = view.census.map(budget.choice).max() ?? 0
    let count = view.census.map { pagesRead(of: $0, budget: budget) - budget.fixed($0) }.max() ?? 0
    let slots = view.choice(budget)
    if count >= most { return PageLists(shared: view.all) }
    let means = backend.tileMeans(queries, tiles: view.tiles, heads: view.heads)
    var scores = backend.pageScores(means, pool: view.pool, layer: view.layer, slots: slots, scale: 1)
    let middleFrames = view.census.map { $0.past.count > keep ? $0.past.count - sink - near : 0 }.max() ?? 0
    if middleFrames > 0 {
      let groups = view.fixed("middle frames, sink \(sink), near \(near), keep \(keep)") { head in
        let census = view.census[head]
        return Array(repeating: -1, count: budget.choice(census) - census.local) + middle(census)
      }
      let frames = backend.groupMeans(scores, groups: groups, count: middleFrames)
      let best = backend.topPages(frames, count: retrieved, slots: nil, forced: nil)
      scores = backend.keepGroups(scores, groups: groups, kept: best)
    }
    return PageLists(
      shared: view.unchosen(budget), perTile: backend.topPages(scores, count: count, slots: slots, forced: nil))
  }

  /// The number of each local page's frame among those between sink and near; -1 for pages that are candidates anyway.
  private func middle(_ census: PageCensus) -> [Int32] {
    let past = census.past
    let frames = past.indices.flatMap { frame -> [Int32] in
      let between = past.count > keep && frame >= sink && frame < past.count - near
      return Array(repeating: between ? Int32(frame - sink) : -1, count: past[frame])
    }
    return frames + Array(repeating: -1, count: census.current)
  }
}
