/// Where the chunks of an autoregressive video begin, in frames of the video.
///
/// Latent frame 0 becomes one frame, every later one four: the first `L` latent frames are 4 (L - 1) + 1 frames. A border is
/// the first frame of a chunk but the first.
public struct ChunkBorders: Sendable, Equatable {
  /// Frames of the video per latent frame, after the first.
  public static let timeFactor = 4
  /// Borders before the regular ones.
  private let early: [Int]
  /// The first border of a regular row without end, and the distance to the next; `nil` if there is none.
  private let regular: (first: Int, step: Int)?

  /// Chunks of the same number of latent frames, 1 or more.
  public init(chunkFrames: Int) {
    precondition(chunkFrames > 0, "a chunk of \(chunkFrames) latent frames")
    early = []
    let step = chunkFrames * ChunkBorders.timeFactor
    regular = (step - ChunkBorders.timeFactor + 1, step)
  }

  /// Chunks of these numbers of latent frames, such as 1, 3, 3, ... after an image. What follows the last is like those
  /// before.
  public init(latentFrames counts: [Int]) {
    precondition(counts.allSatisfy { $0 > 0 }, "chunks of \(counts) latent frames")
    // The last chunk may be shorter; what comes behind it does not matter.
    let before = counts.dropLast()
    var borders: [Int] = []
    var latents = 0
    for count in before {
      latents += count
      borders.append((latents - 1) * ChunkBorders.timeFactor + 1)
    }
    let uniform = before.reversed().prefix { $0 == before.last }.count
    early = Array(borders.prefix(borders.count - uniform))
    if uniform > 0, let first = borders.dropFirst(early.count).first, let count = before.last {
      regular = (first, count * ChunkBorders.timeFactor)
    } else {
      regular = nil
    }
  }

  /// Whether a chunk, but not the first, begins with this frame.
  public func contains(_ frame: Int) -> Bool {
    if let regular, frame >= regular.first { return (frame - regular.first) % regular.step == 0 }
    return early.contains(frame)
  }

  /// All borders in a video of `count` frames.
  public func frames(below count: Int) -> [Int] {
    let late = regular.map { Array(stride(from: $0.first, to: count, by: $0.step)) } ?? []
    return early.filter { $0 < count } + late
  }

  public static func == (a: ChunkBorders, b: ChunkBorders) -> Bool {
    a.early == b.early && a.regular?.first == b.regular?.first && a.regular?.step == b.regular?.step
  }
}
