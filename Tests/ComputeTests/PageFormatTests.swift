import Compute
import Tensors
import Testing

/// Pages in bf16 and int8: how far they are from float32, and what must stay exact.
@Suite struct PageFormatTests {
  /// What the rounding of keys and values costs at logits of about one: 2^-9 twice and in the logits, or steps of 1/127.
  private static func tolerance(_ format: PageFormat) -> Double {
    switch format {
    case .f32: 5e-6
    case .bf16: 6e-3
    case .int8: 3e-2
    }
  }

  @Test(
    "Output, log-sum-exp and masses agree with the reference in every format, whatever the threads",
    arguments: PageFormat.allCases, [(2, 128, 60, 5), (1, 128, 40, 9), (3, 34, 7, 20), (2, 10, 64, 3), (1, 66, 33, 4)])
  func outputsAgreeWithTheReference(format: PageFormat, shape: (heads: Int, dim: Int, tokens: Int, pages: Int)) {
    var random = RandomTensors()
    let f = PageFixture(&random, heads: shape.heads, dim: shape.dim, tokens: shape.tokens, pages: shape.pages)
    let (rows, tile) = (53, 20)
    let queries = random.tensor(rows, shape.heads * shape.dim)
    let shared = (0..<shape.heads).flatMap { head -> [Int32] in [f.slot(head, 0), -1] }
    let tail = (0..<shape.heads).flatMap { head -> [Int32] in (0..<f.pages).map { f.slot(head, $0) } + [-1] }
    for withTail in [false, true] {
      func run(_ backend: any Backend) -> [Tensor] {
        let pool = f.pool(on: backend)
        let tiles = RowTiles(rows: rows, tokens: tile)
        let own = (0..<shape.heads).flatMap { head -> [Int32] in
          (0..<tiles.count).flatMap { tile -> [Int32] in [f.slot(head, 1 + tile % (f.pages - 1)), -1] }
        }
        let lists = PageLists(
          shared: backend.upload(indices: shared, shape: [shape.heads, 2]),
          perTile: backend.upload(indices: own, shape: [shape.heads, tiles.count, 2]),
          tail: withTail ? backend.upload(indices: tail, shape: [shape.heads, f.pages + 1]) : nil)
        let answer = backend.attend(
          backend.upload(queries), tiles: tiles, pool: pool, layer: 1, lists: lists,
          scale: 0.4 / Float(shape.dim).squareRoot(), answers: [.logSumExp, .mass])
        return [answer.output, answer.logSumExp, answer.mass].compactMap { $0 }.map(backend.download)
      }
      let reference = run(ReferenceBackend())
      let one = run(CPUBackend(threads: 1, pages: format))
      let three = run(CPUBackend(threads: 3, pages: format))
      #expect(reference.count == 3 && one.count == 3)
      for (i, name) in ["output", "log-sum-exp", "mass"].enumerated() {
        let error = distance(one[i], reference[i])
        #expect(error < Self.tolerance(format), "\(name), tail \(withTail): \(error), seed \(random.seed)")
        #expect(one[i].floats() == three[i].floats(), "\(name) depends on threads, seed \(random.seed)")
      }
    }
  }

  @Test("On numbers that bf16 holds, attention is within 2e-3 of float32", arguments: [(60, 200), (61, 64), (7, 1000)])
  func attentionIsExactButForItsWeights(rows: Int, keys: Int) {
    var random = RandomTensors()
    let (heads, dim) = (2, 128)
    func representable(_ rows: Int) -> Tensor {
      let numbers = random.tensor(rows, heads * dim).floats()
      return Tensor(numbers.map { Float(bitPattern: $0.bitPattern & 0xFFFF_0000) }, shape: [rows, heads * dim])
    }
    let (queries, k, v) = (representable(rows), representable(keys), representable(keys))
    func run(_ backend: any Backend) -> Tensor {
      backend.download(
        backend.attention(
          queries: backend.upload(queries), keys: backend.upload(k), values: backend.upload(v), heads: heads,
          scale: 1 / Float(dim).squareRoot(), bias: .none))
    }
    let error = distance(run(CPUBackend(threads: 2, pages: .bf16)), run(ReferenceBackend()))
    #expect(error < 2e-3, "relative error \(error), seed \(random.seed)")
  }

  @Test("Logits that run away from page to page keep their weights", arguments: PageFormat.allCases)
  func logitsThatRunAwayKeepTheirWeights(format: PageFormat) {
    // Page p has keys of length about 4p in one direction, so that each page outweighs all before it by far.
    var random = RandomTensors()
    let (dim, tokens, pages) = (32, 10, 9)
    let keys = Tensor(
      (0..<pages * tokens * dim).map { i in
        let (page, channel) = (i / (tokens * dim), i % dim)
        return channel == 0 ? Float(4 * (page * 5 % pages)) + 0.25 * Float(i / dim % 3) : 0
      }, shape: [pages * tokens, dim])
    let values = random.tensor(pages * tokens, dim)
    let queries = Tensor((0..<7 * dim).map { $0 % dim == 0 ? Float(1 + $0 / dim) : 0 }, shape: [7, dim])
    func run(_ backend: any Backend) -> Tensor {
      backend.download(
        backend.attention(
          queries: backend.upload(queries), keys: backend.upload(keys), values: backend.upload(values), heads: 1,
          scale: 1, bias: .none))
    }
    let error = distance(run(CPUBackend(threads: 1, pages: format)), run(ReferenceBackend()))
    #expect(error < (format == .f32 ? 5e-6 : 5e-3), "relative error \(error), seed \(random.seed)")
  }

  @Test("A page that was moved often reads as one that was moved once", arguments: PageFormat.allCases)
  func movingOftenIsMovingOnce(format: PageFormat) {
    var random = RandomTensors()
    let (heads, dim, temporal, tokens) = (2, 24, 8, 12)
    let layout = PagePoolLayout(
      layers: 1, heads: heads, headDim: dim, slots: 2, tokensPerPage: tokens, tokensPerFrame: 4,
      temporalChannels: temporal)
    let backend = CPUBackend(threads: 2, pages: format)
    let slots = backend.upload(indices: [0, 1, 1, 0], shape: [heads, 2])
    let angles = (random.tensor(2 * tokens, dim / 2), random.tensor(2 * tokens, dim / 2))
    let table = (random.tensor(40, temporal / 2), random.tensor(40, temporal / 2))
    let (keys, values, norm, queries) = (
      random.tensor(2 * tokens, heads * dim), random.tensor(2 * tokens, heads * dim), random.tensor(heads * dim),
      random.tensor(tokens, heads * dim)
    )
    func read(_ moves: [Int32]) -> [Float] {
      let pool = backend.makePagePool(layout)
      backend.writePages(
        keys: backend.upload(keys), keyNorm: backend.upload(norm), epsilon: 1e-6,
        rotary: Rotary(cosines: backend.upload(angles.0), sines: backend.upload(angles.1), headDim: dim),
        values: backend.upload(values), to: pool, layer: 0, tiles: RowTiles(rows: 2 * tokens, tokens: tokens),
        slots: slots)
      for move in moves {
        backend.repositionPages(
          in: pool, layer: 0, slots: slots,
          positions: backend.upload(indices: [move, move + 1, move, move + 1], shape: [heads, 2]),
          table: Rotary(cosines: backend.upload(table.0), sines: backend.upload(table.1), headDim: temporal))
      }
      let answer = backend.attend(
        backend.upload(queries), tiles: RowTiles(rows: tokens, tokens: 5), pool: pool, layer: 0,
        lists: PageLists(shared: slots, tail: slots), scale: 0.3, answers: .mass)
      let statistics = backend.pageStatistics(of: pool, layer: 0, slots: slots)
      return [answer.output, answer.mass, statistics.meanKeys, statistics.dispersion].compactMap { $0 }
        .flatMap { backend.download($0).floats() }
    }
    #expect(read([3, 17, 0, 30, 5, 11]) == read([11]), "seed \(random.seed)")
    #expect(read([3]) != read([11]))
  }

  @Test("bf16 halves a pool and int8 quarters it, but for what is kept in float32") func formatsSaveMemory() {
    func bytes(_ format: PageFormat, temporal: Int = 0) -> Int {
      CPUBackend(threads: 1, pages: format).makePagePool(
        PagePoolLayout(
          layers: 2, heads: 3, headDim: 128, slots: 40, tokensPerPage: 60, temporalChannels: temporal)
      ).bytes
    }
    let pages = 2 * 3 * 40
    let statistics = pages * (4 + 4 * (2 * 128 + 16))
    // Keys of 60 tokens take up 64; values 60.
    #expect(bytes(.f32) == pages * 4 * 128 * 124 + statistics)
    #expect(bytes(.bf16) == pages * 2 * 128 * 124 + statistics)
    // Means in bf16 and a step, a sum for each of 64 tokens, and a step for each token's value, in whole cache lines.
    #expect(bytes(.int8) == pages * (128 * 64 + 2 * 128 + 64 + 4 * 64 + 128 * 60 + 256) + statistics)
    #expect(bytes(.bf16, temporal: 44) == bytes(.bf16) + pages * 60 * 44 * 4)
  }
}
