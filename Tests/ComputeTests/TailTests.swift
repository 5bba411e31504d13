import Compute
import Tensors
import Testing

/// Lists and tails in any order, and the tail as rows of one softmax (docs/invariants.md).
@Suite struct TailTests {
  private let heads = 2
  private let dim = 16

  private struct Setup {
    let fixture: PageFixture
    let queries: Tensor
    let seed: UInt64
    init(pages: Int = 7) {
      var random = RandomTensors()
      fixture = PageFixture(&random, heads: 2, dim: 16, tokens: 9, pages: pages)
      queries = random.tensor(23, 32)
      seed = random.seed
    }
  }

  private func read(_ s: Setup, shared: [Int], tail: [Int]?, scale: Float = 0.4, on backend: any Backend) -> Attended {
    let (f, h) = (s.fixture, heads)
    func list(_ pages: [Int]) -> DeviceIndices {
      backend.upload(indices: (0..<h).flatMap { head in pages.map { f.slot(head, $0) } }, shape: [h, pages.count])
    }
    return backend.attend(
      backend.upload(s.queries), tiles: RowTiles(rows: 23, tokens: 8), pool: f.pool(on: backend), layer: 1,
      lists: PageLists(shared: list(shared), tail: tail.map(list)), scale: scale, answers: [.logSumExp, .mass])
  }

  private func largest(_ a: DeviceTensor?, _ b: DeviceTensor?, on backend: any Backend) -> Float {
    guard let a, let b else { return .infinity }
    return zip(backend.download(a).floats(), backend.download(b).floats()).reduce(0) { max($0, abs($1.0 - $1.1)) }
  }

  @Test("The order of a list changes its result by rounding only, and so does where pages lie")
  func theOrderOfAListChangesItsResult() {
    let s = Setup()
    for backend in [CPUBackend(threads: 2), ReferenceBackend()] as [any Backend] {
      let a = read(s, shared: [0, 1, 2, 3, 4, 5, 6], tail: nil, on: backend)
      let b = read(s, shared: [5, 0, 6, 3, 1, 4, 2], tail: nil, on: backend)
      #expect(largest(a.output, b.output, on: backend) < 2e-6, "seed \(s.seed)")
      #expect(largest(a.logSumExp, b.logSumExp, on: backend) < 2e-6, "seed \(s.seed)")
    }
  }

  @Test("A tail behind a list of all pages changes nothing") func aTailBehindAListOfAllPages() {
    let s = Setup()
    for backend in [CPUBackend(threads: 2), ReferenceBackend()] as [any Backend] {
      let all = Array(0..<7)
      let (bare, tail) = (
        read(s, shared: all, tail: nil, on: backend), read(s, shared: all, tail: all, on: backend)
      )
      #expect(largest(bare.output, tail.output, on: backend) == 0, "seed \(s.seed)")
      #expect(largest(bare.mass, tail.mass, on: backend) == 0, "seed \(s.seed)")
    }
  }

  @Test("Tail rows come in any order beside a weak list, with logits far above it")
  func tailRowsComeInAnyOrder() {
    let s = Setup()
    for backend in [CPUBackend(threads: 2), ReferenceBackend()] as [any Backend] {
      // A scale that makes the skipped pages' logits spread over some hundreds, rising, falling and mixed.
      let statistics = backend.pageStatistics(
        of: s.fixture.pool(on: backend), layer: 1, slots: backend.upload(indices: s.fixture.slots, shape: [heads, 7]))
      let keys = backend.download(statistics.meanKeys).floats()
      let query = s.queries.floats()
      let logits = (0..<7).map { page in (0..<dim).reduce(Float(0)) { $0 + query[$1] * keys[page * dim + $1] } }
      let rising = (0..<7).sorted { logits[$0] < logits[$1] }
      let results = [rising, rising.reversed(), [3, 0, 6, 1, 5, 2, 4]].map { order in
        read(s, shared: [rising[0]], tail: order, scale: 40, on: backend)
      }
      for other in results.dropFirst() {
        #expect(largest(results[0].output, other.output, on: backend) < 1e-5, "seed \(s.seed)")
        #expect(largest(results[0].mass, other.mass, on: backend) < 1e-4, "seed \(s.seed)")
        // Log-sum-exps of some hundreds.
        #expect(largest(results[0].logSumExp, other.logSumExp, on: backend) < 1e-3, "seed \(s.seed)")
      }
      #expect(results.allSatisfy { backend.allFinite($0.output) })
    }
  }

  @Test("The tail continues the list's softmax: rows of mean keys and values with ln n on their logits")
  func theTailContinuesTheListsSoftmax() throws {
    let s = Setup()
    let backend = CPUBackend(threads: 2)
    let (listed, skipped) = ([1, 4], [0, 2, 3, 5, 6])
    let whole = read(s, shared: listed, tail: Array(0..<7), on: backend)
    let exact = read(s, shared: listed, tail: nil, on: backend)
    let statistics = backend.pageStatistics(
      of: s.fixture.pool(on: backend), layer: 1, slots: backend.upload(indices: s.fixture.slots, shape: [heads, 7]))
    let (keys, values, counts) = (
      backend.download(statistics.meanKeys).floats(), backend.download(statistics.meanValues).floats(),
      backend.download(statistics.counts).floats()
    )
    let (output, sum) = (
      backend.download(exact.output).floats(), backend.download(try #require(exact.logSumExp)).floats()
    )
    let (found, foundSum) = (
      backend.download(whole.output).floats(), backend.download(try #require(whole.logSumExp)).floats()
    )
    let queries = s.queries.floats()
    for head in 0..<heads {
      for row in 0..<23 {
        // Starts from the exact branch with weight 1 at its log-sum-exp.
        let start = Double(sum[head * 23 + row])
        var total = 1.0
        var acc = (0..<dim).map { Double(output[row * heads * dim + head * dim + $0]) }
        for page in skipped {
          let place = head * 7 + page
          let logit = (0..<dim).reduce(0.0) {
            $0 + 0.4 * Double(queries[row * heads * dim + head * dim + $1]) * Double(keys[place * dim + $1])
          }
          let weight = Double(counts[place]) * (logit - start).exponential
          total += weight
          for d in 0..<dim { acc[d] += weight * Double(values[place * dim + d]) }
        }
        for d in 0..<dim {
          let i = row * heads * dim + head * dim + d
          #expect(abs(Double(found[i]) - acc[d] / total) < 2e-5, "row \(row), head \(head), seed \(s.seed)")
        }
        let merged = start + total.logarithm
        #expect(abs(Double(foundSum[head * 23 + row]) - merged) < 2e-5, "row \(row), head \(head), seed \(s.seed)")
      }
    }
  }
}

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

extension Double {
  fileprivate var logarithm: Double { log(self) }
}
