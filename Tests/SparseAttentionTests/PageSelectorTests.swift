import Compute
import SparseAttention
import Tensors
import Testing

@Suite struct PageSelectorTests {
  private static func at(_ chunk: Int) -> StepContext { StepContext(chunk: chunk, step: 0, layer: 0) }
  private static func mean(_ rows: ArraySlice<[Float]>) -> [Float] {
    rows[rows.startIndex].indices.map { d in rows.reduce(0) { $0 + $1[d] } / Float(rows.count) }
  }
  private static func dot(_ a: [Float], _ b: [Float]) -> Float { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
  private static func best(_ scores: [(place: Int, score: Float)], _ k: Int) -> [Int] {
    scores.sorted { $0.score != $1.score ? $0.score > $1.score : $0.place < $1.place }.prefix(k).map(\.place).sorted()
  }

  /// The tiny case of the Light Forcing specification, section 11: T = 4, pages of 2 tokens, 5 earlier frames and 1 own.
  @Test("Hierarchical selection gives the published tiny case", arguments: [false, true])
  func hierarchicalSelectionGivesThePublishedTinyCase(reference: Bool) {
    let backend: any Backend = reference ? ReferenceBackend() : CPUBackend(threads: 2)
    let keys = (0..<24).map { (t: Int) -> [Float] in
      let (x, y) = ((7 * t + 3) % 11 - 5, (5 * t + 1) % 7 - 3)
      return [Float(x), Float(y)]
    }
    let f = ViewFixture(keys: [keys], frames: (0..<12).map { $0 / 2 }, tokens: 2, first: 5, on: backend)
    let queries = backend.upload(Tensor([2, 1, 2, 1, -1, 2, -1, 2] as [Float], shape: [4, 2]))
    let selector = Hierarchical(keep: 3, sink: 1, near: 1)
    let lists = selector.plan(
      queries, over: f.view, budget: PageBudget(density: 5 / 12.0, rounding: .down), at: Self.at(5), on: backend)
    let reads = f.reads(lists)[0]
    #expect(reads[0] == [0, 6, 7, 9, 11], "row 0 reads \(reads[0])")
    // Pages 0 and 10 tie at -0.5; the lower index is read.
    #expect(reads[1] == [0, 1, 4, 8, 11], "row 1 reads \(reads[1])")
    let scores = backend.pageScores(
      backend.tileMeans(queries, tiles: f.view.tiles, heads: 1), pool: f.view.pool, layer: 0, slots: f.view.all,
      scale: 1)
    #expect(
      backend.download(scores).floats()
        == [3.5, -2, 3.5, -2, -4, -2, 7, 1.5, -4, 1.5, -4, 5, -0.5, 1, -3, -1.5, 7, -4, -1, 0.5, 2, -2, -0.5, 2.5])
    // Frames 1, 2 and 3 are in the middle: frame 3 is kept by row 0, frame 2 by row 1.
    let groups = backend.upload(indices: [-1, -1, 0, 0, 1, 1, 2, 2, -1, -1, -1, -1], shape: [1, 12])
    let frames = backend.groupMeans(scores, groups: groups, count: 3)
    #expect(backend.download(frames).floats() == [0.75, -3, 4.25, -2.25, 1.5, -0.25])
    #expect(backend.download(backend.topPages(frames, count: 1, slots: nil, forced: nil)) == [2, 1])
    let means = backend.download(backend.pageStatistics(of: f.view.pool, layer: 0, slots: f.view.all).meanKeys).floats()
    let published: [Float] = [
      1.5, 0.5, -1, 0, 2, -0.5, -0.5, -1, -3, 2, 0, -2, 3, 1, 0.5, 0.5, -2, 0, 1, -0.5, -1.5, -1, 1.5, 2,
    ]
    for (found, wanted) in zip(means, published) { #expect(abs(found - wanted) < 1e-5, "\(means)") }
  }

  @Test("Few earlier frames make one stage, and everything is a candidate") func fewEarlierFramesMakeOneStageAnd() {
    let backend = CPUBackend(threads: 1)
    var random = RandomNumbers()
    let keys = (0..<2).map { _ in random.rows(16, 6) }
    let f = ViewFixture(keys: keys, frames: (0..<8).map { $0 / 2 }, tokens: 2, first: 3, on: backend)
    let queries = backend.upload(Tensor(random.rows(4, 12).flatMap { $0 }, shape: [4, 12]))
    let budget = PageBudget(density: 0.5)
    let a = Hierarchical(keep: 3).plan(queries, over: f.view, budget: budget, at: Self.at(3), on: backend)
    let b = PooledTopK().plan(queries, over: f.view, budget: budget, at: Self.at(3), on: backend)
    #expect(f.reads(a) == f.reads(b), "seed \(random.seed)")
  }

  @Test(
    "Hierarchical selection is the brute-force rule for every head and tile",
    arguments: [(7, 6, 1, 2), (9, 3, 1, 1), (4, 3, 0, 0), (5, 4, 2, 2), (12, 0, 0, 0)])
  func hierarchicalSelectionIsTheBruteForceRule(
    past: Int, keep: Int, sink: Int, near: Int
  ) {
    var random = RandomNumbers()
    let (across, tokens, dim, heads) = (3, 4, 6, 2)
    let pages = (past + 2) * across
    let keys = (0..<heads).map { _ in random.rows(pages * tokens, dim) }
    let queryRows = random.rows(2 * across * tokens, heads * dim)
    for backend in [CPUBackend(threads: 2), ReferenceBackend()] as [any Backend] {
      let f = ViewFixture(keys: keys, frames: (0..<pages).map { $0 / across }, tokens: tokens, first: past, on: backend)
      let queries = backend.upload(Tensor(queryRows.flatMap { $0 }, shape: [queryRows.count, heads * dim]))
      let selector = Hierarchical(keep: keep, sink: sink, near: near)
      let budget = PageBudget(density: 0.3, rounding: .down)
      let reads = f.reads(selector.plan(queries, over: f.view, budget: budget, at: Self.at(4), on: backend))
      let count = min(Int(0.3 * Double(pages)), (keep + 2) * across)
      for head in 0..<heads {
        let means = (0..<pages).map { Self.mean(keys[head][$0 * tokens..<($0 + 1) * tokens]) }
        for tile in 0..<2 * across {
          let q = Self.mean(
            queryRows[tile * tokens..<(tile + 1) * tokens].map { Array($0[head * dim..<(head + 1) * dim]) }[...])
          let middle = (sink..<past - near).map { frame in
            (frame, (0..<across).reduce(0) { $0 + Self.dot(q, means[frame * across + $1]) } / Float(across))
          }
          let kept = Set(Self.best(middle.map { ($0.0, $0.1) }, keep - sink - near))
          let allowed = (0..<pages).filter { page in
            let frame = page / across
            return frame < sink || frame >= past - near || kept.contains(frame)
          }
          let wanted = Self.best(allowed.map { ($0, Self.dot(q, means[$0])) }, count)
          #expect(reads[head][tile] == wanted, "head \(head), tile \(tile), \(backend.name), seed \(random.seed)")
        }
      }
      #expect(selector.pagesRead(of: f.view.census[0], budget: budget) == count)
    }
  }

  @Test("Persistent pages are read by every tile, the others by the best scores of each")
  func persistentPagesAreReadByEveryTile() {
    var random = RandomNumbers()
    let (tokens, dim, heads, pages) = (3, 4, 2, 10)
    let keys = (0..<heads).map { _ in random.rows(pages * tokens, dim) }
    let queryRows = random.rows(2 * tokens, heads * dim)
    let backend = CPUBackend(threads: 2)
    let f = ViewFixture(
      keys: keys, frames: (0..<pages).map { $0 / 2 }, tokens: tokens, first: 4, persistentBefore: 2, on: backend)
    let queries = backend.upload(Tensor(queryRows.flatMap { $0 }, shape: [2 * tokens, heads * dim]))
    let budget = ConstantDensity(0.25).budget(chunk: 4, of: nil)
    let reads = f.reads(PooledTopK().plan(queries, over: f.view, budget: budget, at: Self.at(4), on: backend))
    for head in 0..<heads {
      let means = (0..<pages).map { Self.mean(keys[head][$0 * tokens..<($0 + 1) * tokens]) }
      for tile in 0..<2 {
        let q = Self.mean(
          queryRows[tile * tokens..<(tile + 1) * tokens].map { Array($0[head * dim..<(head + 1) * dim]) }[...])
        let wanted = Array(0..<4) + Self.best((4..<pages).map { ($0, Self.dot(q, means[$0])) }, 2)
        #expect(reads[head][tile] == wanted, "head \(head), tile \(tile), seed \(random.seed)")
      }
    }
    #expect(f.view.census[0] == PageCensus(persistent: 4, past: [2, 2], current: 2))
    #expect(PooledTopK().pagesRead(of: f.view.census[0], budget: budget) == 6)
  }

  @Test("A budget that counts every page lets those that persist compete", arguments: [0.3, 0.5])
  func aBudgetThatCountsEveryPageLetsThose(density: Double) {
    var random = RandomNumbers()
    let (pages, tokens, dim, heads) = (12, 3, 6, 2)
    let keys = (0..<heads).map { _ in random.rows(pages * tokens, dim) }
    let queryRows = random.rows(2 * tokens, heads * dim)
    let backend = CPUBackend(threads: 2)
    let f = ViewFixture(
      keys: keys, frames: (0..<pages).map { $0 / 2 }, tokens: tokens, first: 5, persistentBefore: 2, on: backend)
    let queries = backend.upload(Tensor(queryRows.flatMap { $0 }, shape: [2 * tokens, heads * dim]))
    let budget = PageBudget(density: density, rounding: .down, counted: .all)
    let count = Int(density * Double(pages))
    for selector in [PooledTopK(), Hierarchical(keep: 6)] as [any PageSelector] {
      #expect(selector.pagesRead(of: f.view.census[0], budget: budget) == count)
      let reads = f.reads(selector.plan(queries, over: f.view, budget: budget, at: Self.at(5), on: backend))
      for head in 0..<heads {
        let means = (0..<pages).map { Self.mean(keys[head][$0 * tokens..<($0 + 1) * tokens]) }
        for tile in 0..<2 {
          let q = Self.mean(
            queryRows[tile * tokens..<(tile + 1) * tokens].map { Array($0[head * dim..<(head + 1) * dim]) }[...])
          let wanted = Self.best((0..<pages).map { ($0, Self.dot(q, means[$0])) }, count)
          #expect(reads[head][tile] == wanted, "head \(head), tile \(tile), seed \(random.seed)")
        }
      }
    }
    // Frames are chosen among the local ones; persistent pages stay candidates: 4 of them, a frame of 2, 2 of the chunk.
    let narrow = Hierarchical(keep: 1, sink: 0, near: 0)
    let most = PageBudget(density: 0.9, rounding: .down, counted: .all)
    #expect(narrow.pagesRead(of: f.view.census[0], budget: most) == 8)
    for rows in f.reads(narrow.plan(queries, over: f.view, budget: most, at: Self.at(5), on: backend)) {
      for row in rows { #expect(row.count == 8 && Set(0..<4).union([10, 11]).isSubset(of: row), "\(row)") }
    }
  }

  @Test("Anchors are read by every tile, turn over all earlier pages, and take half of a budget at most")
  func anchorsAreReadByEveryTileTurnOver() {
    var random = RandomNumbers()
    let (pages, tokens, dim, heads, earlier) = (16, 2, 4, 2, 14)
    let backend = CPUBackend(threads: 1)
    let f = ViewFixture(
      keys: (0..<heads).map { _ in random.rows(pages * tokens, dim) }, frames: (0..<pages).map { $0 / 2 },
      tokens: tokens, first: 7, persistentBefore: 3, on: backend)
    let queries = backend.upload(
      Tensor(random.rows(2 * tokens, heads * dim).flatMap { $0 }, shape: [2 * tokens, heads * dim]))
    let budget = PageBudget(density: 0.5, rounding: .down, counted: .all)
    for (asked, k) in [(7, 7), (5, 5), (1, 4)] {
      let anchors = PageAnchors(stride: asked, steps: 4)
      let selector = PooledTopK(anchors: anchors)
      #expect(anchors.stride(earlier: earlier, budget: 8) == k)
      var seen = Set<Int>()
      for step in 0..<k {
        let context = StepContext(chunk: 3 + step / 4, step: step % 4, layer: 0)
        let offset = (context.chunk * 4 + context.step) % k
        let forced = Set((0..<earlier).filter { $0 % k == offset })
        for rows in f.reads(selector.plan(queries, over: f.view, budget: budget, at: context, on: backend)) {
          for row in rows {
            #expect(row.count == 8 && Set(row).count == 8 && forced.isSubset(of: row), "\(row), seed \(random.seed)")
          }
        }
        seen.formUnion(forced)
      }
      #expect(seen == Set(0..<earlier), "stride \(asked)")
    }
    // The clean pass shares the offset of the last step.
    let selector = PooledTopK(anchors: PageAnchors(stride: 7, steps: 4))
    let (last, clean) = (StepContext(chunk: 1, step: 3, layer: 0), StepContext(chunk: 1, step: 4, layer: 0))
    #expect(
      f.reads(selector.plan(queries, over: f.view, budget: budget, at: last, on: backend))
        == f.reads(selector.plan(queries, over: f.view, budget: budget, at: clean, on: backend)))
    #expect(throws: SparsityError.self) { try PageAnchors(stride: 0, steps: 4).check() }
  }

  @Test("A full budget lists every page once, for all tiles together") func aFullBudgetListsEveryPageOnce() {
    let backend = CPUBackend(threads: 1)
    var random = RandomNumbers()
    let f = ViewFixture(
      keys: [random.rows(12, 4)], frames: [0, 0, 1, 1, 2, 2], tokens: 2, first: 2, persistentBefore: 1, on: backend)
    let queries = backend.upload(Tensor(random.rows(4, 4).flatMap { $0 }, shape: [4, 4]))
    for selector in [AllPages(), PooledTopK(), Hierarchical()] as [any PageSelector] {
      let lists = selector.plan(
        queries, over: f.view, budget: PageBudget(density: 1), at: Self.at(2), on: backend)
      #expect(lists.perTile == nil && f.reads(lists) == [[Array(0..<6), Array(0..<6)]])
    }
  }

  @Test("Impossible hierarchies are refused") func impossibleHierarchiesAreRefused() throws {
    let flat = try PageGeometry(rows: 10, columns: 16)
    let deep = try PageGeometry(rows: 10, columns: 16, tile: PageTile(frames: 3, rows: 5, columns: 4))
    #expect(throws: Never.self) { try Hierarchical().check(geometry: flat) }
    #expect(throws: SparsityError.recipe("3 sink and 4 near frames are not among 6 kept ones; the least is 7")) {
      try Hierarchical(keep: 6, sink: 3, near: 4).check(geometry: flat)
    }
    #expect(throws: SparsityError.self) { try Hierarchical(keep: 6, sink: -1).check(geometry: flat) }
    #expect(
      throws: SparsityError.tile("selection by frames needs pages inside one frame, not tiles of 3x5x4", "5x8")
    ) { try Hierarchical().check(geometry: deep) }
  }
}
