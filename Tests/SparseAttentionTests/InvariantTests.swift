import Compute
import SparseAttention
import Tensors
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// What holds of every memory and selection, whatever the numbers in it (docs/invariants.md).
@Suite struct InvariantTests {
  private typealias F = PassFixture

  /// Light Forcing over a window of three chunks, sparse enough to choose.
  private static func light(window: Int = 9, positions: PositionMode = .absolute) -> SparsityRecipe {
    .lightForcing(
      LightForcing(
        window: window, growth: ChunkAwareGrowth(target: 0.6, base: 0.7, window: window),
        hierarchy: Hierarchical(keep: 4, sink: 1, near: 1)), positions: positions)
  }

  @Test("What a query attends to is one softmax over its persistent and its chosen pages, all else masked")
  func whatAQueryAttendsToIsOneSoftmax() throws {
    var random = RandomNumbers()
    let fixture = F(backend: CPUBackend(threads: 2))
    let blocks = PersistentBlocks(capacityFrames: 4, localWindow: 6, sink: 1)
    for recipe in [SparsityRecipe.sparseForcing(SparseForcing(blocks: blocks, density: 0.3)), Self.light()] {
      let memory = try fixture.memory(recipe)
      memory.record(AttentionSelection(layers: [0, 1, 2], heads: [0, 1], passes: [.step(0)]))
      // Clean keys and values of every page, `[layer][page]`, both heads.
      var history = [[PageID: (keys: [Float], values: [Float])]](repeating: [:], count: F.layers)
      func store(_ pass: F.Pass, _ ids: [PageID], into pages: inout [[PageID: (keys: [Float], values: [Float])]]) {
        let size = F.tokens * F.heads * F.dim
        for layer in 0..<F.layers {
          for (p, id) in ids.enumerated() {
            let part = p * size..<(p + 1) * size
            pages[layer][id] = (Array(pass.keys[layer][part]), Array(pass.values[layer][part]))
          }
        }
      }
      for chunk in 0..<9 {
        memory.begin(frames: 3)
        let ids = memory.geometry.pageIDs(firstFrame: 3 * chunk, frames: 3)
        let noisy = fixture.pass(memory, F.Inputs(&random))
        let record = try #require(memory.takeRecord())
        var pages = history
        store(noisy, ids, into: &pages)
        for head in record.heads {
          let reads = try #require(head.passes[.step(0)]?.reads)
          for token in 0..<F.rows {
            let query = F.row(noisy.queries[head.layer], token, head: head.head)
            let read = head.pages.indices.filter { reads[token / F.tokens][$0] }
            var (sum, output) = (0.0, [Double](repeating: 0, count: F.dim))
            for page in read {
              let (keys, values) = try #require(pages[head.layer][head.pages[page]])
              for t in 0..<F.tokens {
                let weight = exp(Double(F.scale) * F.dot(query, F.row(keys, t, head: head.head)))
                sum += weight
                for (d, v) in F.row(values, t, head: head.head).enumerated() { output[d] += weight * v }
              }
            }
            let found = F.row(noisy.outputs[head.layer], token, head: head.head)
            let error = zip(found, output).map { abs($0 - $1 / sum) }.max() ?? 1
            #expect(error < 1e-5, "\(recipe.name), chunk \(chunk), token \(token): \(error), seed \(random.seed)")
          }
        }
        store(fixture.pass(memory, F.Inputs(&random), clean: true), ids, into: &history)
        memory.seal()
      }
    }
  }

  /// Reads every page and keeps what it saw of the pool's statistics.
  private final class Spy: PageSelector, @unchecked Sendable {
    let summary = "every page, looked at"
    let dependsOnContent = true
    /// Of layer 0, `[head][page]`: mean key and mean value.
    var seen: [[PageID: [Float]]] = []

    func pagesRead(of census: PageCensus, budget: PageBudget) -> Int { census.persistent + census.local }
    func plan(
      _ queries: DeviceTensor, over view: LayerView, budget: PageBudget, at context: StepContext,
      on backend: any Backend
    ) -> PageLists {
      if view.layer == 0 {
        let statistics = backend.pageStatistics(of: view.pool, layer: 0, slots: view.all)
        let numbers = [statistics.meanKeys, statistics.meanValues].map { backend.download($0).floats() }
        let (width, dim) = (view.pagesPerHead, PassFixture.dim)
        seen = view.pages.enumerated().map { head, pages in
          var byPage: [PageID: [Float]] = [:]
          for (p, page) in pages.enumerated() {
            let start = (head * width + p) * dim
            byPage[page.id] = numbers.flatMap { $0[start..<start + dim] }
          }
          return byPage
        }
      }
      return PageLists(shared: view.all)
    }
  }

  @Test("A persistent page stays to the bit what its clean pass wrote, for as long as it stays")
  func aPersistentPageStaysToTheBit() throws {
    var random = RandomNumbers()
    let fixture = F(backend: CPUBackend(threads: 2))
    let spy = Spy()
    let memory = try fixture.memory(
      SparsityRecipe(
        name: "spy", memory: PersistentBlocks(capacityFrames: 3, localWindow: 6, sink: 1), select: spy))
    var clean = [[PageID: [Float]]](repeating: [:], count: F.heads)
    var oldest = 0
    for chunk in 0..<12 {
      memory.begin(frames: 3)
      _ = fixture.pass(memory, F.Inputs(&random))
      for head in 0..<F.heads {
        for (page, numbers) in spy.seen[head] where page.frame < 3 * chunk {
          #expect(numbers == clean[head][page], "chunk \(chunk), head \(head), \(page), seed \(random.seed)")
          oldest = max(oldest, 3 * chunk - page.frame)
        }
      }
      _ = fixture.pass(memory, F.Inputs(&random), clean: true)
      for head in 0..<F.heads {
        for (page, numbers) in spy.seen[head] where page.frame >= 3 * chunk { clean[head][page] = numbers }
      }
      memory.seal()
    }
    #expect(oldest == 33, "the pinned frame 0 was seen from chunk 11")
  }

  /// What each pass of `chunks` chunks reads, and what it computes.
  private static func reads(
    _ recipe: SparsityRecipe, _ inputs: [[F.Inputs]], first: Int = 0, _ fixture: F
  ) throws -> [(record: AttentionRecord, outputs: [[Float]])] {
    let memory = try fixture.memory(recipe)
    memory.record(AttentionSelection(layers: [0, 1, 2], heads: [0, 1], passes: [.step(0), .clean]))
    return try inputs.map { passes in
      memory.begin(frames: 3)
      let outputs = fixture.pass(memory, passes[0]).outputs + fixture.pass(memory, passes[1], clean: true).outputs
      defer { memory.seal() }
      return (try #require(memory.takeRecord()), outputs)
    }
  }

  /// The lists of all heads and passes, by place in memory.
  private static func lists(_ record: AttentionRecord) -> [[[Bool]]?] {
    record.heads.flatMap { head in record.passes.map { head.passes[$0]?.reads } }
  }

  private static func largest(_ a: [[Float]], _ b: [[Float]]) -> Float {
    zip(a.joined(), b.joined()).reduce(0) { max($0, abs($1.0 - $1.1)) }
  }

  @Test("A selection does not change when all frames are counted from elsewhere")
  func aSelectionDoesNotChangeWhenAllFrames() throws {
    var random = RandomNumbers()
    let fixture = F(backend: CPUBackend(threads: 2))
    let inputs = (0..<7).map { _ in [F.Inputs(&random), F.Inputs(&random)] }
    // Without a sink, window positions are frame numbers less a common shift.
    let topk = { (positions: PositionMode) in
      SparsityRecipe(
        name: "topk", memory: SlidingWindow(window: 9), density: ConstantDensity(0.3), select: PooledTopK(),
        positions: positions)
    }
    for recipe in [{ Self.light(positions: $0) }, topk] {
      let (absolute, window) = (
        try Self.reads(recipe(.absolute), inputs, fixture), try Self.reads(recipe(.window), inputs, fixture)
      )
      for (chunk, (a, b)) in zip(absolute, window).enumerated() {
        #expect(Self.lists(a.record) == Self.lists(b.record), "chunk \(chunk), seed \(random.seed)")
        #expect(Self.largest(a.outputs, b.outputs) < 1e-4, "chunk \(chunk), seed \(random.seed)")
        for (x, y) in zip(a.record.heads, b.record.heads) {
          for pass in a.record.passes {
            let (m, n) = (x.passes[pass]?.mass ?? [], y.passes[pass]?.mass ?? [])
            #expect(m.count == n.count && zip(m, n).allSatisfy { abs($0 - $1) < 1e-4 })
          }
        }
      }
      #expect(Self.lists(absolute[6].record).contains { $0?.joined().contains(false) ?? false })
    }
  }

  @Test("A selection over what eviction has left is that of a memory which never had more")
  func aSelectionOverWhatEvictionHasLeft() throws {
    var random = RandomNumbers()
    let fixture = F(backend: CPUBackend(threads: 2))
    let inputs = (0..<7).map { _ in [F.Inputs(&random), F.Inputs(&random)] }
    let topk = SparsityRecipe(
      name: "topk", memory: SlidingWindow(window: 9), density: ConstantDensity(0.3), select: PooledTopK(),
      positions: .window)
    var hierarchical = topk
    hierarchical.select = Hierarchical(keep: 4, sink: 1, near: 1)
    for recipe in [topk, hierarchical] {
      let whole = try Self.reads(recipe, inputs, fixture)
      // Only the last three chunks: the same window. Two passes of rotation round differently in the last bits.
      let fresh = try Self.reads(recipe, Array(inputs.suffix(3)), fixture)
      let (a, b) = (whole[6], fresh[2])
      #expect(a.record.heads[0].pages.map(\.frame) == b.record.heads[0].pages.map { $0.frame + 12 })
      #expect(Self.lists(a.record) == Self.lists(b.record), "seed \(random.seed)")
      #expect(Self.largest(a.outputs, b.outputs) < 1e-4, "\(Self.largest(a.outputs, b.outputs)), seed \(random.seed)")
    }
  }
}
