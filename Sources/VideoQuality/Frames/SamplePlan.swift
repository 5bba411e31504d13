/// Which frames of a video are looked at closely: the same number for every length, evenly spread.
///
/// VQeval samples two frames a second, so that its scores of videos of different lengths cannot be compared
/// (arXiv 2605.31057, evaluation package). A fixed number of samples can.
public struct SamplePlan: Sendable, Equatable {
  /// Samples of a video with at least as many frames.
  public static let samples = 64
  /// Frames whose layout and appearance are taken; the first and the last of the video among them.
  public let frames: [Int]
  /// First frames of the pairs whose motion is measured, so that both partners exist.
  public let pairStarts: [Int]
  /// Frames in a quarter of a second, between the partners of a pair for the freeze rate; at least 1.
  public let quarter: Int
  /// Frames in half a second, between the partners of a pair for the degree and direction of motion; at least 1.
  public let half: Int

  /// - Parameters:
  ///   - count: frames of the video, at least 1.
  ///   - frameRate: frames per second.
  public init(count: Int, frameRate: Double) {
    precondition(count > 0 && frameRate > 0, "\(count) frames at \(frameRate) per second")
    frames = SamplePlan.spread(SamplePlan.samples, over: count)
    let longest = max(1, count - 1)
    quarter = min(longest, max(1, Int((frameRate / 4).rounded())))
    half = min(longest, max(1, Int((frameRate / 2).rounded())))
    pairStarts = SamplePlan.spread(SamplePlan.samples, over: count - half)
  }

  /// Whether the motion over half a second is measured for a pair, too: every second of 64 (VQeval: about 30 pairs).
  public func measuresHalf(pair: Int) -> Bool { pair % max(1, pairStarts.count / 30) == 0 }

  /// `wanted` numbers below `count`, evenly spread, the first and the last among them; all of them if there are fewer.
  static func spread(_ wanted: Int, over count: Int) -> [Int] {
    if count <= wanted { return Array(0..<max(0, count)) }
    return (0..<wanted).map { ($0 * (count - 1) + (wanted - 1) / 2) / (wanted - 1) }
  }
}
