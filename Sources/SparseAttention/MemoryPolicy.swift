/// Which pages *stay* in memory after a chunk.
///
/// A policy decides when a chunk has been sealed by its clean pass. It names the pages that go; their slots are free for
/// the next chunk, and nothing moves.
public protocol MemoryPolicy: Sendable {
  /// What a user reads, such as `window of 21 frames, sink 3`.
  var summary: String { get }

  /// The most latent frames whose pages are in memory at a time, the current chunk's included.
  /// `total` is the video's length in latent frames, nil if it has no end.
  /// - Throws: ``SparsityError/capacity(_:)`` when the policy cannot hold a chunk, or needs a length and has none.
  func capacity(chunkFrames: Int, total: Int?) throws(SparsityError) -> Int

  /// The pages that leave after `sealedFrames` frames, so that the next chunk, of `next` frames, finds room.
  func evictions(from resident: [PageID], sealedFrames: Int, next: Int) -> Set<PageID>
}

/// Keeps everything: exact, and grows with the video.
public struct KeepAll: MemoryPolicy {
  public init() {}
  public var summary: String { "every frame" }

  public func capacity(chunkFrames: Int, total: Int?) throws(SparsityError) -> Int {
    guard let total else {
      throw .capacity("a memory that keeps every frame needs a length; give --seconds, or choose --memory window")
    }
    return total
  }

  public func evictions(from resident: [PageID], sealedFrames: Int, next: Int) -> Set<PageID> { [] }
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

  public func capacity(chunkFrames: Int, total: Int?) throws(SparsityError) -> Int {
    guard sink >= 0, window >= sink + chunkFrames else {
      throw .capacity(
        "a window of \(window) frames cannot hold a chunk of \(chunkFrames)"
          + (sink > 0 ? " beside a sink of \(sink)" : "") + "; the least is \(max(sink, 0) + chunkFrames)")
    }
    return min(window, total ?? window)
  }

  public func evictions(from resident: [PageID], sealedFrames: Int, next: Int) -> Set<PageID> {
    let oldest = sealedFrames - max(0, window - sink - next)
    return Set(resident.filter { $0.frame >= sink && $0.frame < oldest })
  }
}
