/// Which pages *stay* in memory after a chunk.
///
/// A policy decides when a chunk has been sealed by its clean pass. It names the pages that go; their slots are free for
/// the next chunk, and nothing moves.
public protocol MemoryPolicy: Sendable {
  /// What a user reads, such as `window of 21 frames, sink 3`.
  var summary: String { get }

  /// The most latent frames (or frames' worth of pages) that are in memory at a time, the current chunk's included.
  /// `total` is the video's length in latent frames, nil if it has no end.
  /// - Throws: ``SparsityError/capacity(_:)`` when the policy cannot hold a chunk, or needs a length and has none.
  func capacity(chunkFrames: Int, total: Int?) throws(SparsityError) -> Int

  /// The pages of one layer's head that leave after a chunk, so that the next one finds room. As many as are known
  /// beforehand: only which ones may depend on `mass`.
  ///
  /// - Parameter mass: Attention that each resident page received in the clean pass, as ``mass`` asks; nil where nothing
  ///   is known (a plan without a model, a last chunk without clean pass).
  func evictions(from resident: [PageID], mass: [Float]?, after chunk: SealedChunk) -> Set<PageID>

  /// Leading frames that never leave. Default: 0.
  var sinkFrames: Int { get }
  /// Frames just before a chunk of `next` frames that are in memory for being recent, all of their pages in all heads, if
  /// the video has as many. Default: every frame.
  func recentFrames(next: Int) -> Int

  /// What the policy needs to know of a sealed chunk's attention. Read back once per chunk. Default: nothing.
  var mass: MassSource { get }
  /// Whether all heads of a layer keep the same pages, by the sum of their masses. Default: no.
  var sharesHeads: Bool { get }
  /// Whether a page stays for what it is worth and not for being recent, while the chunk of `frames` frames that begins
  /// at `first` is made. Every query reads such pages; selectors choose among the others. Default: no.
  func isPersistent(_ page: PageID, chunkAt first: Int, frames: Int) -> Bool
}

extension MemoryPolicy {
  public var sinkFrames: Int { 0 }
  public func recentFrames(next: Int) -> Int { .max }
  public var mass: MassSource { .none }
  public var sharesHeads: Bool { false }
  public func isPersistent(_ page: PageID, chunkAt first: Int, frames: Int) -> Bool { false }

  /// Evictions as a plan without a model follows them. Which pages a mass would choose is open; how many leave is not.
  ///
  /// - Parameter framesPerPage: nil to read it off the pages, which then lie at its distance.
  public func evictions(from resident: [PageID], sealedFrames: Int, next: Int, framesPerPage: Int? = nil) -> Set<PageID>
  {
    var chunk = SealedChunk(sealedFrames: sealedFrames, nextFrames: next, geometryOf: resident)
    if let framesPerPage { chunk.framesPerPage = framesPerPage }
    return evictions(from: resident, mass: nil, after: chunk)
  }
}

/// The attention that pages received in a chunk's clean pass.
public enum MassSource: String, Sendable, Codable, CaseIterable {
  /// Not asked for.
  case none
  /// Of pooled attention: softmax over mean queries and mean keys, summed over query tiles. All pages get some.
  case pooled
  /// Of the attention itself, as the kernel answers: exact for pages that are read; pages that a tile skipped get nothing
  /// from it (or the weight of their row in a tail).
  case attended
}

/// Where a rollout stands when a chunk has been sealed.
public struct SealedChunk: Sendable, Equatable {
  /// Latent frames sealed so far.
  public var sealedFrames: Int
  /// Latent frames of the next chunk.
  public var nextFrames: Int
  /// Latent frames that one page spans.
  public var framesPerPage: Int
  /// Pages side by side that make up `framesPerPage` frames.
  public var pagesAcross: Int

  public init(sealedFrames: Int, nextFrames: Int, geometry: PageGeometry) {
    self.sealedFrames = sealedFrames
    self.nextFrames = nextFrames
    framesPerPage = geometry.tile.frames
    pagesAcross = geometry.tilesPerFrame
  }

  /// The geometry is that of pages in memory, of which the newest are complete.
  init(sealedFrames: Int, nextFrames: Int, geometryOf resident: [PageID]) {
    self.sealedFrames = sealedFrames
    self.nextFrames = nextFrames
    let frames = Set(resident.map(\.frame)).sorted()
    framesPerPage = zip(frames, frames.dropFirst()).map { $1 - $0 }.min() ?? max(1, sealedFrames)
    pagesAcross = (resident.map(\.tile).max() ?? 0) + 1
  }

  /// Pages that `frames` latent frames are worth.
  public func pages(frames: Int) -> Int { frames / framesPerPage * pagesAcross }
}

/// Keeps everything: exact, and grows with the video.
public struct KeepAll: MemoryPolicy {
  public init() {}
  public var summary: String { "every frame" }

  public func capacity(chunkFrames: Int, total: Int?) throws(SparsityError) -> Int {
    guard let total else {
      throw .capacity(
        "a memory that keeps every frame needs a length; give --seconds, or --memory window (reservoir for anchors)")
    }
    return total
  }

  public func evictions(from resident: [PageID], mass: [Float]?, after chunk: SealedChunk) -> Set<PageID> { [] }
}

/// Keeps the first `sink` frames and the most recent ones, `window` in all, the chunk being denoised included
/// (Self-Forcing's `local_attn_size` and `sink_size`; `wan/modules/causal_model.py`).
public struct SlidingWindow: MemoryPolicy {
  /// Latent frames that a chunk can see, its own and the sink included.
  public let window: Int
  /// Leading frames that always stay.
  public let sink: Int

  public init(window: Int, sink: Int = 0) {
    self.window = window
    self.sink = sink
  }

  public var summary: String { "window of \(window) frames" + (sink > 0 ? ", sink \(sink)" : "") }
  public var sinkFrames: Int { sink }
  public func recentFrames(next: Int) -> Int { max(0, window - sink - next) }

  public func capacity(chunkFrames: Int, total: Int?) throws(SparsityError) -> Int {
    guard sink >= 0, window >= sink + chunkFrames else {
      throw .capacity(
        "a window of \(window) frames cannot hold a chunk of \(chunkFrames)"
          + (sink > 0 ? " beside a sink of \(sink)" : "") + "; the least is \(max(sink, 0) + chunkFrames)")
    }
    return min(window, total ?? window)
  }

  public func evictions(from resident: [PageID], mass: [Float]?, after chunk: SealedChunk) -> Set<PageID> {
    let oldest = chunk.sealedFrames - max(0, window - sink - chunk.nextFrames)
    return Set(resident.filter { $0.frame >= sink && $0.frame < oldest })
  }
}
