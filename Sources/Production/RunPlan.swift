import Rollout
import SparseAttention
import WanModel

/// What a run would do, from its settings alone: the answer of `plan`.
///
/// The keys without an "estimated" in their comment are a contract (`plan --json`); none needs a weight to be read.
public struct RunPlan: Encodable, Sendable {
  public struct Schedule: Encodable, Sendable {
    /// What the transformer is given, in order; the clean pass is not listed.
    public let timesteps: [Double]
    public let sigmas: [Double]
  }
  public struct Chunk: Encodable, Sendable {
    public let index: Int
    /// Latent frames; of the last chunk those that the video keeps.
    public let firstFrame: Int
    public let frames: Int
    /// Whether its latents come from an image or a video.
    public let given: Bool
    /// Frames whose pages the chunk may read, its own included.
    public let visibleFrames: Int
    /// Share of the pages kept that a query may read.
    public let density: Double
    public let pagesKept: Int
    /// Pages that one query tile reads.
    public let pagesRead: Int
    /// Floating-point operations of all passes of the chunk, a multiplication and an addition counted as two.
    public let flops: Double
  }
  /// A prompt, from 0, and how it comes into force.
  public struct Prompt: Encodable, Sendable {
    public let index: Int
    public let text: String
    /// The first chunk under it, where that begins and where it was asked for, in seconds of video.
    public let chunk: Int
    public let seconds: Double
    public let askedSeconds: Double
    public let hardCut: Bool
    public let onSwitch: String
    /// Chunks until it holds alone; 1 is at once.
    public let blend: Int
    public let blendMode: String

    init(_ turn: PromptSwitch, text: String) {
      (index, self.text, chunk, hardCut) = (turn.prompt, text, turn.chunk, turn.isCut)
      (seconds, askedSeconds, onSwitch) = (turn.seconds, turn.askedSeconds, turn.kind.rawValue)
      (blend, blendMode) = (turn.blend, turn.blendMode.rawValue)
    }
  }
  public struct Read: Encodable, Sendable {
    public let step: Int
    public let queryFrame: Int
    public let frames: [Int]
  }

  /// Rotating anchors: stride, half window and leading frames in force (the largest stride of any chunk).
  public struct Pattern: Encodable, Sendable {
    public let stride: Int
    public let window: Int
    public let first: Int
  }

  public let model: String
  public let mode: String
  /// The sampler of clip mode.
  public let sampler: String?
  public let guidance: Double
  public let recipe: String
  public let memory: String
  public let positions: String
  public let height: Int
  public let width: Int
  /// Whether it goes on until it is stopped; the lengths are then those of what is listed.
  public let endless: Bool
  public let numFrames: Int
  public let fps: String
  public let latentFrames: Int
  public let chunkFrames: Int
  public let tokensPerFrame: Int
  public let tokensPerChunk: Int
  public let tile: String
  public let pagesPerFrame: Int
  public let schedule: Schedule
  public let chunks: [Chunk]
  /// Which prompt takes effect with which chunk.
  public let prompts: [Prompt]
  /// With rotating anchors.
  public let pattern: Pattern?
  /// With `--detail`, for selectors whose choice does not depend on content.
  public let reads: [Read]?
  public let parameters: Int
  /// How keys and values are kept: `f32`, `bf16` or `int8`.
  public let kvFormat: String
  /// Bytes of keys and values in that format, without padding.
  public let kvBytes: Int
  /// Latent frames of Self-Forcing's dense cache, the published one.
  static let denseWindow = 21
  /// The same for a dense cache of 21 latent frames with fixed positions: what Self-Forcing takes.
  public let windowKvBytes: Int
  /// The same with the positions of this run: as many bytes, unless positions are ranks, for which every key keeps unturned
  /// channels besides.
  public let windowKvBytesSamePositions: Int
  /// Estimated bytes of the transformer's weights in memory.
  public let weightBytes: Int
  /// Estimated: weights, keys and values, activations of one pass.
  public let peakBytes: Int
  public let flops: Double
  /// Estimated seconds of the denoising on this machine, from the core count and ``flopsPerCore``.
  public let estimatedSeconds: Double

  /// Measured float32 rate of one core in the transformer of the shipped model (docs/speed-log.md).
  static let flopsPerCore = 60e9

  public init(_ settings: RunSettings, detail: Bool = false) throws {
    let rollout = settings.rollout
    let geometry = try rollout.geometry()
    let c = settings.model.transformer
    let total = settings.latentFrames
    let chunkFrames = rollout.chunkFrames
    self.chunkFrames = chunkFrames
    let choice = settings.recipe
    model = settings.model.settings.name
    mode = settings.mode.rawValue
    sampler = settings.sampler?.kind.rawValue
    guidance = rollout.guidance
    recipe = choice.name
    memory = rollout.recipe.memory.summary
    positions = rollout.recipe.positions.rawValue
    (height, width, numFrames, fps) = (settings.height, settings.width, settings.frames, "\(settings.frameRate)")
    latentFrames = total
    endless = settings.isEndless

    tokensPerFrame = geometry.tokensPerFrame
    tokensPerChunk = geometry.tokensPerFrame * chunkFrames
    tile = "\(geometry.tile)"
    pagesPerFrame = geometry.tilesPerFrame
    schedule = Schedule(
      timesteps: settings.sampler?.timesteps ?? rollout.schedule.timesteps,
      sigmas: settings.sampler?.sigmas ?? rollout.schedule.sigmas)
    let steps = schedule.timesteps.count
    let branches = rollout.guidance == 1 ? 1 : 2

    let layout = settings.shownLayout
    let ledger = PageLedger(
      rollout.recipe, geometry: geometry, layout: layout, schedule: settings.prompts, steps: steps,
      isEndless: settings.isEndless, detail: detail)
    let (last, rowTokens) = (settings.chunks - 1, tokensPerFrame)
    chunks = ledger.entries.map { entry in
      Chunk(
        index: entry.index, firstFrame: entry.firstFrame, frames: entry.frames,
        given: entry.index < rollout.givenChunks, visibleFrames: entry.visibleFrames,
        density: entry.density, pagesKept: entry.pagesKept, pagesRead: entry.pagesRead,
        flops: Double(
          branches
            * ((entry.index < rollout.givenChunks ? 0 : steps)
              + (entry.index == last && !settings.isEndless ? 0 : 1)))
          * c.flops(
            tokens: Double(layout.range(of: entry.index).count * rowTokens),
            keys: entry.meanPagesRead * Double(geometry.tile.tokens)))
    }
    prompts = settings.promptList
    if case .anchors(let anchors) = choice.select {
      pattern = Pattern(stride: ledger.stride ?? 1, window: anchors.window, first: anchors.first)
    } else {
      pattern = nil
    }
    let reads = (0..<(detail ? steps : 0)).flatMap { step in
      (0..<total).compactMap { query in
        ledger.reads(of: query, step: step).map {
          Read(step: step, queryFrame: query, frames: $0)
        }
      }
    }
    self.reads = reads.isEmpty ? nil : reads
    parameters = c.parameters
    let perToken = settings.pages.bytesPerToken(
      headDim: c.headDim,
      temporalChannels: rollout.recipe.positions == .window ? RotaryEmbedding(headDim: c.headDim).temporalChannels : 0,
      tokensPerPage: geometry.tile.tokens)
    kvFormat = settings.pages.rawValue
    let capacity = try rollout.recipe.memory.capacity(
      chunkFrames: chunkFrames, total: rollout.layout.computedFrames)
    // A whole clip keeps nothing between layers, and its branches share what there is.
    let copies = settings.mode == .clip ? 1 : branches * c.layers
    let perFrame = Double(copies * c.heads * geometry.tokensPerFrame)
    kvBytes = Int(perFrame * Double(capacity) * perToken)
    let fixed = settings.pages.bytesPerToken(
      headDim: c.headDim, temporalChannels: 0, tokensPerPage: geometry.tile.tokens)
    windowKvBytes = Int(perFrame * Double(RunPlan.denseWindow) * fixed)
    windowKvBytesSamePositions = Int(perFrame * Double(RunPlan.denseWindow) * perToken)
    weightBytes = parameters * 4
    // Residual stream, its norms, queries, keys, values, and the feed-forward layer's hidden rows.
    peakBytes = weightBytes + kvBytes + tokensPerChunk * (10 * c.width + c.feedForward) * 4
    flops = chunks.reduce(0) { $0 + $1.flops }
    estimatedSeconds = flops / (RunPlan.flopsPerCore * Double(settings.request.threads ?? Host.physicalCores))
  }
}

extension TransformerConfiguration {
  /// Floating-point operations of one pass over `tokens` query tokens that read `keys` keys each, text included.
  func flops(tokens: Double, keys: Double) -> Double {
    let (d, f) = (Double(width), Double(feedForward))
    let linear = 2 * (6 * d * d + 2 * d * f) * tokens
    let attention = 4 * d * tokens * (keys + Double(textLength))
    return Double(layers) * (linear + attention)
  }
}
