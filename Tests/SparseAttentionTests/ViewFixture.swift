import Compute
import SparseAttention
import Tensors

/// Keys as they are, in the pages of one layer, as a selector sees them.
struct ViewFixture {
  let backend: any Backend
  let view: LayerView

  /// - Parameters:
  ///   - keys: `[head][token][channel]`, oldest page first, `tokens` tokens a page.
  ///   - frames: The latent frame of each page.
  ///   - first: First frame of the current chunk; its pages come last.
  init(
    keys: [[[Float]]], frames: [Int], tokens: Int, first: Int, persistentBefore boundary: Int = 0,
    on backend: any Backend
  ) {
    self.backend = backend
    let (heads, rows, dim, pages) = (keys.count, keys[0].count, keys[0][0].count, frames.count)
    let width = heads * dim
    let flat = (0..<rows).flatMap { row in keys.flatMap { $0[row] } }
    let pool = backend.makePagePool(
      PagePoolLayout(layers: 1, heads: heads, headDim: dim, slots: pages + 3, tokensPerPage: tokens))
    // A norm that changes nothing: its epsilon dwarfs the squares and its weight undoes the division.
    let weight = Tensor([Float](repeating: 1e6, count: width), shape: [width])
    func angles(_ value: Float) -> DeviceTensor {
      backend.upload(Tensor([Float](repeating: value, count: rows * dim / 2), shape: [rows, dim / 2]))
    }
    let slots = (0..<heads).map { head in (0..<pages).map { Int32(($0 * 2 + head) % (pages + 3)) } }
    let distinct = (pages + 3) % 2 == 1
    let placed = distinct ? slots : (0..<heads).map { head in (0..<pages).map { Int32(($0 + head) % (pages + 3)) } }
    let x = backend.upload(Tensor(flat, shape: [rows, width]))
    backend.writePages(
      keys: x, keyNorm: backend.upload(weight), epsilon: 1e12,
      rotary: Rotary(cosines: angles(1), sines: angles(0), headDim: dim), values: x, to: pool, layer: 0,
      tiles: RowTiles(rows: rows, tokens: tokens),
      slots: backend.upload(indices: placed.flatMap { $0 }, shape: [heads, pages]))
    var tile = [Int: Int]()
    let ids = frames.map { frame in
      defer { tile[frame, default: 0] += 1 }
      return PageID(frame: frame, tile: tile[frame, default: 0])
    }
    let resident = placed.map { slots in
      zip(ids, slots).map { ResidentPage(id: $0, slot: $1, position: $0.frame) }
    }
    let current = frames.filter { $0 >= first }.count
    view = LayerView(
      layer: 0, pool: pool, tiles: RowTiles(rows: current * tokens, tokens: tokens), pages: resident, firstFrame: first,
      isPersistent: { $0.frame < boundary }, on: backend)
  }

  /// `[head][tile]`: places in the table of the pages that each tile reads.
  func reads(_ lists: PageLists) -> [[[Int]]] {
    let shared = backend.download(lists.shared)
    let own = lists.perTile.map { backend.download($0) } ?? []
    let (n, m) = (lists.shared.shape[1], lists.perTile?.shape[2] ?? 0)
    return view.pages.enumerated().map { head, pages in
      let place = Dictionary(uniqueKeysWithValues: pages.enumerated().map { ($1.slot, $0) })
      return (0..<view.tiles.count).map { tile in
        let start = (head * view.tiles.count + tile) * m
        let slots = shared[head * n..<(head + 1) * n] + own[start..<start + m]
        return slots.filter { $0 >= 0 }.compactMap { place[$0] }
      }
    }
  }
}

/// Numbers that differ from run to run; tests print the seed.
struct RandomNumbers {
  let seed: UInt64
  /// How far each number is moved at random, relative to itself: the same numbers but for their rounding.
  var jitter: Float = 0
  private var state: UInt64
  private var jitterState: UInt64
  init(seed: UInt64 = UInt64.random(in: 1..<UInt64.max)) {
    self.seed = seed
    state = seed
    jitterState = ~seed
  }
  private static func next(_ state: inout UInt64) -> Float {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Float(state >> 40) / Float(1 << 24) * 2 - 1
  }
  mutating func uniform() -> Float {
    let value = Self.next(&state)
    return jitter == 0 ? value : value * (1 + jitter * Self.next(&jitterState))
  }
  mutating func rows(_ count: Int, _ width: Int) -> [[Float]] {
    (0..<count).map { _ in (0..<width).map { _ in uniform() } }
  }
}
