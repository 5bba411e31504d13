import Compute
import SparseAttention
import Tensors
import Testing

@Suite struct PersistentBlocksTests {
  /// Two pages a frame, one head, so that chunk t has pages of frames 3t to 3t + 2.
  private static func simulate(
    _ policy: PersistentBlocks, chunks: Int, mass: (_ page: PageID, _ chunk: Int) -> Float?
  ) -> [(persistent: [PageID], local: [PageID])] {
    var resident: [PageID] = []
    return (0..<chunks).map { t in
      for frame in 3 * t..<3 * t + 3 { for tile in 0..<2 { resident.append(PageID(frame: frame, tile: tile)) } }
      let persistent = resident.filter { policy.isPersistent($0, chunkAt: 3 * t, frames: 3) }
      let local = resident.filter { !policy.isPersistent($0, chunkAt: 3 * t, frames: 3) }
      let masses = resident.map { mass($0, t) }
      let leaving = policy.evictions(
        from: resident, mass: masses.contains(nil) ? nil : masses.compactMap { $0 },
        after: SealedChunk(
          sealedFrames: 3 * t + 3, nextFrames: 3,
          geometry: (try? PageGeometry(rows: 2, columns: 1, tile: PageTile(rows: 1, columns: 1)))!))
      resident.removeAll { leaving.contains($0) }
      return (persistent, local)
    }
  }
  private static func chunks(_ pages: [PageID]) -> [Int] { Set(pages.map { $0.frame / 3 }).sorted() }

  @Test("Pages live as long as the published table says, with two chunks each", arguments: [0, 3])
  func pagesLiveAsLongAsThePublished(sink: Int) {
    // Specification, section 3.1, W = C = 6 frames. The youngest chunk is worth most in every judgement.
    let seen = Self.simulate(PersistentBlocks(sink: sink), chunks: 8) { page, _ in Float(page.frame) }
    let local = seen.map { Self.chunks($0.local) }
    #expect(local == [[0], [0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 6], [6, 7]])
    let persistent = seen.map { Self.chunks($0.persistent) }
    #expect(
      persistent
        == (sink == 0
          ? [[], [], [0], [0, 1], [1, 2], [2, 3], [3, 4], [4, 5]]
          : [[], [], [0], [0, 1], [0, 2], [0, 3], [0, 4], [0, 5]]),
      "P = \(persistent)")
    for (t, set) in seen.enumerated() {
      #expect(set.persistent.count == min(max(0, t - 1), 2) * 6, "chunk \(t) keeps \(set.persistent.count) pages")
    }
  }

  @Test("The pages with the largest masses stay, page by page, and who lost never returns")
  func thePagesWithTheLargestMassesStay() {
    var random = RandomNumbers()
    var table: [PageID: [Float]] = [:]
    for frame in 0..<60 {
      for tile in 0..<2 { table[PageID(frame: frame, tile: tile)] = (0..<20).map { _ in random.uniform() } }
    }
    let policy = PersistentBlocks(capacityFrames: 4, localWindow: 6, sink: 1)
    let seen = Self.simulate(policy, chunks: 20) { table[$0]?[$1] }
    for t in 2..<20 {
      // P_t = TopC(P_{t-1} + E_t; s), by the masses of chunk t - 1.
      let leaving = (3 * (t - 2)..<3 * (t - 1)).flatMap { f in (0..<2).map { PageID(frame: f, tile: $0) } }
      let ranked = (seen[t - 1].persistent + leaving).sorted {
        ($0.frame < 1 ? .infinity : table[$0]![t - 1]) > ($1.frame < 1 ? .infinity : table[$1]![t - 1])
      }
      #expect(Set(seen[t].persistent) == Set(ranked.prefix(8)), "chunk \(t), seed \(random.seed)")
      #expect(seen[t].persistent.count <= 8 && Set(seen[t].persistent).isDisjoint(with: seen[t].local))
      #expect(seen[t].persistent.filter { $0.frame == 0 }.count == 2, "a sink page left")
    }
  }

  @Test("Equal masses keep the older page, as does a plan that knows none") func equalMassesKeepTheOlderPageAs() {
    let equal = Self.simulate(PersistentBlocks(sink: 0), chunks: 6) { _, _ in 1 }
    let unknown = Self.simulate(PersistentBlocks(sink: 0), chunks: 6) { _, _ in nil }
    #expect(Self.chunks(equal[5].persistent) == [0, 1])
    #expect(equal.map(\.persistent) == unknown.map(\.persistent))
  }

  @Test("A mass that is not a number loses") func aMassThatIsNotANumber() {
    let seen = Self.simulate(PersistentBlocks(sink: 0), chunks: 5) { page, _ in page.frame == 1 ? .nan : 1 }
    #expect(!seen[4].persistent.contains { $0.frame == 1 } && seen[4].persistent.count == 12)
  }

  @Test("A plan finds the geometry of the pages that it follows") func aPlanFindsTheGeometryOfThe() {
    for across in [1, 4, 26] {
      for span in [1, 3] {
        let frames = stride(from: 0, to: 9, by: span)
        let pages = frames.flatMap { frame in (0..<across).map { PageID(frame: frame, tile: $0) } }
        let policy = PersistentBlocks(capacityFrames: 3, localWindow: 6, sink: 0)
        let leaving = policy.evictions(from: pages, sealedFrames: 9, next: 3)
        // Six frames have left the window; three frames' worth may stay.
        #expect(leaving.count == 3 / span * across, "tiles of \(span) frames, \(across) across: \(leaving.count) leave")
      }
    }
  }

  @Test("Impossible capacities are refused with what is possible") func impossibleCapacitiesAreRefusedWithWhatIs() {
    func capacity(_ policy: PersistentBlocks) throws -> Int { try policy.capacity(chunkFrames: 3, total: nil) }
    #expect(throws: Never.self) { try capacity(PersistentBlocks()) }
    #expect(
      throws: SparsityError.capacity("a local window of 2 frames cannot hold a chunk of 3; the least is 3")
    ) { try capacity(PersistentBlocks(localWindow: 2)) }
    #expect(
      throws: SparsityError.capacity(
        "a capacity of 2 frames cannot take a chunk of 3; the least is 3, or choose --memory window to keep none")
    ) { try capacity(PersistentBlocks(capacityFrames: 2)) }
    #expect(
      throws: SparsityError.capacity("a sink of 7 frames does not fit a capacity of 6; 0 to 6 are possible")
    ) { try capacity(PersistentBlocks(sink: 7)) }
    #expect(throws: SparsityError.self) { try capacity(PersistentBlocks(mass: .none)) }
  }
}
