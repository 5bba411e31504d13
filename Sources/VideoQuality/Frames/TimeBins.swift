/// A value per frame, kept as means and maxima of equal stretches of time, so that a video of any length takes the same room.
public struct TimeBins: Sendable {
  /// Stretches of a video with at least as many frames.
  public static let bins = 240
  private let count: Int
  private var sums: [Double]
  private var maxima: [Double]
  private var counts: [Int]

  /// - Parameter count: frames of the video, at least 1.
  init(over count: Int) {
    self.count = count
    let bins = min(TimeBins.bins, count)
    sums = [Double](repeating: 0, count: bins)
    maxima = [Double](repeating: -.infinity, count: bins)
    counts = [Int](repeating: 0, count: bins)
  }

  mutating func add(_ value: Double, frame: Int) {
    let bin = min(sums.count - 1, frame * sums.count / count)
    sums[bin] += value
    maxima[bin] = max(maxima[bin], value)
    counts[bin] += 1
  }

  /// What was added, of stretches that got anything.
  ///
  /// - Parameter rate: frames per second.
  func series(rate: Double) -> BinnedSeries {
    let filled = sums.indices.filter { counts[$0] > 0 }
    return BinnedSeries(
      seconds: filled.map { (Double($0) + 0.5) * Double(count) / Double(sums.count) / rate },
      mean: filled.map { sums[$0] / Double(counts[$0]) }, maximum: filled.map { maxima[$0] })
  }
}

/// Means and maxima over time.
public struct BinnedSeries: Sendable, Encodable {
  /// Middle of each stretch.
  public let seconds: [Double]
  public let mean: [Double]
  public let maximum: [Double]
}
