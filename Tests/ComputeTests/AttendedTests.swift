import Compute
import Tensors
import Testing

/// What paged attention answers beside its output, and the rows that stand for skipped pages.
@Suite struct AttendedTests {
  /// Lists per tile with padding, one tile that reads only shared pages, one head whose shared list is empty.
  private static func lists(_ f: PageFixture, tiles: Int, on backend: any Backend, tail: Bool) -> PageLists {
    var (shared, own) = ([Int32](), [Int32]())
    for head in 0..<f.heads {
      shared += head == 0 ? [-1, -1] : [-1, f.slot(head, 0)]
      for tile in 0..<tiles {
        own += tile == 1 ? [-1, -1, -1] : [f.slot(head, 1 + tile % (f.pages - 1)), -1, -1]
      }
    }
    let all = (0..<f.heads).flatMap { head -> [Int32] in (0..<f.pages).map { f.slot(head, $0) } + [-1] }
    return PageLists(
      shared: backend.upload(indices: shared, shape: [f.heads, 2]),
      perTile: backend.upload(indices: own, shape: [f.heads, tiles, 3]),
      tail: tail ? backend.upload(indices: all, shape: [f.heads, f.pages + 1]) : nil)
  }

  @Test(
    "Output, log-sum-exp and masses agree with the reference, with and without a tail",
    arguments: [(2, 16, 12, 5), (1, 128, 60, 3), (3, 34, 7, 20), (2, 22, 64, 2), (2, 10, 16, 67)])
  func outputLogSumExpAndMassesAgree(
    heads: Int, dim: Int, tokens: Int, pages: Int
  ) {
    var random = RandomTensors()
    let f = PageFixture(&random, heads: heads, dim: dim, tokens: tokens, pages: pages)
    let (rows, tile) = (37, 14)
    let queries = random.tensor(rows, heads * dim)
    for tail in [false, true] {
      let (reference, one, three) = onEachBackend { backend in
        let pool = f.pool(on: backend)
        let tiles = RowTiles(rows: rows, tokens: tile)
        let answer = backend.attend(
          backend.upload(queries), tiles: tiles, pool: pool, layer: 1,
          lists: Self.lists(f, tiles: tiles.count, on: backend, tail: tail), scale: 0.3, answers: [.logSumExp, .mass])
        let bare = backend.attend(
          backend.upload(queries), tiles: tiles, pool: pool, layer: 1,
          lists: Self.lists(f, tiles: tiles.count, on: backend, tail: tail), scale: 0.3, answers: [])
        #expect(bare.logSumExp == nil && bare.mass == nil)
        return [answer.output, answer.logSumExp, answer.mass, bare.output].compactMap { $0 }
      }
      #expect(reference.count == 4)
      for (i, name) in ["output", "log-sum-exp", "mass", "output alone"].enumerated() {
        #expect(
          agree(one[i], reference[i], 2e-5),
          "\(name), tail \(tail): \(one[i].floats().prefix(8)) for \(reference[i].floats().prefix(8)), seed \(random.seed)"
        )
        #expect(one[i].floats() == three[i].floats(), "\(name) depends on threads, seed \(random.seed)")
      }
      #expect(one[0].floats() == one[3].floats(), "asking for more changes the output")
      // Rows 14 to 27 of head 0 read nothing without a tail.
      let unread = one[1].floats()[14..<28]
      #expect(unread.allSatisfy { ($0 == -.infinity) == !tail })
      // Where something is read, a head's masses add up to its rows.
      let slots = f.layout.slots
      for head in 0..<heads {
        let sum = one[2].floats()[head * slots..<(head + 1) * slots].reduce(0, +)
        let wanted = Float(head == 0 && !tail ? rows - 14 : rows)
        #expect(abs(sum - wanted) < 1e-3, "head \(head): masses add up to \(sum), not \(wanted)")
      }
    }
  }

  @Test("The tail is exact when keys and values are constant inside skipped pages") func theTailIsExactWhenKeysAnd() {
    var random = RandomTensors()
    let f = PageFixture(&random, heads: 2, dim: 24, tokens: 11, pages: 9)
    // All rows of a page alike, the rotation included, but for page 0, which is read.
    var (keys, values) = (f.keys.floats(), f.values.floats())
    let width = 48
    for page in 1..<9 {
      let first = f.tiles[page].lowerBound
      for row in f.tiles[page] {
        for c in 0..<width {
          keys[row * width + c] = keys[first * width + c]
          values[row * width + c] = values[first * width + c]
        }
      }
    }
    let still = (
      Tensor([Float](repeating: 1, count: f.tiles.rows * 12), shape: [f.tiles.rows, 12]),
      Tensor([Float](repeating: 0, count: f.tiles.rows * 12), shape: [f.tiles.rows, 12])
    )
    let queries = random.tensor(20, width)
    for backend in [CPUBackend(threads: 2), ReferenceBackend()] as [any Backend] {
      let pool = backend.makePagePool(f.layout)
      backend.writePages(
        keys: backend.upload(Tensor(keys, shape: f.keys.shape)), keyNorm: backend.upload(f.norm), epsilon: 1e-6,
        rotary: Rotary(cosines: backend.upload(still.0), sines: backend.upload(still.1), headDim: 24),
        values: backend.upload(Tensor(values, shape: f.values.shape)), to: pool, layer: 1, tiles: f.tiles,
        slots: backend.upload(indices: f.slots, shape: [2, 9]))
      let everything = backend.upload(indices: f.slots, shape: [2, 9])
      let first = backend.upload(indices: [f.slot(0, 0), f.slot(1, 0)], shape: [2, 1])
      func read(_ lists: PageLists) -> Attended {
        backend.attend(
          backend.upload(queries), tiles: RowTiles(rows: 20, tokens: 8), pool: pool, layer: 1, lists: lists, scale: 0.5,
          answers: [.logSumExp, .mass])
      }
      let dense = read(PageLists(shared: everything))
      let tail = read(PageLists(shared: first, tail: everything))
      let drop = read(PageLists(shared: first))
      func error(_ a: DeviceTensor, _ b: DeviceTensor) -> Double { distance(backend.download(a), backend.download(b)) }
      #expect(error(tail.output, dense.output) < 2e-6, "seed \(random.seed)")
      if let a = tail.logSumExp, let b = dense.logSumExp { #expect(error(a, b) < 2e-6) }
      if let a = tail.mass, let b = dense.mass { #expect(error(a, b) < 1e-5) }
      #expect(error(drop.output, dense.output) > 0.05)
    }
  }

  @Test("Parts of the memory merge by log-sum-exp to the whole") func partsOfTheMemoryMergeByLog() throws {
    var random = RandomTensors()
    let f = PageFixture(&random, heads: 2, dim: 16, tokens: 8, pages: 6)
    let queries = random.tensor(12, 32)
    let backend = CPUBackend(threads: 1)
    let pool = f.pool(on: backend)
    func read(_ pages: Range<Int>) throws -> ([Float], [Float]) {
      let slots = (0..<2).flatMap { head in pages.map { f.slot(head, $0) } }
      let answer = backend.attend(
        backend.upload(queries), tiles: RowTiles(rows: 12, tokens: 5), pool: pool, layer: 1,
        lists: PageLists(shared: backend.upload(indices: slots, shape: [2, pages.count])), scale: 0.4,
        answers: .logSumExp)
      return (backend.download(answer.output).floats(), backend.download(try #require(answer.logSumExp)).floats())
    }
    let (whole, a, b) = (try read(0..<6), try read(0..<2), try read(2..<6))
    for head in 0..<2 {
      for row in 0..<12 {
        let (x, y) = (Double(a.1[head * 12 + row]), Double(b.1[head * 12 + row]))
        let weight = 1 / (1 + (y - x).exponential)
        for d in 0..<16 {
          let i = row * 32 + head * 16 + d
          let merged = weight * Double(a.0[i]) + (1 - weight) * Double(b.0[i])
          #expect(abs(merged - Double(whole.0[i])) < 1e-5, "seed \(random.seed)")
        }
      }
    }
  }
}
