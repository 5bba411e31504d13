import Foundation

/// How little a video repeats itself or stands still: 100 is never, 24 a video of one picture.
///
/// VQeval's loop quality (LVSA, arXiv 2605.31057 and its evaluation package; specification §5.3). With unit features e_i of n
/// samples, M_ij = e_i·e_j, gap = max(3, n div 10), b_o the mean of M on diagonal o for o = 1 ... n div 2:
///
///     cycle            c = clamp01((max_{o > gap} b_o - mean b) / sd b / 3)      (sd b = 0: clamp01((mean b - 0.8) / 0.2))
///                          at least 0.8 if the mean of M off the diagonal is above 0.95, at least 0.5 if above 0.90
///     duplicates       d = min(1, 3 · share of pairs with j - i ≥ gap and M_ij > 0.97)
///     periodicity      f = clamp01((largest / whole power of the activity's spectrum without its mean - 0.3) / 0.4)
///     autocorrelation  a = clamp01(max_{3 ≤ l ≤ len/2} r(l)) of x_i = |e_{i+1} - e_i| less its mean (Σ x² < 1e-8: 0.8)
///     loop             100 (1 - 0.35 c - 0.25 d - 0.20 f - 0.20 a)
///
/// VQeval takes CLIP features and the mean optical flow as activity. Here features are the colour layout of frames
/// (``ColourLayout/feature``) or pooled latent frames (``LatentFeature``), which need no network, and samples are of a fixed
/// number: compare scores only with scores of the same kind. Known weakness: slow scenes count as loops, random pictures do not.
public struct LoopScore: Sendable, Equatable, Encodable {
  /// 0 to 100, more is better.
  public let score: Double
  /// Parts of the severity, 0 to 1 each, more is worse; absent with fewer than 10 samples.
  public let cycle: Double?
  public let duplicates: Double?
  public let periodicity: Double?
  public let autocorrelation: Double?
  /// The distance in samples at which pictures resemble each other most, beyond the gap.
  public let period: Int?
  /// Whether the cycle's part is above 0.4.
  public let cycleDetected: Bool
  /// The longest row of samples that equal those one period later (M > 0.97).
  public let longestStreak: Int
  public let samples: Int

  /// The score of fewer samples than ``minimumSamples``, which say nothing.
  public static let undecided = 80.0
  public static let minimumSamples = 10

  /// - Parameters:
  ///   - features: unit vectors of samples evenly spread over time.
  ///   - activity: how much moves, at about 30 moments evenly spread over time.
  public init(features: [[Float]], activity: [Double]) {
    samples = features.count
    let n = features.count
    guard n >= LoopScore.minimumSamples else {
      score = LoopScore.undecided
      (cycle, duplicates, periodicity, autocorrelation, period) = (nil, nil, nil, nil, nil)
      (cycleDetected, longestStreak) = (false, 0)
      return
    }
    let gap = max(3, n / 10)
    // diagonals[o - 1][i] = M_{i, i + o}
    let diagonals = (1..<n).map { o in (0..<n - o).map { Feature.cosine(features[$0], features[$0 + o]) } }
    let means = diagonals.prefix(n / 2).map { $0.reduce(0, +) / Double($0.count) }
    var peak = gap + 1
    for o in gap + 1...n / 2 where means[o - 1] > means[peak - 1] { peak = o }
    let (mean, deviation) = LoopScore.moments(means)
    // Rounding of equal features is no deviation.
    var c =
      deviation > 1e-7
      ? LoopScore.clamp((means[peak - 1] - mean) / deviation / 3) : LoopScore.clamp((mean - 0.8) / 0.2)
    let all = diagonals.joined()
    let overall = all.reduce(0, +) / Double(all.count)
    if overall > 0.95 { c = max(c, 0.8) } else if overall > 0.90 { c = max(c, 0.5) }
    let distant = diagonals.dropFirst(gap - 1).joined()
    let d = min(1, 3 * Double(distant.count { $0 > 0.97 }) / Double(max(1, distant.count)))
    let f = LoopScore.periodicity(of: activity)
    let a = LoopScore.autocorrelation(of: (0..<n - 1).map { Feature.distance(features[$0], features[$0 + 1]) })

    var (streak, longest) = (0, 0)
    for similarity in diagonals[peak - 1] {
      streak = similarity > 0.97 ? streak + 1 : 0
      longest = max(longest, streak)
    }
    score = 100 * (1 - (0.35 * c + 0.25 * d + 0.20 * f + 0.20 * a))
    (cycle, duplicates, periodicity, autocorrelation) = (c, d, f, a)
    period = peak
    cycleDetected = c > 0.4
    longestStreak = longest
  }

  /// Part f, of a series less its mean.
  static func periodicity(of activity: [Double]) -> Double {
    let n = activity.count
    let (mean, deviation) = moments(activity)
    guard n >= 4, deviation >= 1e-6 else { return 0 }
    let powers = (1...n / 2).map { k in
      var (real, imaginary) = (0.0, 0.0)
      for (i, value) in activity.enumerated() {
        let angle = 2 * Double.pi * Double(k * i % n) / Double(n)
        real += (value - mean) * cos(angle)
        imaginary += (value - mean) * sin(angle)
      }
      return real * real + imaginary * imaginary
    }
    let total = powers.reduce(0, +)
    guard total >= 1e-6, let largest = powers.max() else { return 0 }
    return clamp((largest / total - 0.3) / 0.4)
  }

  /// Part a, of the distances between neighbours.
  static func autocorrelation(of steps: [Double]) -> Double {
    let (mean, _) = moments(steps)
    let x = steps.map { $0 - mean }
    let power = x.reduce(0) { $0 + $1 * $1 }
    guard power >= 1e-8 else { return 0.8 }
    guard x.count / 2 >= 3 else { return 0 }
    let largest = (3...x.count / 2).map { lag in zip(x, x.dropFirst(lag)).reduce(0) { $0 + $1.0 * $1.1 } }.max() ?? 0
    return clamp(largest / power)
  }

  private static func clamp(_ value: Double) -> Double { min(1, max(0, value)) }

  /// Mean and population standard deviation.
  private static func moments(_ values: [Double]) -> (mean: Double, deviation: Double) {
    guard !values.isEmpty else { return (0, 0) }
    let mean = values.reduce(0, +) / Double(values.count)
    let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count)
    return (mean, variance.squareRoot())
  }
}
