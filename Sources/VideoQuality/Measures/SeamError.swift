/// How much more the picture changes where a new chunk begins than inside of the chunks around.
///
/// With D(t) the mean absolute difference of frames t - 1 and t over all pixels and channels (levels of 255), and m(b) the median
/// of D(b - 8), D(b - 4), D(b + 4) and D(b + 8), of those that are no borders themselves:
///
///     error = mean_b (D(b) - m(b)),   ratio = Σ_b D(b) / Σ_b m(b)
///
/// Like a border, those are the first frames of latent frames: a decoder changes more there than between them, chunk or no chunk,
/// and that is not a seam. Where all of them are borders, m(b) is the median over the other frames at most 8 away. A rollout
/// without seams has an error of about 0 and a ratio of about 1; a step of brightness by 10 levels at each border adds 10 to
/// the error of a still. `outliers` is the share of borders that change more than every frame at most 8 away: 1 in 17
/// would by chance. All borders count, however many.
public struct SeamError: Sendable, Equatable, Encodable {
  public let borders: Int
  /// Levels of 255.
  public let error: Double
  public let ratio: Double
  /// 0 to 1.
  public let outliers: Double
  /// The largest D(b) - m(b), and where it is.
  public let worst: Double
  public let worstFrame: Int
}

/// Takes the differences of a video one after the other.
struct SeamMeter {
  /// Frames on either side of a border that it is compared with: two latent frames.
  static let reach = 2 * ChunkBorders.timeFactor
  private(set) var bins: TimeBins
  /// The last differences, at most `2 reach + 1`: the newest at the end.
  private var recent: [(frame: Int, difference: Double, isBorder: Bool)] = []
  private var (borders, outliers) = (0, 0)
  private var (excess, atBorders, inside) = (0.0, 0.0, 0.0)
  private var worst: (excess: Double, frame: Int)?

  init(frames: Int) { bins = TimeBins(over: frames) }

  /// - Parameters:
  ///   - difference: D of this frame, which is not the first of the video.
  ///   - isBorder: whether a chunk begins with this frame.
  mutating func add(difference: Double, frame: Int, isBorder: Bool) {
    recent.append((frame, difference, isBorder))
    if recent.count > 2 * SeamMeter.reach + 1 { recent.removeFirst() }
    // The border whose surroundings are complete with this frame.
    if let border = recent.last(where: { $0.frame == frame - SeamMeter.reach }), border.isBorder { judge(border) }
  }

  /// The result, with the borders too near to the end to have all of their surroundings.
  mutating func finish() -> SeamError? {
    if let last = recent.last?.frame {
      for border in recent where border.isBorder && border.frame > last - SeamMeter.reach { judge(border) }
    }
    guard borders > 0, let worst else { return nil }
    // In a video of stills the ratio is that of equals.
    let ratio = inside > 0 ? atBorders / inside : atBorders > 0 ? atBorders / 1e-3 : 1
    return SeamError(
      borders: borders, error: excess / Double(borders), ratio: min(ratio, 1e6),
      outliers: Double(outliers) / Double(borders), worst: worst.excess, worstFrame: worst.frame)
  }

  private mutating func judge(_ border: (frame: Int, difference: Double, isBorder: Bool)) {
    let around = recent.filter { !$0.isBorder && abs($0.frame - border.frame) <= SeamMeter.reach }
    let alike = around.filter { ($0.frame - border.frame) % ChunkBorders.timeFactor == 0 }
    let reference = (alike.isEmpty ? around : alike).map(\.difference).sorted()
    guard !reference.isEmpty, let largest = around.map(\.difference).max() else { return }
    let median = (reference[(reference.count - 1) / 2] + reference[reference.count / 2]) / 2
    let value = border.difference - median
    borders += 1
    excess += value
    atBorders += border.difference
    inside += median
    if border.difference > largest { outliers += 1 }
    if value > worst?.excess ?? -.infinity { worst = (value, border.frame) }
    bins.add(value, frame: border.frame)
  }
}
