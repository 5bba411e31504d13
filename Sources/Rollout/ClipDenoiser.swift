import Compute
import SparseAttention
import Tensors
import WanModel

/// Denoises a whole clip at once, as bidirectional models want: every pass brings all frames, and nothing is kept from
/// one pass to the next.
///
/// Keys and values need the room of one layer, which all layers, passes and guidance branches share.
///
/// ```swift
/// var denoiser = try ClipDenoiser(transformer: transformer, text: context, noise: noise, sampler: sampler, settings: settings, on: backend)
/// while !denoiser.isFinished { try denoiser.advance() }
/// denoiser.latents  // [frames, channels, height, width]
/// ```
public struct ClipDenoiser {
  /// Bytes of the keys and values.
  public let memoryBytes: Int
  /// The sample at the present noise level, final once ``isFinished``: `[frames, channels, height, width]`.
  public private(set) var latents: DeviceTensor
  /// Seconds of the steps so far.
  public private(set) var seconds = 0.0
  private let branches: GuidedFlow
  private let memory: KVMemory
  private var sampler: ClipSampler
  private let backend: any Backend

  /// Draws the noise; nothing is computed yet.
  ///
  /// - Parameters:
  ///   - negative: The context of the unguided branch; needed if `settings.guidance` is not 1.
  ///   - settings: `latentFrames` must be known; chunks, schedule and context timestep are not used.
  /// - Throws: ``RolloutError/settings(_:)``, ``SparsityError``, or what the noise throws.
  public init(
    transformer: WanTransformer, text: TextContext, negative: TextContext? = nil, noise: any ChunkNoise,
    sampler: ClipSampler, settings: RolloutSettings, on backend: any Backend
  ) throws {
    guard let frames = settings.latentFrames else {
      throw RolloutError.settings("a whole clip needs a length; give --seconds or --num-frames")
    }
    try settings.check(transformer.configuration)
    let c = transformer.configuration
    let geometry = try settings.geometry()
    memory = try KVMemory(
      recipe: settings.recipe, geometry: geometry, layers: 1, heads: c.heads, headDim: c.headDim, chunkFrames: frames,
      totalFrames: frames, on: backend)
    if let recording = settings.recording { memory.record(recording) }
    memory.begin(frames: frames)
    memoryBytes = memory.bytes
    branches = try GuidedFlow(
      transformer: transformer, text: text, negative: negative, guidance: settings.guidance,
      layouts: [transformer.layout(geometry: geometry, frames: frames)], on: backend)
    self.sampler = sampler
    self.backend = backend
    var noise = noise
    latents = backend.upload(
      try noise.initial(
        chunk: 0, frames: frames, channels: c.inputChannels, height: settings.latentHeight, width: settings.latentWidth)
    )
  }

  /// Denoising steps taken, and all.
  public var step: Int { sampler.step }
  public var steps: Int { sampler.sigmas.count }
  public var isFinished: Bool { sampler.isFinished }

  /// Takes one step.
  /// - Throws: ``RolloutError/notFinite(chunk:step:)``, or `CancellationError` between passes.
  public mutating func advance() throws {
    try Task.checkCancellation()
    let clock = ContinuousClock()
    let start = clock.now
    memory.step = step
    let memories = branches.isGuided ? [memory, memory] : [memory]
    guard let flow = try branches.flow(latents, timestep: Float(sampler.timesteps[step]), memories: memories),
      backend.allFinite(flow)
    else { throw RolloutError.notFinite(chunk: 0, step: step) }
    latents = sampler.advance(latents, flow: flow, on: backend)
    seconds += (clock.now - start).seconds
  }

  /// The clip as one chunk; nil before the last step.
  public var finished: FinishedChunk? {
    guard isFinished else { return nil }
    return FinishedChunk(
      index: 0, firstFrame: 0, latents: latents, visibleFrames: latents.shape[0], pagesKept: memory.pagesKept,
      pagesRead: memory.pagesRead, layerDensities: KVMemory.densities([memory]), denoiseSeconds: seconds,
      sealSeconds: 0, attention: memory.takeRecord())
  }
}
