import Compute
import Tensors
import Testing

@Suite struct PagedAttentionTests {
  /// A chunk of random keys and values in a pool, read by lists that differ per head and tile.
  @Test(
    "Paged attention over arbitrary lists agrees with the reference",
    arguments: [(3, 40, 128, 163), (2, 60, 12, 61), (1, 7, 34, 20), (2, 64, 16, 128)])
  func pagedAttentionOverArbitraryListsAgreesWith(
    heads: Int, tokens: Int, dim: Int, rows: Int
  ) {
    var random = RandomTensors()
    let width = heads * dim
    let pages = (rows + tokens - 1) / tokens
    let layout = PagePoolLayout(layers: 2, heads: heads, headDim: dim, slots: 2 * pages + 1, tokensPerPage: tokens)
    let (keys, values, norm) = (random.tensor(rows, width), random.tensor(rows, width), random.tensor(width))
    let (older, queries) = (random.tensor(rows, width), random.tensor(50, width))
    let angles = (random.tensor(rows, dim / 2), random.tensor(rows, dim / 2))
    // Each head puts its pages elsewhere.
    let slots = (0..<heads).flatMap { head in (0..<pages).map { Int32(($0 * 2 + head) % (2 * pages + 1)) } }
    let others = (0..<heads).flatMap { head in (0..<pages).map { Int32(($0 * 2 + head + 1) % (2 * pages + 1)) } }
    let tile = 16
    let tiles = (50 + tile - 1) / tile
    var (shared, own) = ([Int32](), [Int32]())
    for h in 0..<heads {
      shared += [slots[h * pages], -1]
      for t in 0..<tiles {
        own += [others[h * pages + t % pages], -1, pages > 1 ? slots[h * pages + pages - 1] : -1]
      }
    }
    let (reference, one, three) = onEachBackend { backend in
      let pool = backend.makePagePool(layout)
      let rotary = Rotary(cosines: backend.upload(angles.0), sines: backend.upload(angles.1), headDim: dim)
      for (rows, list) in [(keys, slots), (older, others)] {
        backend.writePages(
          keys: backend.upload(rows), keyNorm: backend.upload(norm), epsilon: 1e-6, rotary: rotary,
          values: backend.upload(values), to: pool, layer: 1, tiles: RowTiles(rows: keys.shape[0], tokens: tokens),
          slots: backend.upload(indices: list, shape: [heads, pages]))
      }
      let lists = [
        PageLists(shared: backend.upload(indices: slots, shape: [heads, pages])),
        PageLists(
          shared: backend.upload(indices: shared, shape: [heads, 2]),
          perTile: backend.upload(indices: own, shape: [heads, tiles, 3])),
      ]
      return lists.map {
        backend.attend(
          backend.upload(queries), tiles: RowTiles(rows: 50, tokens: tile), pool: pool, layer: 1, lists: $0, scale: 0.4,
          answers: []
        ).output
      }
    }
    for i in reference.indices {
      let error = distance(one[i], reference[i])
      #expect(error < 5e-6, "list \(i): relative error \(error), seed \(random.seed)")
      #expect(one[i].floats() == three[i].floats())
    }
  }

  @Test("Reading all pages equals dense attention over the same keys") func readingAllPagesEqualsDenseAttentionOver() {
    var random = RandomTensors()
    let (heads, dim, rows) = (2, 24, 90)
    let (keys, values, queries) = (
      random.tensor(rows, heads * dim), random.tensor(rows, heads * dim), random.tensor(31, heads * dim)
    )
    let ones = Tensor([Float](repeating: 1, count: heads * dim), shape: [heads * dim])
    let still = (
      Tensor([Float](repeating: 1, count: rows * dim / 2), shape: [rows, dim / 2]),
      Tensor([Float](repeating: 0, count: rows * dim / 2), shape: [rows, dim / 2])
    )
    let backend = CPUBackend(threads: 2)
    let pool = backend.makePagePool(PagePoolLayout(layers: 1, heads: heads, headDim: dim, slots: 3, tokensPerPage: 40))
    let slots = backend.upload(indices: [2, 0, 1, 0, 1, 2], shape: [heads, 3])
    backend.writePages(
      keys: backend.upload(keys), keyNorm: backend.upload(ones), epsilon: 1e-6,
      rotary: Rotary(cosines: backend.upload(still.0), sines: backend.upload(still.1), headDim: dim),
      values: backend.upload(values), to: pool, layer: 0, tiles: RowTiles(rows: rows, tokens: 40), slots: slots)
    let paged = backend.attend(
      backend.upload(queries), tiles: RowTiles(rows: 31, tokens: 40), pool: pool, layer: 0,
      lists: PageLists(shared: slots), scale: 0.2, answers: []
    ).output
    let normed = backend.rmsNorm(backend.upload(keys), epsilon: 1e-6, weight: backend.upload(ones), rotary: nil)
    let dense = backend.attention(
      queries: backend.upload(queries), keys: normed, values: backend.upload(values), heads: heads, scale: 0.2,
      bias: .none)
    let error = distance(backend.download(paged), backend.download(dense))
    #expect(error < 1e-6, "relative error \(error), seed \(random.seed)")
  }

  @Test("Repositioned pages read as if they had been written at the new position")
  func repositionedPagesReadAsIfTheyHad() {
    var random = RandomTensors()
    // Tiles of two frames and three tokens; of the 12 channels, the first 4 turn with time.
    let (heads, dim, temporal, rows) = (2, 12, 4, 12)
    let (keys, values, queries, norm) = (
      random.tensor(rows, heads * dim), random.tensor(rows, heads * dim), random.tensor(6, heads * dim),
      random.tensor(heads * dim)
    )
    let layout = PagePoolLayout(
      layers: 1, heads: heads, headDim: dim, slots: 2, tokensPerPage: 6, tokensPerFrame: 3, temporalChannels: temporal)
    /// Angles of row r when its page's first frame is at `position`: time for the first pairs, a constant for the others.
    func rotary(_ backend: any Backend, first: [Float]) -> Rotary {
      var angles = [Float]()
      for r in 0..<rows {
        let frame = first[r / 6] + Float(r % 6 / 3)
        for p in 0..<dim / 2 { angles.append(p < temporal / 2 ? frame / Float(p + 1) : 0.1 * Float(p * r)) }
      }
      return Rotary(
        cosines: backend.upload(Tensor(angles.map { Float(Double($0).cosine) }, shape: [rows, dim / 2])),
        sines: backend.upload(Tensor(angles.map { Float(Double($0).sine) }, shape: [rows, dim / 2])), headDim: dim)
    }
    for backend in [CPUBackend(threads: 2), ReferenceBackend()] as [any Backend] {
      let slots = backend.upload(indices: [0, 1, 1, 0], shape: [heads, 2])
      func read(written: [Float], moved: Bool) -> Tensor {
        let pool = backend.makePagePool(layout)
        backend.writePages(
          keys: backend.upload(keys), keyNorm: backend.upload(norm), epsilon: 1e-6,
          rotary: rotary(backend, first: written), values: backend.upload(values), to: pool, layer: 0,
          tiles: RowTiles(rows: rows, tokens: 6), slots: slots)
        if moved {
          let table = (0..<8).flatMap { row in (0..<temporal / 2).map { Float(row) / Float($0 + 1) } }
          backend.repositionPages(
            in: pool, layer: 0, slots: slots, positions: backend.upload(indices: [3, 0, 3, 0], shape: [heads, 2]),
            table: Rotary(
              cosines: backend.upload(Tensor(table.map { Float(Double($0).cosine) }, shape: [8, temporal / 2])),
              sines: backend.upload(Tensor(table.map { Float(Double($0).sine) }, shape: [8, temporal / 2])),
              headDim: temporal))
        }
        return backend.download(
          backend.attend(
            backend.upload(queries), tiles: RowTiles(rows: 6, tokens: 6), pool: pool, layer: 0,
            lists: PageLists(shared: slots), scale: 1, answers: []
          ).output)
      }
      let error = distance(read(written: [17, 400], moved: true), read(written: [3, 0], moved: false))
      #expect(error < 2e-6, "relative error \(error), seed \(random.seed)")
      #expect(distance(read(written: [17, 400], moved: false), read(written: [3, 0], moved: false)) > 1e-3)
    }
  }

  @Test("Tiles of any length make pages, as in a frame group that is cut short") func tilesOfAnyLengthMakePagesAs() {
    var random = RandomTensors()
    let (heads, dim, offsets) = (2, 16, [0, 12, 24, 28, 32, 33])
    let (keys, values, queries, ones) = (
      random.tensor(33, heads * dim), random.tensor(33, heads * dim), random.tensor(33, heads * dim),
      Tensor([Float](repeating: 1, count: heads * dim), shape: [heads * dim])
    )
    let angles = (random.tensor(33, dim / 2), random.tensor(33, dim / 2))
    let layout = PagePoolLayout(layers: 1, heads: heads, headDim: dim, slots: 5, tokensPerPage: 12)
    let slots: [Int32] = [4, 3, 2, 1, 0, 0, 1, 2, 3, 4]
    let (reference, one, three) = onEachBackend { backend in
      let pool = backend.makePagePool(layout)
      let tiles = RowTiles(offsets: offsets)
      let list = backend.upload(indices: slots, shape: [heads, 5])
      backend.writePages(
        keys: backend.upload(keys), keyNorm: backend.upload(ones), epsilon: 1e-6,
        rotary: Rotary(cosines: backend.upload(angles.0), sines: backend.upload(angles.1), headDim: dim),
        values: backend.upload(values), to: pool, layer: 0, tiles: tiles, slots: list)
      return [
        backend.attend(
          backend.upload(queries), tiles: tiles, pool: pool, layer: 0, lists: PageLists(shared: list), scale: 1,
          answers: []
        ).output
      ]
    }
    #expect(distance(one[0], reference[0]) < 5e-6, "seed \(random.seed)")
    #expect(one[0].floats() == three[0].floats())
  }
}
