/// How the latent frames of a video are cut into chunks: all of one size, but perhaps the first.
///
/// A rollout that begins with an image has chunks of 1, 3, 3, ... latent frames. The last chunk is computed whole, and its
/// video is trimmed.
public struct ChunkLayout: Sendable, Equatable, Codable {
  /// Latent frames of every chunk but the first.
  public let frames: Int
  /// Latent frames of the first chunk, at most ``frames``.
  public let first: Int
  /// Length of the video in latent frames; nil for one without end.
  public let latentFrames: Int?

  /// - Parameter first: nil for a first chunk like the others.
  public init(frames: Int, first: Int? = nil, latentFrames: Int?) {
    precondition(
      frames >= 1 && (1...frames).contains(first ?? frames), "a first chunk of \(first ?? 0) before \(frames)")
    self.frames = frames
    self.first = first ?? frames
    self.latentFrames = latentFrames
  }

  /// Number of chunks; nil without end.
  public var count: Int? { latentFrames.map { 1 + max(0, $0 - first + frames - 1) / frames } }

  /// Latent frames that are computed, the last chunk whole; nil without end.
  public var computedFrames: Int? { count.map { start(of: $0) } }

  /// The first latent frame of a chunk.
  public func start(of chunk: Int) -> Int { chunk == 0 ? 0 : first + (chunk - 1) * frames }

  /// The latent frames of a chunk, as they are computed.
  public func range(of chunk: Int) -> Range<Int> { start(of: chunk)..<start(of: chunk + 1) }

  /// The chunk of a latent frame.
  public func chunk(of latentFrame: Int) -> Int { latentFrame < first ? 0 : 1 + (latentFrame - first) / frames }

  /// The first video frame of a chunk: the first latent frame is one video frame, each later one `framesPerLatent`.
  public func firstVideoFrame(of chunk: Int, framesPerLatent: Int = 4) -> Int {
    let start = start(of: chunk)
    return start == 0 ? 0 : framesPerLatent * (start - 1) + 1
  }
}
