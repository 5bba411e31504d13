import Compute
import Tensors

/// Random pages of ragged length in a pool, for tests of attention over pages and of page selection.
struct PageFixture {
  let heads: Int
  let dim: Int
  let layout: PagePoolLayout
  /// Pages written, in tiles of these rows.
  let tiles: RowTiles
  let keys: Tensor
  let values: Tensor
  let norm: Tensor
  let angles: (Tensor, Tensor)
  /// `[heads, pages]`: each head puts its pages elsewhere.
  let slots: [Int32]

  init(_ random: inout RandomTensors, heads: Int, dim: Int, tokens: Int, pages: Int, spare: Int = 2) {
    self.heads = heads
    self.dim = dim
    layout = PagePoolLayout(layers: 2, heads: heads, headDim: dim, slots: pages + spare, tokensPerPage: tokens)
    var offsets = [0]
    for p in 0..<pages { offsets.append(offsets[p] + (p % 2 == 0 ? tokens : random.integer(1...tokens))) }
    tiles = RowTiles(offsets: offsets)
    keys = random.tensor(tiles.rows, heads * dim)
    values = random.tensor(tiles.rows, heads * dim)
    norm = random.tensor(heads * dim)
    angles = (random.tensor(tiles.rows, dim / 2), random.tensor(tiles.rows, dim / 2))
    slots = (0..<heads).flatMap { head in (0..<pages).map { Int32(($0 + 3 * head) % (pages + spare)) } }
  }

  var pages: Int { tiles.count }
  func slot(_ head: Int, _ page: Int) -> Int32 { slots[head * pages + page] }

  /// A pool with the pages in layer 1.
  func pool(on backend: any Backend, keys other: Tensor? = nil, values otherValues: Tensor? = nil) -> any PagePool {
    let pool = backend.makePagePool(layout)
    backend.writePages(
      keys: backend.upload(other ?? keys), keyNorm: backend.upload(norm), epsilon: 1e-6,
      rotary: Rotary(cosines: backend.upload(angles.0), sines: backend.upload(angles.1), headDim: dim),
      values: backend.upload(otherValues ?? values), to: pool, layer: 1, tiles: tiles,
      slots: backend.upload(indices: slots, shape: [heads, pages]))
    return pool
  }
}

/// `a` and `b` agree where both are infinite, and within `tolerance` of the largest finite number elsewhere.
func agree(_ a: Tensor, _ b: Tensor, _ tolerance: Float) -> Bool {
  guard a.shape == b.shape else { return false }
  let size = max(1e-6, b.floats().filter(\.isFinite).map(abs).max() ?? 0)
  return zip(a.floats(), b.floats()).allSatisfy { $0 == $1 || abs($0 - $1) <= tolerance * size }
}
