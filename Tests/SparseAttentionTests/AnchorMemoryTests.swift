import Compute
import SparseAttention
import Tensors
import Testing

/// Anchors at work in a memory: which pages they read, and what attention over them gives.
@Suite struct AnchorMemoryTests {
  private static func recipe(_ select: any PageSelector, memory: any MemoryPolicy = KeepAll()) -> SparsityRecipe {
    SparsityRecipe(name: "lvsa", memory: memory, select: select)
  }

  private static let heads = 2
  private static let dim = 64
  /// 4 x 6 tokens a frame in 4 pages.
  private static func memory(_ recipe: SparsityRecipe, chunk: Int, total: Int?, on backend: any Backend) throws
    -> KVMemory
  {
    try KVMemory(
      recipe: recipe, geometry: try PageGeometry(rows: 4, columns: 6, tile: PageTile(rows: 2, columns: 3)), layers: 1,
      heads: heads, headDim: dim, chunkFrames: chunk, totalFrames: total, on: backend)
  }

  private struct Chunk {
    /// `[tokens, heads x dim]`
    let queries, keys, values: DeviceTensor
    let norm: DeviceTensor
    /// No rotation.
    let rotary: Rotary

    init(frames: Int, seed: UInt64, on backend: any Backend) {
      let shape = [frames * 24, heads * dim]
      func normals(_ step: Int, _ scale: Float) -> Tensor {
        let noise = CounterNoise(seed: seed).normals(.initial, chunk: 0, step: step, shape: shape)
        return Tensor(noise.floats().map { scale * $0 }, shape: shape)
      }
      queries = backend.upload(normals(0, 3))
      keys = backend.upload(normals(1, 1))
      values = backend.upload(normals(2, 1))
      norm = backend.upload(Tensor([Float](repeating: 1, count: heads * dim), shape: [heads * dim]))
      let half = [shape[0], dim / 2]
      rotary = Rotary(
        cosines: backend.upload(Tensor([Float](repeating: 1, count: half[0] * half[1]), shape: half)),
        sines: backend.upload(Tensor([Float](repeating: 0, count: half[0] * half[1]), shape: half)), headDim: dim)
    }
  }

  private static func attend(_ chunk: Chunk, _ memory: KVMemory, on backend: any Backend) -> [Float] {
    memory.write(
      layer: 0, keys: chunk.keys, norm: chunk.norm, epsilon: 1e-6, values: chunk.values, rotary: chunk.rotary)
    return backend.download(memory.attend(layer: 0, queries: chunk.queries, scale: 0.125)).floats()
  }

  /// Dense attention of the frames in `queries` over the rows of the frames in `read`.
  private static func dense(_ chunk: Chunk, of query: Range<Int>, over read: [Int], on backend: any Backend) -> [Float]
  {
    let keys = backend.rmsNorm(chunk.keys, epsilon: 1e-6, weight: chunk.norm, rotary: nil)
    func rows(_ x: DeviceTensor) -> DeviceTensor {
      backend.concatenate(read.map { backend.slice(x, $0 * 24..<($0 + 1) * 24) })
    }
    return backend.download(
      backend.attention(
        queries: backend.slice(chunk.queries, query.lowerBound * 24..<query.upperBound * 24), keys: rows(keys),
        values: rows(chunk.values), heads: heads, scale: 0.125, bias: .none)
    ).floats()
  }

  private static func largest(_ a: [Float], _ b: [Float]) -> Float {
    a.count == b.count ? zip(a, b).reduce(0) { max($0, abs($1.0 - $1.1)) } : .infinity
  }

  @Test("Attention over a pattern equals dense attention over each frame's list, at every step")
  func attentionOverAPatternEqualsDenseAttention() throws {
    let backend = CPUBackend(threads: 2)
    let pattern = try AnchorPattern(frames: 41, stride: 3)
    let memory = try Self.memory(Self.recipe(RotatingAnchors(pattern)), chunk: 41, total: 41, on: backend)
    let chunk = Chunk(frames: 41, seed: 11, on: backend)
    memory.begin(frames: 41)
    for step in 0..<4 {
      memory.step = step
      let seen = Self.attend(chunk, memory, on: backend)
      var wanted: [Float] = []
      for t in 0..<41 {
        wanted += Self.dense(chunk, of: t..<t + 1, over: pattern.attended(by: t, offset: step % 3), on: backend)
      }
      #expect(Self.largest(seen, wanted) < 1e-5, "step \(step): \(Self.largest(seen, wanted))")
    }
  }

  @Test("Anchors only, and a stride of 1 that is dense to the last bit") func anchorsOnlyAndAStrideOf1() throws {
    let backend = CPUBackend(threads: 2)
    let chunk = Chunk(frames: 13, seed: 3, on: backend)
    func seen(_ select: any PageSelector) throws -> [Float] {
      let memory = try Self.memory(Self.recipe(select), chunk: 13, total: 13, on: backend)
      memory.begin(frames: 13)
      memory.step = 5
      return Self.attend(chunk, memory, on: backend)
    }
    let alone = try AnchorPattern(frames: 13, stride: 4, halfWindow: 0)
    let wanted = Self.dense(chunk, of: 0..<13, over: alone.anchors(offset: 1), on: backend)
    #expect(Self.largest(try seen(RotatingAnchors(alone)), wanted) < 1e-5)
    let dense = try AnchorPattern(frames: 13, stride: 1)
    #expect(try seen(RotatingAnchors(dense)) == seen(AllPages()))
  }

  /// What a chunk's frames read, through a memory, step by step.
  private static func lists(
    _ anchors: CausalAnchors, memory policy: any MemoryPolicy = KeepAll(), chunks: Int, frames: Int = 3
  ) throws -> [[[Int]]] {
    let backend = CPUBackend(threads: 1)
    let memory = try Self.memory(
      Self.recipe(anchors, memory: policy), chunk: frames, total: chunks * frames, on: backend)
    return (0..<chunks).map { chunk in
      memory.begin(frames: frames)
      let resident = Set(memory.table.resident(layer: 0, head: 0).map(\.id.frame)).sorted()
      defer { memory.seal() }
      return (0..<anchors.steps).map { step in
        anchors.frames(
          readBy: memory.sealedFrames, among: resident,
          at: StepContext(chunk: chunk, step: step, layer: 0, firstFrame: memory.sealedFrames, frames: frames))
      }
    }
  }

  /// The specification's pseudocode, word for word (lvsa.md §8, ar_list with frames that are all kept).
  private static func specified(past f: Int, chunk c: Int, step s: Int) -> [Int] {
    let (ns, wr, nc, budget, steps) = (1, 7, 3, 21, 4)
    let na = budget - ns - wr - nc
    if f <= ns + na + wr { return Array(0..<f + nc) }
    let lo = ns
    var hi = f - wr
    let k = (hi - lo + na - 1) / na
    let o = (c * steps + s) % k
    var a = (lo..<hi).filter { $0 % k == o }
    while a.count + ns + (f - hi) + nc < budget, hi > lo {
      hi -= 1
      a.removeAll { $0 == hi }
    }
    return Array(0..<ns) + a + Array(hi..<f + nc)
  }

  @Test("Chunk by chunk the lists are the specified ones, 21 frames from chunk 6 on") func chunkByChunkTheListsAreThe()
    throws
  {
    let lists = try Self.lists(CausalAnchors(budget: 21, chunkFrames: 3, steps: 4), chunks: 60)
    for (chunk, steps) in lists.enumerated() {
      for (step, list) in steps.enumerated() {
        #expect(
          list == Self.specified(past: 3 * chunk, chunk: chunk, step: step), "chunk \(chunk), step \(step): \(list)")
        #expect(list.count == min(21, 3 * chunk + 3))
      }
    }
    // By hand: 21 past frames, 13 of them in the middle, so every second is an anchor; recent ones fill up to 21.
    #expect(lists[7][0] == [0, 2, 4, 6] + Array(7..<24))
    #expect(lists[7][1] == [0, 1, 3, 5, 7] + Array(8..<24))
  }

  @Test("Each rotation follows its own counter, and the clean pass stays with the last step")
  func eachRotationFollowsItsOwnCounterAnd() throws {
    func anchors(_ rotation: AnchorRotation) throws -> CausalAnchors {
      try CausalAnchors(budget: 21, chunkFrames: 3, steps: 4, rotation: rotation)
    }
    func read(_ anchors: CausalAnchors, chunk: Int, step: Int, layer: Int = 0) -> [Int] {
      // 69 past frames, 61 in the middle: a stride of 7.
      let context = StepContext(chunk: chunk, step: step, layer: layer, firstFrame: 69, frames: 3)
      return anchors.frames(readBy: 70, among: Array(0..<72), at: context).filter { $0 >= 1 && $0 < 50 }
        .map { $0 % 7 }
    }
    #expect(Set(read(try anchors(.fixed), chunk: 23, step: 3)) == [0])
    #expect(Set(read(try anchors(.step), chunk: 23, step: 3)) == [3])
    #expect(Set(read(try anchors(.chunk), chunk: 23, step: 3)) == [23 % 7])
    #expect(Set(read(try anchors(.both), chunk: 23, step: 3)) == [(23 * 4 + 3) % 7])
    #expect(Set(read(try anchors(.staggered), chunk: 23, step: 3, layer: 5)) == [(23 * 4 + 3 + 5) % 7])
    for rotation in AnchorRotation.allCases {
      #expect(try read(anchors(rotation), chunk: 23, step: 4) == read(anchors(rotation), chunk: 23, step: 3))
    }
    #expect(try anchors(.chunk).renewal == .perChunk && anchors(.both).renewal == .perStep)
  }

  @Test("Seven phases make every middle frame an anchor, in either order") func sevenPhasesMakeEveryMiddleFrameAn()
    throws
  {
    for order in [CausalAnchors.Order.rising, .spread] {
      let anchors = try CausalAnchors(budget: 21, chunkFrames: 3, steps: 7, rotation: .step, order: order)
      var read = Set<Int>()
      for step in 0..<7 {
        let context = StepContext(chunk: 23, step: step, layer: 0, firstFrame: 69, frames: 3)
        read.formUnion(anchors.frames(readBy: 69, among: Array(0..<72), at: context))
      }
      #expect(read.count == 72, "\(order): \(read.count)")
    }
  }

  @Test("A chunk reads exactly its list, and a stride of 1 is dense to the last bit")
  func aChunkReadsExactlyItsListAnd() throws {
    let backend = CPUBackend(threads: 2)
    func run(_ select: any PageSelector) throws -> [[Float]] {
      let memory = try Self.memory(Self.recipe(select), chunk: 3, total: 30, on: backend)
      return (0..<10).map { index in
        let chunk = Chunk(frames: 3, seed: UInt64(index), on: backend)
        memory.begin(frames: 3)
        memory.step = 1
        defer { memory.seal() }
        return Self.attend(chunk, memory, on: backend)
      }
    }
    let anchors = try CausalAnchors(budget: 12, recent: 3, chunkFrames: 3, steps: 2)
    let (sparse, dense) = (try run(anchors), try run(AllPages()))
    // The whole past as one chunk, so that lists of frames can be cut from it.
    for index in 0..<10 {
      let parts = (0...index).map { Chunk(frames: 3, seed: UInt64($0), on: backend) }
      let context = StepContext(chunk: index, step: 1, layer: 0, firstFrame: 3 * index, frames: 3)
      let list = anchors.frames(readBy: 0, among: Array(0..<3 * index + 3), at: context)
      let keys = parts.map { backend.rmsNorm($0.keys, epsilon: 1e-6, weight: $0.norm, rotary: nil) }
      func rows(_ x: [DeviceTensor]) -> DeviceTensor {
        backend.concatenate(list.map { backend.slice(x[$0 / 3], $0 % 3 * 24..<($0 % 3 + 1) * 24) })
      }
      let wanted = backend.attention(
        queries: parts[index].queries, keys: rows(keys), values: rows(parts.map(\.values)), heads: Self.heads,
        scale: 0.125, bias: .none)
      let error = Self.largest(sparse[index], backend.download(wanted).floats())
      #expect(error < 1e-5, "chunk \(index): \(error)")
    }
    #expect(try run(CausalAnchors(budget: 12, recent: 3, chunkFrames: 3, stride: 1, steps: 2)) == dense)
    #expect(sparse != dense)
  }

  @Test("A reservoir keeps the sink, the recent frames and an even sample of the rest, for ever")
  func aReservoirKeepsTheSinkTheRecent() throws {
    let reservoir = AnchorReservoir(capacity: 8, sink: 1, recent: 4)
    let anchors = try CausalAnchors(budget: 12, sink: 1, recent: 4, chunkFrames: 3, steps: 2)
    let backend = CPUBackend(threads: 1)
    let memory = try Self.memory(Self.recipe(anchors, memory: reservoir), chunk: 3, total: nil, on: backend)
    let bytes = memory.bytes
    for chunk in 0..<400 {
      memory.begin(frames: 3)
      let first = 3 * chunk
      let resident = Set(memory.table.resident(layer: 0, head: 1).map(\.id.frame)).sorted()
      let spacing = reservoir.spacing(sealedFrames: first)
      let middle = Array(1..<max(1, first - 4)).filter { $0 % spacing == 0 }
      #expect(middle.count <= 8 && (spacing == 1 || middle.count >= 4), "chunk \(chunk): \(middle)")
      let expected = Set([0] + middle + Array(max(0, first - 4)..<first + 3)).sorted()
      #expect(resident == expected, "chunk \(chunk): \(resident)")
      // The list always has the budget's length, and all of it is in memory.
      let context = StepContext(chunk: chunk, step: 0, layer: 0, firstFrame: first, frames: 3)
      let list = anchors.frames(readBy: first, among: resident, at: context)
      #expect(list.count == min(12, resident.count) && Set(list).isSubset(of: resident), "chunk \(chunk): \(list)")
      memory.seal()
    }
    #expect(memory.bytes == bytes)
  }

  @Test("Window positions are ranks among the frames read, at every step") func windowPositionsAreRanksAmongTheFrames()
    throws
  {
    let anchors = try CausalAnchors(budget: 12, sink: 1, recent: 4, chunkFrames: 3, steps: 2)
    let backend = CPUBackend(threads: 1)
    var recipe = Self.recipe(anchors, memory: AnchorReservoir(capacity: 8, sink: 1, recent: 4))
    recipe.positions = .window
    let memory = try Self.memory(recipe, chunk: 3, total: nil, on: backend)
    for chunk in 0..<40 {
      memory.begin(frames: 3)
      let first = 3 * chunk
      for step in 0..<2 {
        memory.step = step
        let resident = memory.table.resident(layer: 0, head: 1)
        let list = anchors.frames(
          readBy: first, among: Set(resident.map(\.id.frame)).sorted(),
          at: StepContext(chunk: chunk, step: step, layer: 0, firstFrame: first, frames: 3))
        let start = min(9, first)
        #expect(memory.positions == [start, start + 1, start + 2], "chunk \(chunk), step \(step): \(memory.positions)")
        for page in resident {
          if let rank = list.firstIndex(of: page.id.frame) {
            #expect(page.position == rank, "chunk \(chunk), step \(step), frame \(page.id.frame)")
          }
        }
      }
      memory.beginCleanPass()
      #expect(memory.positions[0] == min(9, first))
      memory.seal()
    }
  }

  @Test("While the reservoir is not full it changes nothing") func whileTheReservoirIsNotFullIt() throws {
    let anchors = try CausalAnchors(budget: 21, chunkFrames: 3, steps: 4)
    #expect(
      try Self.lists(anchors, chunks: 18) == Self.lists(anchors, memory: AnchorReservoir(capacity: 48), chunks: 18))
  }

  @Test("A budget without room for an anchor is refused with the least that is possible")
  func aBudgetWithoutRoomForAnAnchor() {
    #expect(
      throws: SparsityError.capacity(
        "a budget of 11 frames leaves no anchor beside 1 leading, 7 recent and 3 own frames; the least is 12")
    ) { try CausalAnchors(budget: 11, chunkFrames: 3, steps: 4) }
  }

  @Test("Anchors counted without a list are as many as are listed") func anchorsCountedWithoutAListAreAsMany() throws {
    var numbers = RandomNumbers()
    let seed = numbers.seed
    func pick(_ range: ClosedRange<Int>) -> Int {
      range.lowerBound + Int((numbers.uniform() + 1) / 2 * Float(range.count)) % range.count
    }
    for _ in 0..<2000 {
      let (sink, recent, own) = (pick(0...4), pick(0...9), pick(1...5))
      let rotation = AnchorRotation.allCases[pick(0...AnchorRotation.allCases.count - 1)]
      let anchors = try CausalAnchors(
        budget: sink + recent + own + pick(1...12), sink: sink, recent: recent, chunkFrames: own,
        stride: pick(0...2) == 0 ? pick(1...9) : nil, steps: 4, rotation: rotation,
        order: pick(0...1) == 0 ? .rising : .spread)
      let chunk = pick(0...60)
      let context = StepContext(
        chunk: chunk, step: pick(0...3), layer: pick(0...2), firstFrame: chunk * own, frames: own)
      let count = (chunk + 1) * own
      let listed = anchors.frames(readBy: chunk * own, among: Array(0..<count), at: context)
      let counted = anchors.framesRead(by: chunk * own, amongFirst: count, at: context)
      #expect(counted == listed.count, "\(anchors), \(context), seed \(seed)")
    }
  }
}
