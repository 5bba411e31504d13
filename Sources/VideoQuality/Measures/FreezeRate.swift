/// The share of moments at which the picture stands still: 1 is a still.
///
/// Of pairs of frames 0.25 s apart, those whose mean optical flow is below 0.1 px at a longer side of 480 px (specification of
/// LVSA, §5.10 (iii)). 64 pairs for every length.
public struct FreezeRate: Sendable, Equatable, Encodable {
  /// 0 to 1, less is better.
  public let rate: Double
  public let pairs: Int
  /// The longest row of frozen pairs, as a share of all.
  public let longest: Double

  /// Pixels, at a longer side of 480.
  public static let threshold = 0.1

  /// - Parameter magnitudes: the mean flow of each pair, in order of time; not empty.
  public init(magnitudes: [Double]) {
    precondition(!magnitudes.isEmpty, "no pairs")
    pairs = magnitudes.count
    rate = Double(magnitudes.count { $0 < FreezeRate.threshold }) / Double(pairs)
    var (run, longest) = (0, 0)
    for magnitude in magnitudes {
      run = magnitude < FreezeRate.threshold ? run + 1 : 0
      longest = max(longest, run)
    }
    self.longest = Double(longest) / Double(pairs)
  }
}
