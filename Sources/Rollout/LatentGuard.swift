import Compute
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Keeps the statistics of latents near those of the beginning: a guard against slow drift (of brightness, contrast,
/// colour), which feeds on itself in a long rollout. Not exact: it changes what the model made.
///
/// The first ``chunks`` chunks are left alone; their mean m and standard deviation s per channel are the reference. Of each
/// later chunk, with mean u and standard deviation d of a channel and the limit k,
///
///     u' = u limited to m - k s ... m + k s,   d' = d limited to s / (1 + k) ... s (1 + k),   x' = (x - u) d' / d + u'
///
/// before its clean pass, so that the memory holds the limited latents. k = 0 pins both, a large k never acts.
public struct LatentGuard: Sendable, Codable, Equatable {
  /// k, at least 0.
  public let limit: Double
  /// Chunks that the reference is taken of.
  public let chunks: Int
  private var seen = 0
  /// Per channel: sums of the numbers and of their squares over the first chunks, and how many.
  private var sums: [Double] = []
  private var squares: [Double] = []
  private var count = 0

  public init(limit: Double, chunks: Int = 4) {
    precondition(limit >= 0 && chunks >= 1, "a guard with the limit \(limit) over \(chunks) chunks")
    self.limit = limit
    self.chunks = chunks
  }

  /// The latents of the next chunk, `[frames, channels, height, width]`, limited.
  package mutating func apply(_ x: DeviceTensor, on backend: any Backend) -> DeviceTensor {
    let (frames, channels, plane) = (x.shape[0], x.shape[1], x.shape[2] * x.shape[3])
    let values = backend.download(x).floats()
    var (sum, square) = ([Double](repeating: 0, count: channels), [Double](repeating: 0, count: channels))
    for frame in 0..<frames {
      for channel in 0..<channels {
        let start = (frame * channels + channel) * plane
        for value in values[start..<start + plane] {
          sum[channel] += Double(value)
          square[channel] += Double(value) * Double(value)
        }
      }
    }
    defer { seen += 1 }
    if seen < chunks {
      if sums.isEmpty { (sums, squares) = (sum.map { _ in 0 }, sum.map { _ in 0 }) }
      for channel in 0..<channels {
        sums[channel] += sum[channel]
        squares[channel] += square[channel]
      }
      count += frames * plane
      return x
    }
    var (scales, shifts, acts) = ([Float](), [Float](), false)
    for channel in 0..<channels {
      let (m, s) = LatentGuard.statistics(sums[channel], squares[channel], count)
      let (u, d) = LatentGuard.statistics(sum[channel], square[channel], frames * plane)
      let mean = min(max(u, m - limit * s), m + limit * s)
      let deviation = min(max(d, s / (1 + limit)), s * (1 + limit))
      acts = acts || mean != u || deviation != d
      let scale = d > 0 ? deviation / d : 1
      scales.append(Float(scale))
      shifts.append(Float(mean - u * scale))
    }
    if !acts { return x }
    let limited = backend.scaleChannels(
      backend.channelsLast(x), scale: backend.upload(Tensor(scales, shape: [channels])),
      shift: backend.upload(Tensor(shifts, shape: [channels])))
    return backend.channelsFirst(limited)
  }

  private static func statistics(_ sum: Double, _ square: Double, _ count: Int) -> (mean: Double, deviation: Double) {
    let mean = sum / Double(count)
    return (mean, max(0, square / Double(count) - mean * mean).squareRoot())
  }
}
