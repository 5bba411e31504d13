import Compute

/// The key/value memory of one rollout: pages, the table that finds them, and the recipe that governs both.
///
/// One chunk's life: ``begin(chunk:frames:)`` gives it slots; each pass of the transformer writes and reads every layer
/// (``write(layer:keys:norm:epsilon:values:rotary:)``, ``attend(layer:queries:scale:)``), the noisy passes overwriting
/// each other; after the clean pass ``seal()`` makes its pages history and lets the policy evict.
///
/// Memory is taken once, in `init`, and does not grow. Not thread-safe: a memory belongs to one rollout.
public final class KVMemory {
  public let geometry: PageGeometry
  public let recipe: SparsityRecipe
  public let rotation: RotaryEmbedding
  public private(set) var table: PageTable
  /// Temporal positions of the current chunk's frames.
  public private(set) var positions: [Int] = []
  /// Latent frames sealed so far.
  public private(set) var sealedFrames = 0
  /// Number of the current chunk, and the denoising step that its next pass belongs to.
  public private(set) var chunk = -1
  public var step = 0

  private let backend: any Backend
  private let pool: any PagePool
  private let chunkCount: Int?
  private var chunkPages: [PageID] = []
  private var chunkFrames = 0
  private var chunkTiles = RowTiles(rows: 1, tokens: 1)
  private let nextFrames: Int
  private var chunkSlots: [DeviceIndices] = []
  private var plans: [PageLists?] = []

  /// A memory for `layers` layers of `heads` heads.
  ///
  /// - Parameters:
  ///   - chunkFrames: The most latent frames of a chunk.
  ///   - totalFrames: The video's length in latent frames; nil for one without end.
  ///   - layers: Layers whose keys must be kept. 1 serves any depth when nothing is read across chunks.
  /// - Throws: ``SparsityError`` when the recipe's memory cannot hold a chunk.
  public init(
    recipe: SparsityRecipe, geometry: PageGeometry, layers: Int, heads: Int, headDim: Int, chunkFrames: Int,
    totalFrames: Int?, on backend: any Backend
  ) throws(SparsityError) {
    // The last chunk is computed whole.
    let total = totalFrames.map { ($0 + chunkFrames - 1) / chunkFrames * chunkFrames }
    let frames = try recipe.memory.capacity(chunkFrames: chunkFrames, total: total)
    self.recipe = recipe
    self.geometry = geometry
    self.backend = backend
    rotation = RotaryEmbedding(headDim: headDim)
    // With tiles of several frames a short chunk takes as many slots as a full one.
    let slots =
      geometry.tile.frames == 1 || frames < chunkFrames
      ? geometry.pages(frames: frames) : (frames + chunkFrames - 1) / chunkFrames * geometry.pages(frames: chunkFrames)
    table = PageTable(layers: layers, heads: heads, slots: slots)
    pool = backend.makePagePool(
      PagePoolLayout(
        layers: layers, heads: heads, headDim: headDim, slots: slots, tokensPerPage: geometry.tile.tokens,
        tokensPerFrame: geometry.tile.rows * geometry.tile.columns,
        temporalChannels: recipe.positions == .window ? rotation.temporalChannels : 0))
    chunkCount = totalFrames.map { ($0 + chunkFrames - 1) / chunkFrames }
    nextFrames = chunkFrames
  }

  /// Bytes of keys, values and unrotated channels, padding included; constant.
  public var bytes: Int { pool.bytes }

  /// Latent frames that the current chunk can see, its own included.
  public var visibleFrames: Int {
    Set(table.resident(layer: 0, head: 0).map(\.id.frame)).count * geometry.tile.frames
  }

  /// Starts the next chunk: gives its pages slots, and the pages of a `window`-positioned memory their new ranks.
  public func begin(frames: Int) {
    precondition(chunkPages.isEmpty, "a chunk was begun before the last one was sealed")
    precondition(frames <= nextFrames, "a chunk of \(frames) frames in a memory made for \(nextFrames)")
    chunk += 1
    step = 0
    chunkFrames = frames
    chunkTiles = geometry.tiles(frames: frames)
    chunkPages = geometry.pageIDs(firstFrame: sealedFrames, frames: frames)
    switch recipe.positions {
    case .absolute: positions = (0..<frames).map { sealedFrames + $0 }
    case .window: positions = rankHistory(adding: frames)
    }
    let first = sealedFrames
    table.append(chunkPages) { positions[$0.frame - first] }
    let count = chunkPages.count
    chunkSlots = (0..<table.layers).map { layer in
      let slots = (0..<table.heads).flatMap { table.resident(layer: layer, head: $0).suffix(count).map(\.slot) }
      return backend.upload(indices: slots, shape: [table.heads, count])
    }
    plans = Array(repeating: nil, count: table.layers)
  }

  /// Renumbers the frames in memory from 0 and returns the positions of the `frames` that follow them.
  private func rankHistory(adding frames: Int) -> [Int] {
    // Every head keeps whole frames or single pages of them; a page's rank is its frame's rank in its own head.
    var ranks: [[PageID: Int]] = []
    var longest = 0
    for layer in 0..<table.layers {
      for head in 0..<table.heads {
        var rank: [PageID: Int] = [:]
        var (next, lastFrame) = (-geometry.tile.frames, -1)
        for page in table.resident(layer: layer, head: head) {
          if page.id.frame != lastFrame { next += geometry.tile.frames }
          lastFrame = page.id.frame
          rank[page.id] = next
        }
        ranks.append(rank)
        longest = max(longest, next + geometry.tile.frames)
      }
    }
    let (heads, layers) = (table.heads, table.layers)
    let changes = table.reposition { id, layer, head in ranks[layer * heads + head][id] ?? 0 }
    let most = changes.joined().map(\.count).max() ?? 0
    if most > 0 {
      let turns = rotation.temporal(0..<longest + geometry.tile.frames, on: backend)
      for layer in 0..<layers {
        let rows = changes[layer].map { $0 + Array(repeating: (slot: -1, position: 0), count: most - $0.count) }
          .joined()
        backend.repositionPages(
          in: pool, layer: layer, slots: backend.upload(indices: rows.map(\.slot), shape: [heads, most]),
          positions: backend.upload(indices: rows.map { Int32($0.position) }, shape: [heads, most]), table: turns)
      }
    }
    return (0..<frames).map { longest + $0 }
  }

  /// Writes one layer's keys and values of the current chunk, over those of the pass before.
  /// Keys and values are raw projections `[tokens in page order, heads x headDim]`.
  public func write(
    layer: Int, keys: DeviceTensor, norm: DeviceTensor, epsilon: Float, values: DeviceTensor, rotary: Rotary
  ) {
    backend.writePages(
      keys: keys, keyNorm: norm, epsilon: epsilon, rotary: rotary, values: values, to: pool,
      layer: layer % table.layers, tiles: chunkTiles, slots: chunkSlots[layer % table.layers])
  }

  /// Attention of the current chunk's queries `[tokens in page order, heads x headDim]` over the pages that the recipe
  /// selects; same shape.
  public func attend(layer: Int, queries: DeviceTensor, scale: Float) -> DeviceTensor {
    let stored = layer % table.layers
    let lists: PageLists
    if let plan = plans[stored] {
      lists = plan
    } else {
      lists = recipe.select.plan(
        queries, among: table, density: recipe.density.density(chunk: chunk, of: chunkCount),
        at: StepContext(chunk: chunk, step: step, layer: layer), on: backend)
      if !recipe.select.dependsOnContent { plans[stored] = lists }
    }
    return backend.attend(
      queries, tiles: chunkTiles, pool: pool, layer: stored, lists: lists, scale: scale, answers: []
    ).output
  }

  /// Makes the current chunk history: its keys and values are those of its clean pass and never change again.
  public func seal() {
    precondition(!chunkPages.isEmpty, "no chunk to seal")
    sealedFrames += chunkFrames
    let (sealed, next) = (sealedFrames, nextFrames)
    table.evict { _, _, resident in recipe.memory.evictions(from: resident, sealedFrames: sealed, next: next) }
    chunkPages = []
    chunkSlots = []
  }
}
