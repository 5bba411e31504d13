import Compute
import Tensors
import Testing

/// The operations that selectors compose, against their naive versions and against plain sorting.
@Suite struct PageSelectionTests {
  @Test(
    "Statistics, tile means, scores and masses agree with the reference",
    arguments: [(2, 16, 12, 5), (1, 128, 60, 3), (3, 34, 7, 20), (2, 22, 64, 2)])
  func statisticsTileMeansScoresAndMassesAgree(
    heads: Int, dim: Int, tokens: Int, pages: Int
  ) {
    var random = RandomTensors()
    let f = PageFixture(&random, heads: heads, dim: dim, tokens: tokens, pages: pages)
    let queries = random.tensor(41, heads * dim)
    let (reference, one, three) = onEachBackend { backend in
      let pool = f.pool(on: backend)
      let list = (0..<heads).flatMap { head -> [Int32] in
        [f.slot(head, pages - 1), -1] + (0..<pages - 1).map { f.slot(head, $0) }
      }
      let slots = backend.upload(indices: list, shape: [heads, pages + 1])
      let statistics = backend.pageStatistics(of: pool, layer: 1, slots: slots)
      let means = backend.tileMeans(backend.upload(queries), tiles: RowTiles(offsets: [0, 17, 18, 41]), heads: heads)
      let scores = backend.pageScores(means, pool: pool, layer: 1, slots: slots, scale: 0.7)
      let groups = (0..<heads).flatMap { head in (0..<pages + 1).map { Int32(($0 + head) % 4 - 1) } }
      let group = backend.upload(indices: groups, shape: [heads, pages + 1])
      return [
        statistics.meanKeys, statistics.meanValues, statistics.counts, statistics.dispersion, means, scores,
        backend.pageMass(scores), backend.groupMeans(scores, groups: group, count: 5),
      ]
    }
    let names = ["mean keys", "mean values", "counts", "dispersion", "tile means", "scores", "masses", "group means"]
    for (i, name) in names.enumerated() {
      #expect(agree(one[i], reference[i], 5e-6), "\(name), seed \(random.seed)")
      #expect(one[i].floats() == three[i].floats(), "\(name) depend on threads, seed \(random.seed)")
    }
    // The pooled masses of a head add up to its tiles.
    let mass = one[6].floats()
    for head in 0..<heads {
      let sum = mass[head * (pages + 1)..<(head + 1) * (pages + 1)].reduce(0, +)
      #expect(abs(sum - 3) < 1e-5)
    }
  }

  @Test("Listed pages are counted, padding and tail apart", arguments: [(1, 1, 1, 0), (3, 5, 2, 4), (2, 7, 0, 9)])
  func listedPagesAreCountedPaddingAndTail(heads: Int, tiles: Int, shared: Int, own: Int) {
    var random = RandomTensors()
    let common = (0..<heads * shared).map { _ in Int32(random.integer(0...5)) - 1 }
    let rest = (0..<heads * tiles * own).map { _ in Int32(random.integer(0...3)) - 1 }
    let (reference, one, three) = onEachBackend { backend in
      [
        backend.listedPages(
          PageLists(
            shared: backend.upload(indices: common, shape: [heads, shared]),
            perTile: own == 0 ? nil : backend.upload(indices: rest, shape: [heads, tiles, own]),
            tail: backend.upload(indices: [Int32](repeating: 1, count: heads), shape: [heads, 1])), tiles: tiles)
      ]
    }
    let wanted = (0..<heads).map { head in
      Float(
        tiles * common[head * shared..<(head + 1) * shared].count { $0 >= 0 }
          + rest[head * tiles * own..<(head + 1) * tiles * own].count { $0 >= 0 })
    }
    #expect(one[0].floats() == wanted && one[0].shape == [heads], "seed \(random.seed)")
    #expect(reference[0].floats() == wanted && three[0].floats() == wanted, "seed \(random.seed)")
  }

  @Test("A slot that is written again has the statistics of its last page") func aSlotThatIsWrittenAgainHas() {
    var random = RandomTensors()
    let f = PageFixture(&random, heads: 2, dim: 12, tokens: 9, pages: 1, spare: 0)
    let short = (random.tensor(2, 24), random.tensor(2, 24))
    let (reference, one, _) = onEachBackend { backend in
      let pool = f.pool(on: backend)
      let slots = backend.upload(indices: [0, 0], shape: [2, 1])
      backend.writePages(
        keys: backend.upload(short.0), keyNorm: backend.upload(f.norm), epsilon: 1e-6,
        rotary: Rotary(
          cosines: backend.slice(backend.upload(f.angles.0), 0..<2),
          sines: backend.slice(backend.upload(f.angles.1), 0..<2), headDim: 12),
        values: backend.upload(short.1), to: pool, layer: 1, tiles: RowTiles(rows: 2, tokens: 9), slots: slots)
      let s = backend.pageStatistics(of: pool, layer: 1, slots: slots)
      return [s.meanKeys, s.meanValues, s.counts, s.dispersion]
    }
    for i in 0..<4 { #expect(agree(one[i], reference[i], 2e-6), "\(i), seed \(random.seed)") }
    #expect(one[2].floats() == [2, 2])
  }

  @Test("A repositioned page has the mean of its keys as they are read now") func aRepositionedPageHasTheMeanOf() {
    var random = RandomTensors()
    let layout = PagePoolLayout(
      layers: 1, heads: 1, headDim: 8, slots: 1, tokensPerPage: 6, tokensPerFrame: 3, temporalChannels: 4)
    let (keys, values, norm) = (random.tensor(6, 8), random.tensor(6, 8), random.tensor(8))
    let (cos, sin) = (random.tensor(6, 4), random.tensor(6, 4))
    let (tableCos, tableSin) = (random.tensor(9, 2), random.tensor(9, 2))
    let (reference, one, _) = onEachBackend { backend in
      let pool = backend.makePagePool(layout)
      let slots = backend.upload(indices: [0], shape: [1, 1])
      backend.writePages(
        keys: backend.upload(keys), keyNorm: backend.upload(norm), epsilon: 1e-6,
        rotary: Rotary(cosines: backend.upload(cos), sines: backend.upload(sin), headDim: 8),
        values: backend.upload(values), to: pool, layer: 0, tiles: RowTiles(rows: 6, tokens: 6), slots: slots)
      let before = backend.pageStatistics(of: pool, layer: 0, slots: slots)
      backend.repositionPages(
        in: pool, layer: 0, slots: slots, positions: backend.upload(indices: [5], shape: [1, 1]),
        table: Rotary(cosines: backend.upload(tableCos), sines: backend.upload(tableSin), headDim: 4))
      let after = backend.pageStatistics(of: pool, layer: 0, slots: slots)
      return [before.meanKeys, after.meanKeys, after.dispersion, after.meanValues]
    }
    for i in 0..<4 { #expect(agree(one[i], reference[i], 2e-6), "\(i), seed \(random.seed)") }
    #expect(distance(one[1], one[0]) > 1e-3)
  }

  @Test(
    "The top pages are those of a stable sort, with ties, padding and forced pages", arguments: [1, 2, 12, 100, 557])
  func theTopPagesAreThoseOfA(n: Int) {
    var random = RandomTensors()
    let (heads, tiles) = (2, 5)
    var scores = random.tensor(heads, tiles, n).floats()
    // Ties, zeros of both signs, excluded pages.
    for i in scores.indices {
      switch random.integer(0...5) {
      case 0: scores[i] = 0.25
      case 1: scores[i] = random.integer(0...1) == 0 ? 0 : -0.0
      case 2: scores[i] = -.infinity
      default: break
      }
    }
    let slots = (0..<heads * n).map { _ in random.integer(0...7) == 0 ? -1 : Int32(random.integer(0...5000)) }
    let forced = (0..<heads * n).map { _ in Int32(random.integer(0...9) == 0 ? 1 : 0) }
    for k in Set([0, 1, n / 4, n / 2 + 1, n, n + 3]) {
      func choose(_ backend: any Backend) -> [[Int32]] {
        let x = backend.upload(Tensor(scores, shape: [heads, tiles, n]))
        let s = backend.upload(indices: slots, shape: [heads, n])
        let f = backend.upload(indices: forced, shape: [heads, n])
        return [(nil, nil), (s, nil), (nil, f), (s, f)].map { slots, forced in
          let top = backend.topPages(x, count: k, slots: slots, forced: forced)
          #expect(top.shape == [heads, tiles, k])
          return backend.download(top)
        }
      }
      let (reference, one, three) = (
        choose(ReferenceBackend()), choose(CPUBackend(threads: 1)), choose(CPUBackend(threads: 3))
      )
      #expect(one == reference && three == one, "the \(k) best of \(n), seed \(random.seed)")
    }
  }

  @Test("A score that is not a number is read and not lost") func aScoreThatIsNotANumber() {
    let backend = CPUBackend(threads: 1)
    let scores = Tensor([1, 2, .nan, 3], shape: [1, 1, 4])
    let top = backend.topPages(backend.upload(scores), count: 2, slots: nil, forced: nil)
    #expect(backend.download(top) == [2, 3])
  }

  @Test("Only the pages of kept groups and those of no group remain") func onlyThePagesOfKeptGroupsAnd() {
    var random = RandomTensors()
    let scores = random.tensor(2, 3, 6)
    let groups: [Int32] = [-1, 0, 0, 1, 2, -1, 2, 2, -1, 1, 0, 0]
    let kept: [Int32] = [0, -1, 1, 2, -1, -1, 2, 1, 0, -1, 2, 0]
    let (reference, one, _) = onEachBackend { backend in
      [
        backend.keepGroups(
          backend.upload(scores), groups: backend.upload(indices: groups, shape: [2, 6]),
          kept: backend.upload(indices: kept, shape: [2, 3, 2]))
      ]
    }
    #expect(one[0].floats() == reference[0].floats())
    let row = one[0].floats()[..<6]
    #expect(row.map { $0 > -.infinity } == [true, true, true, false, false, true])
  }
}
