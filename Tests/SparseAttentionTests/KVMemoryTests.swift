import Compute
import SparseAttention
import Tensors
import Testing

@Suite struct KVMemoryTests {
  private static func memory(
    _ recipe: SparsityRecipe, chunk: Int = 3, total: Int? = 30, tile: PageTile? = nil, layers: Int = 2
  ) throws -> KVMemory {
    try KVMemory(
      recipe: recipe, geometry: try PageGeometry(rows: 2, columns: 3, tile: tile), layers: layers, heads: 2,
      headDim: 12,
      chunkFrames: chunk, totalFrames: total, on: CPUBackend(threads: 1))
  }

  /// The frames that each chunk can see, its own included.
  private static func visible(_ memory: KVMemory, chunks: Int, frames: Int = 3) -> [[Int]] {
    (0..<chunks).map { _ in
      memory.begin(frames: frames)
      let seen = Set(memory.table.resident(layer: 1, head: 1).map(\.id.frame)).sorted()
      memory.seal()
      return seen
    }
  }

  @Test("A dense memory sees every frame") func aDenseMemorySeesEveryFrame() throws {
    let seen = Self.visible(try Self.memory(.dense(), total: 11), chunks: 4)
    #expect(seen.last == Array(0..<12))
  }

  @Test("A window of 9 frames sees its chunk and the 6 before it") func aWindowOf9FramesSeesIts() throws {
    let seen = Self.visible(try Self.memory(.selfForcing(window: 9), total: nil), chunks: 6)
    #expect(seen == [[0, 1, 2], [0, 1, 2, 3, 4, 5], Array(0..<9), Array(3..<12), Array(6..<15), Array(9..<18)])
  }

  @Test("LongLive's 12 frames with a sink of 3 are 3 sink, 6 recent and 3 current frames")
  func longlives12FramesWithASinkOf() throws {
    let seen = Self.visible(try Self.memory(.selfForcing(window: 12, sink: 3), total: nil), chunks: 8)
    #expect(seen[7] == [0, 1, 2] + Array(15..<24))
    #expect(seen[4] == [0, 1, 2] + Array(6..<15))
  }

  @Test("Tiles of three frames live and leave together") func tilesOfThreeFramesLiveAndLeave() throws {
    let recipe = SparsityRecipe.selfForcing(window: 9, sink: 3)
    let seen = Self.visible(
      try Self.memory(recipe, total: nil, tile: PageTile(frames: 3, rows: 2, columns: 3)), chunks: 5)
    #expect(seen == [[0], [0, 3], [0, 3, 6], [0, 6, 9], [0, 9, 12]])
  }

  @Test("Slots are distinct, and pages that stay keep theirs") func slotsAreDistinctAndPagesThatStay() throws {
    let memory = try Self.memory(.selfForcing(window: 9, sink: 1), total: nil)
    var before: [PageID: Int32] = [:]
    for _ in 0..<9 {
      memory.begin(frames: 3)
      let resident = memory.table.resident(layer: 0, head: 1)
      #expect(Set(resident.map(\.slot)).count == resident.count)
      for page in resident { if let slot = before[page.id] { #expect(slot == page.slot) } }
      before = Dictionary(uniqueKeysWithValues: resident.map { ($0.id, $0.slot) })
      memory.seal()
    }
  }

  @Test("Absolute positions are frame numbers, window positions are ranks")
  func absolutePositionsAreFrameNumbersWindowPositions() throws {
    let absolute = try Self.memory(.selfForcing(window: 6, sink: 1), total: nil)
    let window = try Self.memory(.selfForcing(window: 6, sink: 1, positions: .window), total: nil)
    for chunk in 0..<500 {
      for memory in [absolute, window] { memory.begin(frames: 3) }
      #expect(absolute.positions == (0..<3).map { 3 * chunk + $0 })
      let start = min(3 * chunk, 3)
      #expect(window.positions == [start, start + 1, start + 2])
      let ranks = window.table.resident(layer: 1, head: 0).map(\.position)
      #expect(ranks == ranks.sorted() && ranks.first == 0)
      for memory in [absolute, window] { memory.seal() }
    }
  }

  @Test("Bytes do not depend on the length of a windowed rollout") func bytesDoNotDependOnTheLength() throws {
    let recipe = SparsityRecipe.selfForcing(window: 21)
    #expect(try Self.memory(recipe, total: 21).bytes == Self.memory(recipe, total: nil).bytes)
    #expect(try Self.memory(.dense(), total: 42).bytes == 2 * Self.memory(.dense(), total: 21).bytes)
  }

  @Test("Impossible windows are refused with the least that is possible") func impossibleWindowsAreRefusedWithTheLeast()
  {
    #expect(throws: SparsityError.capacity("a window of 2 frames cannot hold a chunk of 3; the least is 3")) {
      try Self.memory(.selfForcing(window: 2))
    }
    #expect(
      throws: SparsityError.capacity("a window of 5 frames cannot hold a chunk of 3 beside a sink of 3; the least is 6")
    ) {
      try Self.memory(.selfForcing(window: 5, sink: 3))
    }
    #expect(throws: SparsityError.self) { try Self.memory(.selfForcing(window: 5, sink: -1)) }
    #expect(throws: SparsityError.self) { try Self.memory(.dense(), total: nil) }
  }
}
