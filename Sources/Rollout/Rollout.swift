import Compute
import SparseAttention
import Tensors
import WanModel

/// What a rollout needs to know beside its weights, its prompt and its noise.
public struct RolloutSettings: Sendable {
  /// Latent height and width: pixels / 8, even.
  public var latentHeight: Int
  public var latentWidth: Int
  /// Length in latent frames; nil for a rollout without end. The last chunk is computed whole.
  public var latentFrames: Int?
  /// The length that densities are planned for.
  public var planned = PlannedLength.video
  /// Latent frames of a chunk; 3 in Self-Forcing.
  public var chunkFrames = 3
  /// Latent frames of the first chunk, if it is shorter: 1 after an image.
  public var firstChunkFrames: Int?
  /// Leading latent frames that are given (``Rollout/take(_:)``) and not made; whole chunks.
  public var givenFrames = 0
  public var schedule: FlowSchedule
  public var recipe: SparsityRecipe
  /// Shape of a page; nil for the standard one.
  public var tile: PageTile?
  /// Timestep of the clean pass: exactly 0 in Self-Forcing.
  public var contextTimestep: Float = 0
  /// Share of fresh noise in what the clean pass is given, as sigma in [0, 1); exactly 0 is none, as in Self-Forcing.
  public var contextNoise: Float = 0
  /// Limits the drift of the latents' statistics; nil, which is exact, does not.
  public var latentGuard: LatentGuard?
  /// Classifier-free guidance scale; exactly 1 is none. Anything else takes a second pass at each step, under the negative
  /// prompt, and a second memory.
  public var guidance = 1.0
  /// What is noted of the attention under the prompt, for inspection; nil for nothing.
  public var recording: AttentionSelection?
  /// The most latent frames whose keys and values a change of prompt computes anew (``PromptSwitch/Kind/recache``); their
  /// latents are kept for it. Never more than the recipe keeps for being recent.
  public var recacheFrames = 21

  public init(latentHeight: Int, latentWidth: Int, latentFrames: Int?, schedule: FlowSchedule, recipe: SparsityRecipe) {
    self.latentHeight = latentHeight
    self.latentWidth = latentWidth
    self.latentFrames = latentFrames
    self.schedule = schedule
    self.recipe = recipe
  }

  /// Chunks that are given.
  public var givenChunks: Int { givenFrames == 0 ? 0 : layout.chunk(of: givenFrames - 1) + 1 }

  /// How the latent frames are cut into chunks.
  public var layout: ChunkLayout {
    ChunkLayout(frames: chunkFrames, first: firstChunkFrames, latentFrames: latentFrames)
  }

  /// Number of chunks; nil without end.
  public var chunks: Int? { layout.count }

  /// Number of chunks that densities are planned for.
  var plannedChunks: Int? {
    switch planned {
    case .video: layout.count
    case .frames(let frames): ChunkLayout(frames: chunkFrames, first: firstChunkFrames, latentFrames: frames).count
    case .endless: nil
    }
  }

  /// - Throws: ``RolloutError/settings(_:)`` for sizes that cannot be had with a model.
  func check(_ model: TransformerConfiguration) throws(RolloutError) {
    guard latentHeight > 0, latentWidth > 0, latentHeight % 2 == 0, latentWidth % 2 == 0 else {
      throw .settings("latents of \(latentHeight)x\(latentWidth); both must be even")
    }
    guard chunkFrames >= 1, latentFrames ?? 1 >= 1 else {
      throw .settings("a chunk and a video need at least one latent frame")
    }
    guard (1...chunkFrames).contains(firstChunkFrames ?? 1) else {
      throw .settings("a first chunk of \(firstChunkFrames ?? 0) latent frames; 1 to \(chunkFrames) are possible")
    }
    guard givenFrames >= 0, layout.start(of: givenChunks) == givenFrames else {
      throw .settings("\(givenFrames) given latent frames are no whole number of chunks")
    }
    guard model.inputChannels == model.outputChannels else {
      throw .settings(
        "a model of \(model.inputChannels) input and \(model.outputChannels) output channels needs conditioning")
    }
  }

  /// The token grid, cut into pages.
  /// - Throws: ``SparsityError/tile(_:_:)``.
  public func geometry() throws(SparsityError) -> PageGeometry {
    func cut(_ tile: PageTile?) throws(SparsityError) -> PageGeometry {
      try PageGeometry(rows: latentHeight / 2, columns: latentWidth / 2, tile: tile)
    }
    do throws(SparsityError) {
      return try cut(tile)
    } catch {
      // Where the selector takes no pages over several frames, a tile of one frame is the nearest that fits.
      guard case .tile(let problem, _) = error, let tile, tile.frames > 1,
        (try? recipe.select.check(geometry: cut(PageTile(frames: tile.frames, rows: 1, columns: 1)))) == nil
      else { throw error }
      var nearest = "\(tile.rows)x\(tile.columns)"
      do { _ = try cut(PageTile(rows: tile.rows, columns: tile.columns)) } catch .tile(_, let flat) { nearest = flat }
      throw .tile(problem, nearest)
    }
  }
}

/// One chunk whose latents are final.
public struct FinishedChunk: Sendable {
  /// Number of the chunk, from 0.
  public let index: Int
  /// Its first latent frame.
  public let firstFrame: Int
  /// `[frames, channels, height, width]`, normalised as the transformer sees them.
  public let latents: DeviceTensor
  /// Latent frames that it could see, its own included; frames' worth of pages where single pages stay in memory.
  public let visibleFrames: Int
  /// Pages of each layer's head that were in memory, its own included.
  public let pagesKept: Int
  /// Of these, the pages that a query tile read.
  public let pagesRead: Int
  /// Realised density of each layer: pages that its lists named over pages in memory, over all heads, query tiles, passes
  /// (the clean one too) and branches of the chunk.
  public let layerDensities: [Double]
  /// The mean of ``layerDensities``.
  public var density: Double { layerDensities.reduce(0, +) / Double(max(1, layerDensities.count)) }
  /// Seconds of the denoising passes.
  public let denoiseSeconds: Double
  /// Seconds of the clean pass that sealed its keys and values.
  public let sealSeconds: Double
  /// What was noted of its attention, if ``RolloutSettings/recording`` asked for it.
  public let attention: AttentionRecord?
  /// The shares of prompts that it was made under.
  public var mix = PromptMix(prompt: 0, weight: 1, from: nil, mode: .linear)
  /// Latent frames before it whose keys and values were computed anew for a change of prompt, and the seconds that took.
  public var recachedFrames = 0
  public var recacheSeconds = 0.0
  /// Whether its latents were given.
  public var isGiven = false
}

/// The chunk-by-chunk denoiser: an asynchronous sequence of finished chunks.
///
/// For each chunk: noise; at every level t a pass that predicts the flow v, from which x0 = x - sigma v, re-noised with
/// fresh noise to the next level; the last x0 is the result. Then a clean pass at t = 0 writes the keys and values that
/// later chunks will see (Self-Forcing, `pipeline/causal_inference.py`). The clean pass of a last chunk is left out.
///
/// ```swift
/// let rollout = try Rollout(transformer: transformer, text: context, noise: CounterNoise(seed: 7), settings: settings, on: backend)
/// for try await chunk in rollout { … }
/// ```
///
/// Between two chunks ``save(to:)`` adds all that the rollout remembers to a state, and a rollout made with that state and
/// the same arguments goes on with the same bytes.
public actor Rollout: AsyncSequence {
  public typealias Element = FinishedChunk

  /// Bytes of the key/value memory; constant.
  public nonisolated let memoryBytes: Int
  var branches: GuidedFlow
  private let channels: Int
  let settings: RolloutSettings
  let backend: any Backend
  /// One per branch of the guidance.
  let memories: [KVMemory]
  var noise: any ChunkNoise
  var latentGuard: LatentGuard?
  /// The number of the next chunk.
  public internal(set) var chunk = 0
  /// nil for one prompt, given as a context.
  let prompts: PromptScript?
  /// The shares of prompts that ``branches`` hold now.
  var mix = PromptMix(prompt: 0, weight: 1, from: nil, mode: .linear)
  /// The last chunks' latents, kept while a change of prompt may compute their keys and values anew; see ``remember(_:)``.
  var recent: [DeviceTensor] = []

  /// Prepares a rollout; nothing is computed yet.
  /// - Parameters:
  ///   - negative: The context of the unguided branch; needed if `settings.guidance` is not 1.
  ///   - state: What ``save(to:)`` saved, to go on from there.
  /// - Throws: ``RolloutError/settings(_:)``, ``SparsityError``, or `TensorError` for a state that does not fit.
  public init(
    transformer: WanTransformer, text: TextContext, negative: TextContext? = nil, noise: any ChunkNoise,
    settings: RolloutSettings, from state: SavedState? = nil, on backend: any Backend
  ) throws {
    try self.init(
      transformer: transformer, text: text, prompts: nil, negative: negative, noise: noise, settings: settings,
      from: state, on: backend)
  }

  /// Prepares a rollout whose prompt changes on the way; nothing is computed yet.
  /// - Parameters:
  ///   - negative: As above; it does not change.
  ///   - state: As above; of a rollout with the same prompts.
  /// - Throws: As above.
  public init(
    transformer: WanTransformer, prompts: PromptScript, negative: TextContext? = nil, noise: any ChunkNoise,
    settings: RolloutSettings, from state: SavedState? = nil, on backend: any Backend
  ) throws {
    let first = backend.upload(prompts.rows(prompts.schedule.mix(at: 0)))
    try self.init(
      transformer: transformer, text: transformer.context(text: first), prompts: prompts, negative: negative,
      noise: noise, settings: settings, from: state, on: backend)
  }

  private init(
    transformer: WanTransformer, text: TextContext, prompts: PromptScript?, negative: TextContext?,
    noise: any ChunkNoise, settings: RolloutSettings, from state: SavedState?, on backend: any Backend
  ) throws {
    let c = transformer.configuration
    try settings.check(c)
    self.noise = noise
    latentGuard = settings.latentGuard
    channels = c.inputChannels
    self.settings = settings
    self.backend = backend
    self.prompts = prompts
    let geometry = try settings.geometry()
    let layout = settings.layout
    branches = try GuidedFlow(
      transformer: transformer, text: text, negative: negative, guidance: settings.guidance,
      layouts: Set([layout.first, layout.frames]).sorted().map { transformer.layout(geometry: geometry, frames: $0) },
      on: backend)
    memories = try (0..<(branches.isGuided ? 2 : 1)).map { _ in
      try KVMemory(
        recipe: settings.recipe, geometry: geometry, layers: c.layers, heads: c.heads, headDim: c.headDim,
        chunkFrames: settings.chunkFrames, totalFrames: layout.computedFrames, on: backend)
    }
    memoryBytes = memories.reduce(0) { $0 + $1.bytes }
    if let recording = settings.recording { memories[0].record(recording) }
    if let state {
      (chunk, self.noise, recent) = try Rollout.restore(memories, noise: noise, from: state, on: backend)
      if latentGuard != nil { latentGuard = try state.value("guard") }
    }
    // The prompt and the scene of the chunk before the next.
    let before = Swift.max(0, chunk - 1)
    let schedule = prompts?.schedule ?? .single
    let end = schedule.sceneEnd(of: before) ?? settings.plannedChunks
    let scene = schedule.sceneStart(of: before)
    for memory in memories { memory.belongs(toSceneAt: scene, chunks: end.map { $0 - scene }) }
    mix = schedule.mix(at: before)
    if chunk > 0, let prompts { branches.setPrompt(prompts.rows(mix)) }
  }

  /// Computes the next chunk; nil after the last.
  ///
  /// - Throws: ``RolloutError/notFinite(chunk:step:)``, `CancellationError` between passes, or what the noise throws. A
  ///   rollout that has thrown is over.
  public func next() throws -> FinishedChunk? { try next(from: nil) }

  /// Takes the next chunk as it is: its latents `[frames, channels, height, width]` come from outside, and a clean pass writes
  /// its keys and values (Self-Forcing: `initial_latent`).
  ///
  /// - Throws: ``RolloutError/settings(_:)`` unless the next chunk is one of ``RolloutSettings/givenFrames``;
  ///   `CancellationError`.
  public func take(_ latents: DeviceTensor) throws -> FinishedChunk {
    let frames = settings.layout.range(of: chunk).count
    guard chunk < settings.givenChunks else {
      throw RolloutError.settings("chunk \(chunk) was to be made and was given; givenFrames is \(settings.givenFrames)")
    }
    let shape = [frames, channels, settings.latentHeight, settings.latentWidth]
    guard latents.shape == shape else {
      throw RolloutError.settings("latents of \(latents.shape) were given for chunk \(chunk), wanted \(shape)")
    }
    let clock = ContinuousClock()
    let (recached, recacheSeconds) = try followPrompts()
    let start = clock.now
    for memory in memories { memory.begin(frames: frames) }
    let (visible, kept, read) = (memories[0].visibleFrames, memories[0].pagesKept, memories[0].pagesRead)
    for memory in memories { memory.step = settings.schedule.timesteps.count - 1 }
    return try finish(
      latents, visible: visible, kept: kept, read: read, denoiseSeconds: 0, from: start,
      recached: (recached, recacheSeconds), isGiven: true)
  }

  /// Computes the next chunk from other latents of its shape: they enter at the first noise level of `schedule` and are
  /// denoised from there (SDEdit, arXiv 2108.01073). A schedule that begins at 1000 leaves nothing of them.
  public func next(from latents: DeviceTensor, schedule: FlowSchedule) throws -> FinishedChunk? {
    try next(from: (latents, schedule))
  }

  private func next(from source: (latents: DeviceTensor, schedule: FlowSchedule)?) throws -> FinishedChunk? {
    if let chunks = settings.chunks, chunk >= chunks { return nil }
    // Before anything changes: a rollout that is cancelled between two chunks stays whole.
    try Task.checkCancellation()
    guard chunk >= settings.givenChunks else {
      throw RolloutError.settings(
        "chunk \(chunk) was to be given and was asked for; givenFrames is \(settings.givenFrames)")
    }
    let schedule = source?.schedule ?? settings.schedule
    let clock = ContinuousClock()
    let recached = try followPrompts()
    let start = clock.now
    // Noise is counted from the first chunk that is made.
    let noiseChunk = chunk - settings.givenChunks
    let frames = settings.layout.range(of: chunk).count
    let (height, width) = (settings.latentHeight, settings.latentWidth)
    for memory in memories { memory.begin(frames: frames) }
    let (visible, kept, read) = (memories[0].visibleFrames, memories[0].pagesKept, memories[0].pagesRead)
    var x = backend.upload(
      try noise.initial(chunk: noiseChunk, frames: frames, channels: channels, height: height, width: width))
    let sigmas = schedule.sigmas
    if let source {
      precondition(source.latents.shape == x.shape, "latents of \(source.latents.shape), wanted \(x.shape)")
      x = backend.combine(Float(1 - sigmas[0]), source.latents, Float(sigmas[0]), x)
    }
    // A shorter schedule is the end of the whole one.
    let skipped = Swift.max(0, settings.schedule.timesteps.count - schedule.timesteps.count)
    for (step, timestep) in schedule.timesteps.enumerated() {
      try Task.checkCancellation()
      for memory in memories { memory.step = skipped + step }
      let flow = try branches.flow(x, timestep: Float(timestep), memories: memories)
      guard let flow, backend.allFinite(flow) else { throw RolloutError.notFinite(chunk: chunk, step: step) }
      x = backend.combine(1, x, -Float(sigmas[step]), flow)
      if step + 1 < sigmas.count {
        let fresh = try noise.renoise(
          chunk: noiseChunk, step: step, frames: frames, channels: channels, height: height, width: width)
        let next = Float(sigmas[step + 1])
        x = backend.combine(1 - next, x, next, backend.upload(fresh))
      }
    }
    if let limited = latentGuard?.apply(x, on: backend) { x = limited }
    return try finish(
      x, visible: visible, kept: kept, read: read, denoiseSeconds: (clock.now - start).seconds, from: clock.now,
      recached: recached, isGiven: false)
  }

  /// What the clean pass of a chunk is given: its latents, with fresh noise if the settings want it.
  func contextLatents(_ x: DeviceTensor, chunk: Int) throws -> DeviceTensor {
    guard settings.contextNoise > 0 else { return x }
    guard
      let fresh = noise.context(
        chunk: chunk, frames: x.shape[0], channels: channels, height: settings.latentHeight,
        width: settings.latentWidth)
    else { throw RolloutError.settings("this noise has none for the context") }
    return backend.combine(1 - settings.contextNoise, x, settings.contextNoise, backend.upload(fresh))
  }

  /// The clean pass over a chunk that was begun, and its end.
  private func finish(
    _ x: DeviceTensor, visible: Int, kept: Int, read: Int, denoiseSeconds: Double, from start: ContinuousClock.Instant,
    recached: (frames: Int, seconds: Double), isGiven: Bool
  ) throws -> FinishedChunk {
    if settings.chunks.map({ chunk + 1 < $0 }) ?? true {
      try Task.checkCancellation()
      for memory in memories { memory.beginCleanPass() }
      let context = try contextLatents(x, chunk: chunk)
      _ = try branches.flow(context, timestep: settings.contextTimestep, memories: memories, onlyMemory: true)
    }
    let attention = memories[0].takeRecord()
    let densities = KVMemory.densities(memories)
    for memory in memories { memory.seal() }
    remember(x)
    defer { chunk += 1 }
    return FinishedChunk(
      index: chunk, firstFrame: settings.layout.start(of: chunk), latents: x, visibleFrames: visible, pagesKept: kept,
      pagesRead: read, layerDensities: densities, denoiseSeconds: denoiseSeconds,
      sealSeconds: (ContinuousClock().now - start).seconds, attention: attention, mix: mix,
      recachedFrames: recached.frames, recacheSeconds: recached.seconds, isGiven: isGiven)
  }

  public nonisolated func makeAsyncIterator() -> Iterator { Iterator(rollout: self) }

  public struct Iterator: AsyncIteratorProtocol {
    let rollout: Rollout
    public func next() async throws -> FinishedChunk? { try await rollout.next() }
  }
}

extension KVMemory {
  /// The share of pages that each layer has read since a chunk was begun, over all branches.
  static func densities(_ memories: [KVMemory]) -> [Double] {
    let branches = memories.map(\.pagesListed)
    return (branches.first ?? []).indices.map { layer in
      let sums = branches.reduce((listed: 0, visible: 0)) {
        ($0.listed + $1[layer].listed, $0.visible + $1[layer].visible)
      }
      return Double(sums.listed) / Double(max(1, sums.visible))
    }
  }
}

extension Duration {
  /// As a number of seconds.
  public var seconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
