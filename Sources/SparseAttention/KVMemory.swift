import Compute

/// The key/value memory of one rollout: pages, the table that finds them, and the recipe that governs both.
///
/// One chunk's life: ``begin(chunk:frames:)`` gives it slots; each pass of the transformer writes and reads every layer
/// (``write(layer:keys:norm:epsilon:values:rotary:)``, ``attend(layer:queries:scale:)``), the noisy passes overwriting
/// each other; then ``beginCleanPass()``, the clean pass, and ``seal()``, which makes its pages history and lets the
/// policy evict.
///
/// Memory is taken once, in `init`, and does not grow. Not thread-safe: a memory belongs to one rollout.
public final class KVMemory {
  public let geometry: PageGeometry
  public let recipe: SparsityRecipe
  public let rotation: RotaryEmbedding
  public internal(set) var table: PageTable
  /// Temporal positions of the current chunk's frames.
  public private(set) var positions: [Int] = []
  /// Latent frames sealed so far.
  public internal(set) var sealedFrames = 0
  /// Number of the current chunk, and the denoising step that its next pass belongs to.
  public internal(set) var chunk = -1
  public var step = 0 {
    didSet {
      guard step != oldValue, recipe.select.renewal == .perStep, !chunkPages.isEmpty else { return }
      plans = [:]
      if recipe.positions == .window { positions = rankHistory(adding: chunkFrames) }
    }
  }
  /// Whether the next pass is the chunk's clean one.
  public private(set) var isCleanPass = false

  let backend: any Backend
  let pool: any PagePool
  var chunkCount: Int?
  /// What chunk 0 is called in records: not 0 once the memory was restarted.
  var sceneStart = 0
  private(set) var chunkPages: [PageID] = []
  private var chunkFrames = 0
  private var chunkTiles = RowTiles(rows: 1, tokens: 1)
  private let nextFrames: Int
  private var chunkSlots: [DeviceIndices] = []
  private var views: [LayerView?] = []
  /// Lists that serve more than one pass, by layer.
  private var plans: [Int: PageLists] = [:]
  /// Time spent since ``begin(frames:)`` on choosing pages and on reading them.
  public private(set) var times = (selection: WorkTime(), attention: WorkTime())
  /// What each layer of the transformer has read since ``begin(frames:)``, by layer.
  private var readings: [Int: Reading] = [:]
  /// `[heads, pages]` per stored layer: attention that each resident page received in the clean pass.
  private var masses: [DeviceTensor?] = []
  /// Looks on; nil unless ``record(_:)`` was called.
  private var recorder: AttentionRecorder?

  /// A memory for `layers` layers of `heads` heads.
  ///
  /// - Parameters:
  ///   - chunkFrames: The most latent frames of a chunk.
  ///   - totalFrames: The video's length in latent frames; nil for one without end.
  ///   - planned: The length that densities are planned for.
  ///   - layers: Layers whose keys must be kept. 1 serves any depth when nothing is read across chunks.
  /// - Throws: ``SparsityError`` when the recipe's memory cannot hold a chunk.
  public init(
    recipe: SparsityRecipe, geometry: PageGeometry, layers: Int, heads: Int, headDim: Int, chunkFrames: Int,
    totalFrames: Int?, planned: PlannedLength = .video, on backend: any Backend
  ) throws(SparsityError) {
    // The last chunk is computed whole.
    let total = totalFrames.map { ($0 + chunkFrames - 1) / chunkFrames * chunkFrames }
    try recipe.check(geometry: geometry, chunkFrames: chunkFrames, total: total)
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
    let plannedFrames: Int? =
      switch planned {
      case .video: totalFrames
      case .frames(let frames): frames
      case .endless: nil
      }
    chunkCount = plannedFrames.map { ($0 + chunkFrames - 1) / chunkFrames }
    nextFrames = chunkFrames
  }

  /// Bytes of keys, values, unrotated channels and page statistics, padding included; constant.
  public var bytes: Int { pool.bytes }

  /// Latent frames that the current chunk can see, its own included; frames' worth of pages where single pages stay.
  public var visibleFrames: Int {
    let pages = table.resident(layer: 0, head: 0).count
    return (pages + geometry.tilesPerFrame - 1) / geometry.tilesPerFrame * geometry.tile.frames
  }
  /// Pages of one head in memory, the current chunk's included.
  public var pagesKept: Int { table.resident(layer: 0, head: 0).count }
  /// Of these, pages that a query tile reads in the current chunk.
  public var pagesRead: Int { recipe.select.pagesRead(of: view(0).census[0], budget: budget) }
  /// What a query tile of the current chunk may read.
  private var budget = PageBudget(density: 1)

  /// Starts the next chunk: gives its pages slots, and the pages of a `window`-positioned memory their new ranks.
  public func begin(frames: Int) {
    precondition(chunkPages.isEmpty, "a chunk was begun before the last one was sealed")
    precondition(frames <= nextFrames, "a chunk of \(frames) frames in a memory made for \(nextFrames)")
    chunk += 1
    budget = recipe.density.budget(chunk: chunkCount.map { min(chunk, max(0, $0 - 1)) } ?? chunk, of: chunkCount)
    step = 0
    isCleanPass = false
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
    plans = [:]
    readings = [:]
    times = (WorkTime(), WorkTime())
    views = Array(repeating: nil, count: table.layers)
    masses = Array(repeating: nil, count: table.layers)
  }

  /// Says that the next pass is the clean one, from which the memory policy learns what pages are worth.
  public func beginCleanPass() {
    isCleanPass = true
    step += 1
  }

  /// Whether the last chunk that was begun has been sealed.
  var isBetweenChunks: Bool { chunkPages.isEmpty }

  /// The pages of a stored layer during the current chunk.
  private func view(_ layer: Int) -> LayerView {
    if let view = views[layer] { return view }
    let (first, frames, policy) = (sealedFrames, chunkFrames, recipe.memory)
    let view = LayerView(
      layer: layer, pool: pool, tiles: chunkTiles,
      pages: (0..<table.heads).map { table.resident(layer: layer, head: $0) }, firstFrame: first,
      isPersistent: { policy.isPersistent($0, chunkAt: first, frames: frames) }, on: backend)
    views[layer] = view
    return view
  }

  /// Renumbers the frames in memory from 0 and returns the positions of the `frames` that follow them. Where a selector
  /// reads whole frames that are known beforehand, those that are read are numbered and the others stay as they are.
  private func rankHistory(adding frames: Int) -> [Int] {
    // A page's rank is its frame's rank in its own head. Pages that persist may be few of many frames: they fill up
    // frames of their own, oldest first, so that no distance grows with the number of frames they come from.
    var ranks: [[PageID: Int]] = []
    var longest = 0
    for layer in 0..<table.layers {
      for head in 0..<table.heads {
        var rank: [PageID: Int] = [:]
        let pages = table.resident(layer: layer, head: head)
        if let selector = recipe.select as? any FrameSelector, selector.ranksWhatIsRead {
          let past = Set(pages.map(\.id.frame)).filter { $0 < sealedFrames }.sorted()
          let read = selector.frames(
            readBy: sealedFrames, among: past + (sealedFrames..<sealedFrames + frames),
            at: StepContext(chunk: chunk, step: step, layer: layer, firstFrame: sealedFrames, frames: frames))
          let number = Dictionary(uniqueKeysWithValues: zip(read, read.indices))
          for page in pages { rank[page.id] = number[page.id.frame] ?? page.position }
          ranks.append(rank)
          longest = max(longest, read.count - frames)
          continue
        }
        let persistent = pages.prefix { recipe.memory.isPersistent($0.id, chunkAt: sealedFrames, frames: frames) }
        let across = geometry.tilesPerFrame
        for (i, page) in persistent.enumerated() { rank[page.id] = i / across * geometry.tile.frames }
        var (next, lastFrame) = (((persistent.count + across - 1) / across - 1) * geometry.tile.frames, -1)
        for page in pages.dropFirst(persistent.count) {
          if page.id.frame != lastFrame { next += geometry.tile.frames }
          lastFrame = page.id.frame
          rank[page.id] = next
        }
        ranks.append(rank)
        longest = max(longest, next + geometry.tile.frames)
      }
    }
    let (heads, layers) = (table.heads, table.layers)
    // As many entries as there are pages, whether they move or not: which ones do hangs on scores, no size may.
    let capacity = ranks.map(\.count).max() ?? 0
    guard capacity > 0 else { return (0..<frames).map { longest + $0 } }
    let highest = ranks.joined().map(\.value).max() ?? 0
    let changes = table.reposition { id, layer, head in ranks[layer * heads + head][id] ?? 0 }
    let turns = rotation.temporal(0..<highest + geometry.tile.frames, on: backend)
    for layer in 0..<layers {
      let rows = changes[layer].map { $0 + Array(repeating: (slot: -1, position: 0), count: capacity - $0.count) }
        .joined()
      backend.repositionPages(
        in: pool, layer: layer, slots: backend.upload(indices: rows.map(\.slot), shape: [heads, capacity]),
        positions: backend.upload(indices: rows.map { Int32($0.position) }, shape: [heads, capacity]), table: turns)
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
    let view = view(stored)
    let start = WorkTime.now
    let lists = plan(layer: layer, queries: queries, view: view)
    times.selection += WorkTime.now - start
    record(lists, of: view, layer: layer)
    let policy = isCleanPass ? recipe.memory.mass : .none
    let planned = WorkTime.now
    let attended = backend.attend(
      queries, tiles: chunkTiles, pool: pool, layer: stored, lists: lists, scale: scale,
      answers: policy == .attended ? .mass : [])
    times.attention += WorkTime.now - planned
    switch policy {
    case .none: break
    case .pooled: masses[stored] = pooledMass(queries, view: view, scale: scale)
    case .attended:
      guard let mass = attended.mass else { break }
      let places = view.fixed("places of slots") { head in
        view.pages[head].map { Int32(head * self.table.slots) + $0.slot }
      }
      masses[stored] = backend.gather(mass, places, shape: places.shape)
    }
    if recorder != nil { note(layer: layer, queries: queries, view: view, lists: lists, scale: scale) }
    return attended.output
  }

  /// Adds what `lists` names to what `layer` has read. Stays with the backend until ``pagesListed`` asks.
  private func record(_ lists: PageLists, of view: LayerView, layer: Int) {
    let listed = backend.listedPages(lists, tiles: chunkTiles.count)
    var reading = readings[layer] ?? Reading()
    reading.listed = reading.listed.map { backend.combine(1, $0, 1, listed) } ?? listed
    reading.visible += chunkTiles.count * view.pages.reduce(0) { $0 + $1.count }
    readings[layer] = reading
  }

  /// What each layer of the transformer has read in the passes of the current chunk, layer 0 first: pages that the lists
  /// given to the kernel named, and pages in memory, both summed over heads, query tiles and passes. A layer of a clean
  /// pass that nobody needs reads nothing. Waits for the backend; ask before ``seal()``.
  public var pagesListed: [(listed: Int, visible: Int)] {
    readings.sorted { $0.key < $1.key }.map { _, reading in
      let heads = reading.listed.map { backend.download($0).floats() } ?? []
      return (heads.reduce(0) { $0 + Int($1) }, reading.visible)
    }
  }

  /// Pages listed for a layer, `[heads]`, and pages that it could have read.
  private struct Reading {
    var listed: DeviceTensor?
    var visible = 0
  }

  /// Whether the layer that needs no output of the clean pass must still be given its queries, to ``observe``.
  public var observesQueries: Bool { isCleanPass && recipe.memory.mass != .none }

  /// What ``attend(layer:queries:scale:)`` learns from a clean pass, where nobody needs its result.
  public func observe(layer: Int, queries: DeviceTensor, scale: Float) {
    guard observesQueries else { return }
    if recipe.memory.mass == .pooled {
      let stored = layer % table.layers
      masses[stored] = pooledMass(queries, view: view(stored), scale: scale)
      if recorder != nil { note(layer: layer, queries: queries, view: view(stored), lists: nil, scale: scale) }
    } else {
      _ = attend(layer: layer, queries: queries, scale: scale)
    }
  }

  /// The pages that each query tile reads, made anew or replayed.
  private func plan(layer: Int, queries: DeviceTensor, view: LayerView) -> PageLists {
    let select = recipe.select
    let key = select.dependsOnContent ? layer : view.layer
    if let plan = plans[key] { return plan }
    var lists = select.plan(
      queries, over: view, budget: budget,
      at: StepContext(chunk: chunk, step: step, layer: layer, firstFrame: sealedFrames, frames: chunkFrames),
      on: backend)
    if recipe.tail == .centroidTail, lists.pagesPerTile < view.pagesPerHead { lists.tail = view.all }
    if !select.dependsOnContent || recipe.replan == .oncePerChunk { plans[key] = lists }
    return lists
  }

  /// `[heads, pages]`: what pooled attention over all pages in memory gives each of them.
  private func pooledMass(_ queries: DeviceTensor, view: LayerView, scale: Float) -> DeviceTensor {
    let means = backend.tileMeans(queries, tiles: chunkTiles, heads: table.heads)
    return backend.pageMass(
      backend.pageScores(means, pool: pool, layer: view.layer, slots: view.all, scale: scale))
  }

  // MARK: Inspection

  /// From now on notes what chosen passes keep and read, for ``takeRecord()``. Changes no result; costs pooled masses and
  /// downloads for what is chosen, and nothing for the rest.
  public func record(_ selection: AttentionSelection) { recorder = AttentionRecorder(selection, on: backend) }

  /// What was noted of the current chunk (before it is sealed); nil if nothing of it was chosen.
  public func takeRecord() -> AttentionRecord? {
    guard let heads = recorder?.take(), !heads.isEmpty else { return nil }
    return AttentionRecord(
      chunk: sceneStart + chunk, firstFrame: sealedFrames, frames: chunkFrames, geometry: geometry, recipe: recipe.name,
      heads: heads
    )
  }

  private func note(layer: Int, queries: DeviceTensor, view: LayerView, lists: PageLists?, scale: Float) {
    let pass = isCleanPass ? AttentionSelection.Pass.clean : .step(step)
    guard let recorder, recorder.wants(chunk: sceneStart + chunk, layer: layer, pass: pass) else { return }
    recorder.note(
      layer: layer, pass: pass, view: view, lists: lists, mass: pooledMass(queries, view: view, scale: scale))
  }

  /// Makes the current chunk history: its keys and values are those of its clean pass and never change again.
  public func seal() {
    precondition(!chunkPages.isEmpty, "no chunk to seal")
    sealedFrames += chunkFrames
    let sealed = SealedChunk(sealedFrames: sealedFrames, nextFrames: nextFrames, geometry: geometry)
    let (worth, heads) = (readMasses(), table.heads)
    table.evict { layer, head, resident in
      let mass = worth.map { Array($0[layer * heads + head].prefix(resident.count)) }
      return recipe.memory.evictions(from: resident, mass: mass, after: sealed)
    }
    chunkPages = []
    chunkSlots = []
    views = []
    plans = [:]
    readings = [:]
  }

  /// `[layer x heads + head][page]`: what the clean pass gave each page, the same for all heads of a layer if the policy
  /// wants it so; nil without a clean pass. The one time in a chunk that the host waits for numbers.
  private func readMasses() -> [[Float]]? {
    let known = masses.compactMap { $0 }
    guard known.count == table.layers, let width = known.first?.shape[1] else { return nil }
    precondition(known.allSatisfy { $0.shape[1] == width }, "layers with different numbers of pages")
    let values = backend.download(backend.concatenate(known)).floats()
    let rows = (0..<table.layers * table.heads).map { Array(values[$0 * width..<($0 + 1) * width]) }
    guard recipe.memory.sharesHeads else { return rows }
    return (0..<table.layers).flatMap { layer in
      let heads = rows[layer * table.heads..<(layer + 1) * table.heads]
      let sum = (0..<width).map { page in heads.reduce(0) { $0 + $1[page] } }
      return Array(repeating: sum, count: table.heads)
    }
  }
}
