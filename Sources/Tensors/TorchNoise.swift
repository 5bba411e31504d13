/// The noise of the Self-Forcing repository with `torch.manual_seed(seed)` on the CPU: first the whole clip
/// `[totalFrames, channels, height, width]` is drawn, then one chunk for each re-noising, all from one generator
/// (`inference.py`, `pipeline/causal_inference.py`).
///
/// The clip is never held: one generator walks through it chunk by chunk, a second one starts behind it and serves the
/// re-noising. The value is small and can be written between any two calls; read back, it continues exactly.
public struct TorchNoise: ChunkNoise, Codable, Equatable {
  public let seed: UInt64
  /// Latent frames of the whole clip, its last chunk whole.
  public let totalFrames: Int
  private let channels: Int
  private let height: Int
  private let width: Int
  private var clip: ClipReader
  private var renoising: TorchGenerator
  private var nextFrame = 0
  private var nextChunk = 0
  private var lastRenoise: [Int] = []

  /// - Parameters:
  ///   - seed: as for `torch.manual_seed`; only the low 32 bits count, as in PyTorch.
  ///   - totalFrames: latent frames of the whole clip; a last chunk that is cut in the video counts whole.
  public init(seed: UInt64, totalFrames: Int, channels: Int, height: Int, width: Int) {
    self.seed = seed
    self.totalFrames = totalFrames
    (self.channels, self.height, self.width) = (channels, height, width)
    clip = ClipReader(seed: seed, count: totalFrames * channels * height * width)
    renoising = clip.behind
  }

  /// - Throws: ``OrderError`` unless chunks are asked for in order, once, and within the clip.
  public mutating func initial(
    chunk: Int, frames: Int, channels: Int, height: Int, width: Int
  ) throws -> Tensor {
    try check(channels, height, width)
    guard chunk == nextChunk, nextFrame + frames <= totalFrames else {
      throw OrderError(
        description: "torch noise gives chunk \(nextChunk) of \(totalFrames - nextFrame) latent frames or fewer next; "
          + "chunk \(chunk) of \(frames) was asked for")
    }
    nextChunk += 1
    nextFrame += frames
    return Tensor(clip.next(frames * channels * height * width), shape: [frames, channels, height, width])
  }

  /// - Throws: ``OrderError`` unless chunks and steps are asked for in order.
  public mutating func renoise(
    chunk: Int, step: Int, frames: Int, channels: Int, height: Int, width: Int
  ) throws -> Tensor {
    try check(channels, height, width)
    guard lastRenoise.lexicographicallyPrecedes([chunk, step]) else {
      throw OrderError(description: "torch noise was asked for chunk \(chunk), step \(step) after \(lastRenoise)")
    }
    lastRenoise = [chunk, step]
    return Tensor(renoising.normals(frames * channels * height * width), shape: [frames, channels, height, width])
  }

  private func check(_ channels: Int, _ height: Int, _ width: Int) throws(OrderError) {
    guard (channels, height, width) == (self.channels, self.height, self.width) else {
      throw OrderError(
        description: "torch noise is drawn for frames of \([self.channels, self.height, self.width]), "
          + "not \([channels, height, width])")
    }
  }

  /// A sequential generator was asked for numbers out of order.
  public struct OrderError: Error, Equatable, CustomStringConvertible {
    public let description: String
  }
}

/// Gives the elements of one large `torch.randn` in portions.
///
/// Groups of 16 elements are independent of each other, but for the last 16 elements of a count that is no multiple of 16:
/// these are drawn after all others.
private struct ClipReader: Sendable, Codable, Equatable {
  /// The generator as it stands once the whole clip is drawn.
  let behind: TorchGenerator
  private let count: Int
  private var generator: TorchGenerator
  /// Elements that are computed but not given yet, and the number of all computed so far.
  private var ready: [Float] = []
  private var computed = 0

  init(seed: UInt64, count: Int) {
    self.count = count
    generator = TorchGenerator(seed: seed)
    var last = generator
    if count < 16 {
      ready = last.normals(count)
      computed = count
    } else {
      last.skip(TorchGenerator.words(of: count))
    }
    behind = last
  }

  mutating func next(_ wanted: Int) -> [Float] {
    // Whole groups that lie before the last 16 elements.
    let body = count % 16 == 0 ? count : count - 16
    if ready.count < wanted, computed < body {
      let missing = min((wanted - ready.count + 15) / 16 * 16, (body - computed + 15) / 16 * 16)
      let group = generator.normals(missing)
      let used = min(missing, body - computed)
      ready += group[..<used]
      computed += used
    }
    if ready.count < wanted, computed < count {
      // Groups are drawn whole: so far `computed` rounded up to 16 of the `count` words of the first pass.
      generator.skip(count - (computed + 15) / 16 * 16)
      ready += generator.normals(16)
      computed = count
    }
    precondition(ready.count >= wanted, "\(wanted) elements asked of a clip that has \(ready.count) left")
    defer { ready.removeFirst(wanted) }
    return Array(ready[..<wanted])
  }
}
