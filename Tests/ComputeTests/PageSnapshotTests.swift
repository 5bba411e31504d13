import Compute
import Tensors
import Testing

/// Pages as bytes: what a checkpoint stores of the memory.
@Suite struct PageSnapshotTests {
  @Test("Restored pages are read as the stored ones were, in whatever slots", arguments: [0, 1])
  func restoredPagesAreReadAsTheStored(kind: Int) {
    var random = RandomTensors(seed: 41)
    for (heads, dim, tokens, pages) in [(3, 128, 60, 5), (2, 20, 7, 6), (1, 96, 64, 1)] {
      let backend: any Backend = kind == 0 ? ReferenceBackend() : CPUBackend(threads: 2)
      let fixture = PageFixture(&random, heads: heads, dim: dim, tokens: tokens, pages: pages)
      let before = fixture.pool(on: backend)
      var layout = fixture.layout
      // A larger pool, and each page in another slot.
      layout.slots += 3
      let after = backend.makePagePool(layout)
      var (from, to) = ([PagePlace](), [PagePlace]())
      for head in 0..<heads {
        for page in 0..<pages {
          let slot = fixture.slot(head, page)
          from.append(PagePlace(layer: 1, head: head, slot: slot))
          to.append(PagePlace(layer: 1, head: head, slot: Int32(layout.slots) - 1 - slot))
        }
      }
      let stored = before.snapshot(from)
      #expect(stored.shape == [from.count, before.snapshotBytes] && before.snapshotFormat == after.snapshotFormat)
      after.restore(to, from: stored)

      let queries = backend.upload(random.tensor(fixture.tiles.rows, heads * dim))
      func lists(_ places: [PagePlace]) -> PageLists {
        PageLists(shared: backend.upload(indices: places.map(\.slot), shape: [heads, pages]))
      }
      func read(_ pool: any PagePool, _ places: [PagePlace]) -> [[Float]] {
        let attended = backend.attend(
          queries, tiles: fixture.tiles, pool: pool, layer: 1, lists: lists(places), scale: 0.1, answers: [.logSumExp])
        let slots = backend.upload(indices: places.map(\.slot), shape: [heads, pages])
        let known = backend.pageStatistics(of: pool, layer: 1, slots: slots)
        let tensors = [
          attended.output, attended.logSumExp ?? attended.output, known.meanKeys, known.meanValues, known.counts,
          known.dispersion,
        ]
        return tensors.map { backend.download($0).floats() }
      }
      #expect(read(before, from) == read(after, to), "\(backend.name), \(heads) heads of \(dim), pages of \(tokens)")
      let again = after.snapshot(to)
      #expect(again.withUnsafeBytes { Array($0) } == stored.withUnsafeBytes { Array($0) })
    }
  }
}
