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
  /// Latent frames of a chunk; 3 in Self-Forcing.
  public var chunkFrames = 3
  public var schedule: FlowSchedule
  public var recipe: SparsityRecipe
  /// Shape of a page; nil for the standard one.
  public var tile: PageTile?
  /// Timestep of the clean pass: exactly 0 in Self-Forcing.
  public var contextTimestep: Float = 0

  public init(latentHeight: Int, latentWidth: Int, latentFrames: Int?, schedule: FlowSchedule, recipe: SparsityRecipe) {
    self.latentHeight = latentHeight
    self.latentWidth = latentWidth
    self.latentFrames = latentFrames
    self.schedule = schedule
    self.recipe = recipe
  }

  /// Number of chunks; nil without end.
  public var chunks: Int? { latentFrames.map { ($0 + chunkFrames - 1) / chunkFrames } }

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
public actor Rollout: AsyncSequence {
  public typealias Element = FinishedChunk

  /// Bytes of the key/value memory; constant.
  public nonisolated let memoryBytes: Int
  private let transformer: WanTransformer
  private let text: TextContext
  private let settings: RolloutSettings
  private let backend: any Backend
  private let memory: KVMemory
  private let layout: TokenLayout
  private var noise: any ChunkNoise
  private var chunk = 0

  /// Prepares a rollout; nothing is computed yet.
  /// - Throws: ``RolloutError/settings(_:)`` or ``SparsityError``.
  public init(
    transformer: WanTransformer, text: TextContext, noise: any ChunkNoise, settings: RolloutSettings,
    on backend: any Backend
  ) throws {
    let c = transformer.configuration
    guard settings.latentHeight > 0, settings.latentWidth > 0, settings.latentHeight % 2 == 0,
      settings.latentWidth % 2 == 0
    else {
      throw RolloutError.settings("latents of \(settings.latentHeight)x\(settings.latentWidth); both must be even")
    }
    guard settings.chunkFrames >= 1, settings.latentFrames ?? 1 >= 1 else {
      throw RolloutError.settings("a chunk and a video need at least one latent frame")
    }
    guard c.inputChannels == c.outputChannels else {
      throw RolloutError.settings(
        "a model of \(c.inputChannels) input and \(c.outputChannels) output channels needs conditioning")
    }
    self.transformer = transformer
    self.text = text
    self.noise = noise
    self.settings = settings
    self.backend = backend
    let geometry = try settings.geometry()
    memory = try KVMemory(
      recipe: settings.recipe, geometry: geometry, layers: c.layers, heads: c.heads, headDim: c.headDim,
      chunkFrames: settings.chunkFrames, totalFrames: settings.latentFrames, on: backend)
    memoryBytes = memory.bytes
    layout = transformer.layout(geometry: geometry, frames: settings.chunkFrames)
  }

  /// Computes the next chunk; nil after the last.
  ///
  /// - Throws: ``RolloutError/notFinite(chunk:step:)``, `CancellationError` between passes, or what the noise throws. A
  ///   rollout that has thrown is over.
  public func next() throws -> FinishedChunk? {
    if let chunks = settings.chunks, chunk >= chunks { return nil }
    let clock = ContinuousClock()
    let start = clock.now
    let (frames, channels) = (settings.chunkFrames, transformer.configuration.inputChannels)
    let (height, width) = (settings.latentHeight, settings.latentWidth)
    memory.begin(frames: frames)
    let (visible, kept, read) = (memory.visibleFrames, memory.pagesKept, memory.pagesRead)
    var x = backend.upload(
      try noise.initial(chunk: chunk, frames: frames, channels: channels, height: height, width: width))
    let sigmas = settings.schedule.sigmas
    for (step, timestep) in settings.schedule.timesteps.enumerated() {
      try Task.checkCancellation()
      memory.step = step
      let flow = pass(x, timestep: Float(timestep))
      guard let flow, backend.allFinite(flow) else { throw RolloutError.notFinite(chunk: chunk, step: step) }
      x = backend.combine(1, x, -Float(sigmas[step]), flow)
      if step + 1 < sigmas.count {
        let fresh = try noise.renoise(
          chunk: chunk, step: step, frames: frames, channels: channels, height: height, width: width)
        let next = Float(sigmas[step + 1])
        x = backend.combine(1 - next, x, next, backend.upload(fresh))
      }
    }
    let denoised = clock.now
    if settings.chunks.map({ chunk + 1 < $0 }) ?? true {
      try Task.checkCancellation()
      memory.beginCleanPass()
      _ = pass(x, timestep: settings.contextTimestep, onlyMemory: true)
    }
    memory.seal()
    let sealed = clock.now
    defer { chunk += 1 }
    return FinishedChunk(
      index: chunk, firstFrame: chunk * frames, latents: x, visibleFrames: visible, pagesKept: kept, pagesRead: read,
      denoiseSeconds: (denoised - start).seconds, sealSeconds: (sealed - denoised).seconds)
  }

  private func pass(_ x: DeviceTensor, timestep: Float, onlyMemory: Bool = false) -> DeviceTensor? {
    transformer.forward(
      x, timesteps: Array(repeating: timestep, count: settings.chunkFrames), text: text, layout: layout, memory: memory,
      onlyMemory: onlyMemory)
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
