/// Chunk-aware growth of sparsity (Light Forcing, arXiv 2602.04789, section on CAG; the rule is that of the released code).
///
/// Early chunks are read densely, since their errors are seen by all that follow; later ones ever more sparsely. With f
/// frames per chunk, n_i = (i + 1) f frames made and L_i = min(n_i, W) of them visible, chunk i >= 1 has the sparsity
///
///     s_i = s_base - beta / sqrt(n_i),     beta = (s_base - s_target) sum L_i / sum (L_i / sqrt(n_i))
///
/// so that the mean of s over i >= 1, weighted by L_i, is `target`. Chunk 0 is dense and outside of the sum. A query tile
/// reads floor((1 - s_i) K) of K pages, at least one. Nothing depends on content, layer, head or step.
///
/// K counts every page in memory, as in the released code: beside ``PersistentBlocks`` the persistent pages are candidates
/// like the others, so that growth alone decides what a chunk costs (``CountedPages/all``).
///
/// The rule needs the video's length. A rollout without end is planned for a nominal ``horizon`` and stays as sparse as at
/// its end from there on (light_forcing.md sections 2.2 and 12.7: choose a horizon and clamp). Planned for ever, beta would
/// grow without bound and the first minutes be dense.
public struct ChunkAwareGrowth: DensitySchedule, Equatable {
  /// s_target: mean share of pages that is skipped, in [0, 1).
  public var target: Double
  /// s_base: the share that late chunks tend to, in [0, 1). Equal to `target`, every chunk but the first skips the same.
  public var base: Double
  /// W: latent frames that a chunk can see, its own included; nil for all. Only the rule's weights depend on it.
  public var window: Int?
  /// f
  public var chunkFrames: Int
  /// Latent frames that a rollout without end is planned for: 63, those of the released long setting. From there on,
  /// sparsity stays as it is.
  public var horizon: Int

  /// The published short setting (5 s): 0.88, 0.98, 21 frames. Without a base, the target is also the base.
  public init(
    target: Double = 0.88, base: Double? = 0.98, window: Int? = 21, chunkFrames: Int = 3, horizon: Int = 63
  ) {
    self.target = target
    self.base = base ?? target
    self.window = window
    self.chunkFrames = chunkFrames
    self.horizon = horizon
  }

  /// 5 seconds, 21 latent frames.
  public static let short = ChunkAwareGrowth()
  /// 15 seconds, 63 latent frames, of which 12 are visible.
  public static let long = ChunkAwareGrowth(target: 0.85, base: 0.95, window: 12)

  public var summary: String { "growing sparsity, \(target) on average towards \(base)" }
  public var rounding: FloatingPointRoundingRule { .down }
  public var counted: CountedPages { .all }

  /// beta for a rollout of `chunks` chunks; 0 if there is none after the first.
  public func beta(chunks: Int) -> Double {
    var (visible, weighted) = (0.0, 0.0)
    for i in 1..<max(1, chunks) {
      let made = (i + 1) * chunkFrames
      let length = Double(min(made, window ?? made))
      visible += length
      weighted += length / Double(made).squareRoot()
    }
    return weighted > 0 ? (base - target) * visible / weighted : 0
  }

  /// Chunks of a rollout without end up to its horizon, at least one after the first.
  private var plannedChunks: Int { max(2, (horizon + chunkFrames - 1) / chunkFrames) }

  /// s_i. Chunks past the end, as of a rollout that outlives its plan, are as sparse as the last.
  public func sparsity(chunk: Int, of total: Int?) -> Double {
    if chunk == 0 { return 0 }
    let chunks = total ?? plannedChunks
    return sparsity(chunk: min(chunk, chunks - 1), beta: beta(chunks: chunks))
  }
  private func sparsity(chunk: Int, beta: Double) -> Double {
    min(max(base - beta / Double((max(1, chunk) + 1) * chunkFrames).squareRoot(), 0), 0.999)
  }

  public func densities(total: Int) -> [Double] {
    let beta = beta(chunks: total)
    return (0..<total).map { $0 == 0 ? 1 : 1 - sparsity(chunk: $0, beta: beta) }
  }

  public func density(chunk: Int, of total: Int?) -> Double { 1 - sparsity(chunk: chunk, of: total) }

  public func check() throws(SparsityError) {
    for (name, value) in [("target", target), ("base", base)] {
      guard value >= 0, value < 1 else {
        throw .recipe("a \(name) sparsity of \(value) is not in [0, 1); the published ones are 0.88 and 0.98")
      }
    }
    guard window ?? 1 >= 1, chunkFrames >= 1, horizon >= 1 else {
      throw .recipe("chunk-aware growth over windows, chunks or rollouts of no frames")
    }
  }
}
