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

  public init(latentHeight: Int, latentWidth: Int, latentFrames: Int?, schedule: FlowSchedule, recipe: SparsityRecipe) {
    self.latentHeight = latentHeight
    self.latentWidth = latentWidth
    self.latentFrames = latentFrames
    self.schedule = schedule
    self.recipe = recipe
  }

  /// Number of chunks; nil without end.
  public var chunks: Int? { latentFrames.map { ($0 + chunkFrames - 1) / chunkFrames } }

  /// - Throws: ``RolloutError/settings(_:)`` for sizes that cannot be had with a model.
  func check(_ model: TransformerConfiguration) throws(RolloutError) {
    guard latentHeight > 0, latentWidth > 0, latentHeight % 2 == 0, latentWidth % 2 == 0 else {
      throw .settings("latents of \(latentHeight)x\(latentWidth); both must be even")
    }
    guard chunkFrames >= 1, latentFrames ?? 1 >= 1 else {
      throw .settings("a chunk and a video need at least one latent frame")
    }
    guard model.inputChannels == model.outputChannels else {
      throw .settings(
        "a model of \(model.inputChannels) input and \(model.outputChannels) output channels needs conditioning")
    }
  }

  /// The token grid, cut into pages.
  /// - Throws: ``SparsityError/tile(_:_:)``.
  public func geometry() throws(SparsityError) -> PageGeometry {
    try PageGeometry(rows: latentHeight / 2, columns: latentWidth / 2, tile: tile)
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
  /// Seconds of the denoising passes.
  public let denoiseSeconds: Double
  /// Seconds of the clean pass that sealed its keys and values.
  public let sealSeconds: Double
  /// What was noted of its attention, if ``RolloutSettings/recording`` asked for it.
  public let attention: AttentionRecord?
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
  private let branches: GuidedFlow
  private let channels: Int
  private let settings: RolloutSettings
  private let backend: any Backend
  /// One per branch of the guidance.
  let memories: [KVMemory]
  var noise: any ChunkNoise
  var latentGuard: LatentGuard?
  /// The number of the next chunk.
  public internal(set) var chunk = 0

  /// Prepares a rollout; nothing is computed yet.
  /// - Parameters:
  ///   - negative: The context of the unguided branch; needed if `settings.guidance` is not 1.
  ///   - state: What ``save(to:)`` saved, to go on from there.
  /// - Throws: ``RolloutError/settings(_:)``, ``SparsityError``, or `TensorError` for a state that does not fit.
  public init(
    transformer: WanTransformer, text: TextContext, negative: TextContext? = nil, noise: any ChunkNoise,
    settings: RolloutSettings, from state: SavedState? = nil, on backend: any Backend
  ) throws {
    let c = transformer.configuration
    try settings.check(c)
    self.noise = noise
    latentGuard = settings.latentGuard
    channels = c.inputChannels
    self.settings = settings
    self.backend = backend
    let geometry = try settings.geometry()
    branches = try GuidedFlow(
      transformer: transformer, text: text, negative: negative, guidance: settings.guidance,
      layout: transformer.layout(geometry: geometry, frames: settings.chunkFrames), on: backend)
    memories = try (0..<(branches.isGuided ? 2 : 1)).map { _ in
      try KVMemory(
        recipe: settings.recipe, geometry: geometry, layers: c.layers, heads: c.heads, headDim: c.headDim,
        chunkFrames: settings.chunkFrames, totalFrames: settings.latentFrames, planned: settings.planned,
        on: backend)
    }
    memoryBytes = memories.reduce(0) { $0 + $1.bytes }
    if let recording = settings.recording { memories[0].record(recording) }
    if let state {
      (chunk, self.noise) = try Rollout.restore(memories, noise: noise, from: state)
      if latentGuard != nil { latentGuard = try state.value("guard") }
    }
  }

  /// Computes the next chunk; nil after the last.
  ///
  /// - Throws: ``RolloutError/notFinite(chunk:step:)``, `CancellationError` between passes, or what the noise throws. A
  ///   rollout that has thrown is over.
  public func next() throws -> FinishedChunk? {
    if let chunks = settings.chunks, chunk >= chunks { return nil }
    let clock = ContinuousClock()
    let start = clock.now
    let frames = settings.chunkFrames
    let (height, width) = (settings.latentHeight, settings.latentWidth)
    for memory in memories { memory.begin(frames: frames) }
    let (visible, kept, read) = (memories[0].visibleFrames, memories[0].pagesKept, memories[0].pagesRead)
    var x = backend.upload(
      try noise.initial(chunk: chunk, frames: frames, channels: channels, height: height, width: width))
    let sigmas = settings.schedule.sigmas
    for (step, timestep) in settings.schedule.timesteps.enumerated() {
      try Task.checkCancellation()
      for memory in memories { memory.step = step }
      let flow = try branches.flow(x, timestep: Float(timestep), memories: memories)
      guard let flow, backend.allFinite(flow) else { throw RolloutError.notFinite(chunk: chunk, step: step) }
      x = backend.combine(1, x, -Float(sigmas[step]), flow)
      if step + 1 < sigmas.count {
        let fresh = try noise.renoise(
          chunk: chunk, step: step, frames: frames, channels: channels, height: height, width: width)
        let next = Float(sigmas[step + 1])
        x = backend.combine(1 - next, x, next, backend.upload(fresh))
      }
    }
    if let limited = latentGuard?.apply(x, on: backend) { x = limited }
    let denoised = clock.now
    if settings.chunks.map({ chunk + 1 < $0 }) ?? true {
      try Task.checkCancellation()
      for memory in memories { memory.beginCleanPass() }
      var context = x
      if settings.contextNoise > 0 {
        guard
          let fresh = noise.context(chunk: chunk, frames: frames, channels: channels, height: height, width: width)
        else { throw RolloutError.settings("this noise has none for the context") }
        context = backend.combine(1 - settings.contextNoise, x, settings.contextNoise, backend.upload(fresh))
      }
      _ = try branches.flow(context, timestep: settings.contextTimestep, memories: memories, onlyMemory: true)
    }
    let attention = memories[0].takeRecord()
    for memory in memories { memory.seal() }
    let sealed = clock.now
    defer { chunk += 1 }
    return FinishedChunk(
      index: chunk, firstFrame: chunk * frames, latents: x, visibleFrames: visible, pagesKept: kept, pagesRead: read,
      denoiseSeconds: (denoised - start).seconds, sealSeconds: (sealed - denoised).seconds, attention: attention)
  }

  public nonisolated func makeAsyncIterator() -> Iterator { Iterator(rollout: self) }

  public struct Iterator: AsyncIteratorProtocol {
    let rollout: Rollout
    public func next() async throws -> FinishedChunk? { try await rollout.next() }
  }
}

extension Duration {
  /// As a number of seconds.
  public var seconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
