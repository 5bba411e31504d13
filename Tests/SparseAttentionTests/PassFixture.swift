import Compute
import SparseAttention
import Tensors

/// Passes of a small transformer's attention over a memory: 3 layers of 2 heads, frames of 2 x 3 tokens in pages of 2,
/// chunks of 3 frames.
struct PassFixture {
  static let (layers, heads, dim, tokens) = (3, 2, 12, 2)
  /// Tokens of a chunk.
  static let rows = 18
  static let scale: Float = 0.6
  let backend: any Backend

  func memory(_ recipe: SparsityRecipe, total: Int? = nil, tile: PageTile = PageTile(rows: 2, columns: 1)) throws
    -> KVMemory
  {
    try KVMemory(
      recipe: recipe, geometry: try PageGeometry(rows: 2, columns: 3, tile: tile), layers: Self.layers,
      heads: Self.heads, headDim: Self.dim, chunkFrames: 3, totalFrames: total, on: backend)
  }

  /// Raw projections of one pass, `[layer]`, each `[rows, heads x dim]`.
  struct Inputs {
    let queries, keys, values: [Tensor]
    init(_ random: inout RandomNumbers) {
      func tensors() -> [Tensor] {
        (0..<layers).map { _ in Tensor(random.rows(rows, heads * dim).flatMap { $0 }, shape: [rows, heads * dim]) }
      }
      (queries, keys, values) = (tensors(), tensors(), tensors())
    }
  }

  /// What a pass computed, `[layer]`: queries and keys normed and rotated, values, and the attention's outputs.
  struct Pass {
    var queries: [[Float]] = []
    var keys: [[Float]] = []
    var values: [[Float]] = []
    var outputs: [[Float]] = []
  }

  /// One pass of all layers; of a clean one the last layer is only observed, as a transformer does.
  func pass(_ memory: KVMemory, _ inputs: Inputs, clean: Bool = false) -> Pass {
    let width = Self.heads * Self.dim
    let ones = backend.upload(Tensor([Float](repeating: 1, count: width), shape: [width]))
    let rotary = memory.rotation.rotary(
      memory.geometry.tokens(frames: 3), framePositions: memory.positions, on: backend)
    if clean { memory.beginCleanPass() }
    var result = Pass()
    for layer in 0..<Self.layers {
      let (keys, values) = (backend.upload(inputs.keys[layer]), backend.upload(inputs.values[layer]))
      memory.write(layer: layer, keys: keys, norm: ones, epsilon: 1e-6, values: values, rotary: rotary)
      let query = backend.rmsNorm(backend.upload(inputs.queries[layer]), epsilon: 1e-6, weight: ones, rotary: rotary)
      if clean, layer == Self.layers - 1 {
        memory.observe(layer: layer, queries: query, scale: Self.scale)
      } else {
        result.outputs.append(
          backend.download(memory.attend(layer: layer, queries: query, scale: Self.scale)).floats())
      }
      result.queries.append(backend.download(query).floats())
      result.keys.append(backend.download(backend.rmsNorm(keys, epsilon: 1e-6, weight: ones, rotary: rotary)).floats())
      result.values.append(inputs.values[layer].floats())
    }
    return result
  }

  /// One token's channels of one head, of rows `[rows, heads x dim]`.
  static func row(_ x: [Float], _ token: Int, head: Int) -> [Double] {
    let start = token * heads * dim + head * dim
    return x[start..<start + dim].map(Double.init)
  }

  /// The mean over a tile's rows of one head.
  static func mean(_ x: [Float], tile: Int, head: Int) -> [Double] {
    let rows = (0..<tokens).map { row(x, tile * tokens + $0, head: head) }
    return (0..<dim).map { d in rows.reduce(0) { $0 + $1[d] } / Double(tokens) }
  }

  static func dot(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
}
