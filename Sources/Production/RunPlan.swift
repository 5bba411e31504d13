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
  public struct Read: Encodable, Sendable {
    public let step: Int
    public let queryFrame: Int
    public let frames: [Int]
  }

  public let model: String
  public let recipe: String
  public let memory: String
  public let positions: String
  public let height: Int
  public let width: Int
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
  /// With `--detail`, for selectors whose choice does not depend on content.
  public let reads: [Read]?
  public let parameters: Int
  /// Bytes of keys and values without padding.
  public let kvBytes: Int
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
    let capacity = try rollout.recipe.memory.capacity(
      chunkFrames: chunkFrames, total: settings.chunks * chunkFrames)
    model = settings.model.settings.name
    recipe = rollout.recipe.name
    memory = rollout.recipe.memory.summary
    positions = rollout.recipe.positions.rawValue
    (height, width, numFrames, fps) = (settings.height, settings.width, settings.frames, "\(settings.frameRate)")
    latentFrames = total

    tokensPerFrame = geometry.tokensPerFrame
    tokensPerChunk = geometry.tokensPerFrame * chunkFrames
    tile = "\(geometry.tile)"
    pagesPerFrame = geometry.tilesPerFrame
    schedule = Schedule(timesteps: rollout.schedule.timesteps, sigmas: rollout.schedule.sigmas)
    let passes = rollout.schedule.timesteps.count

    // The pages that the policy leaves are followed chunk by chunk, as the memory does it.
    var resident: [PageID] = []
    var visible: [[Int]] = []
    var planned: [Chunk] = []
    for index in 0..<settings.chunks {
      let first = index * chunkFrames
      let kept = min(chunkFrames, total - first)
      let history = resident
      resident += geometry.pageIDs(firstFrame: first, frames: chunkFrames)
      let frames = RunPlan.frames(of: history, geometry, below: first) + Array(first..<first + kept)
      let density = rollout.recipe.density.density(chunk: index, of: settings.chunks)
      let pages = history.count + geometry.pages(frames: kept)
      let last = index + 1 == settings.chunks
      visible.append(frames)
      planned.append(
        Chunk(
          index: index, firstFrame: first, frames: kept, visibleFrames: frames.count, density: density,
          pagesKept: pages, pagesRead: pages,
          flops: Double(passes + (last ? 0 : 1))
            * c.flops(
              tokens: Double(tokensPerChunk), keys: Double((resident.count) * geometry.tile.tokens))))
      let leaving = rollout.recipe.memory.evictions(
        from: resident, sealedFrames: first + chunkFrames, next: chunkFrames)
      resident.removeAll { leaving.contains($0) }
    }
    chunks = planned
    if detail {
      reads = (0..<passes).flatMap { step in
        (0..<total).map { Read(step: step, queryFrame: $0, frames: visible[$0 / chunkFrames]) }
      }
    } else {
      reads = nil
    }
    parameters = c.parameters
    let perToken =
      2 * c.headDim + (rollout.recipe.positions == .window ? RotaryEmbedding(headDim: c.headDim).temporalChannels : 0)
    kvBytes = c.layers * c.heads * capacity * geometry.tokensPerFrame * perToken * 4
    weightBytes = parameters * 4
    // Residual stream, its norms, queries, keys, values, and the feed-forward layer's hidden rows.
    peakBytes = weightBytes + kvBytes + tokensPerChunk * (10 * c.width + c.feedForward) * 4
    flops = planned.reduce(0) { $0 + $1.flops }
    estimatedSeconds = flops / (RunPlan.flopsPerCore * Double(settings.request.threads ?? Host.physicalCores))
  }

  /// The latent frames that pages cover, each once, in order.
  private static func frames(of pages: [PageID], _ geometry: PageGeometry, below limit: Int) -> [Int] {
    Set(pages.map(\.frame)).sorted().flatMap { $0..<min(limit, $0 + geometry.tile.frames) }
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
