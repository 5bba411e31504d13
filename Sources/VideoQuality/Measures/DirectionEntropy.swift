import Foundation

/// In how many directions the picture moves: 0 if in one, 1 if in all equally.
///
/// The diversity of VQeval's dynamic quality (LVSA, arXiv 2605.31057; specification §5.4): the entropy of the directions of all
/// pixels that move more than 1 px, in 16 bins, over its maximum of 4 bits:
///
///     H = -Σ p_k log2 p_k / 4
///
/// The measure is the mean over pairs; pairs with too few moving pixels are skipped.
public enum DirectionEntropy {
  public static let bins = 16
  /// Moving pixels that a pair needs in a picture of 480 x 270; in proportion in others, but at least 16.
  public static let minimumPixels = 100.0

  /// Of one pair; `nil` if too little moves.
  public static func of(_ flow: OpticalFlow) -> Double? {
    var counts = [Int](repeating: 0, count: bins)
    for (u, v) in zip(flow.right, flow.down)
    where u * u + v * v > DynamicDegree.threshold * DynamicDegree.threshold {
      let turn = (Double(atan2(v, u)) / (2 * .pi) + 1).truncatingRemainder(dividingBy: 1)
      // Bins are centred on the axes, so that a pan to the right falls into one.
      counts[Int((turn * Double(bins)).rounded()) % bins] += 1
    }
    let total = counts.reduce(0, +)
    guard Double(total) >= max(16, minimumPixels * Double(flow.right.count) / (480 * 270)) else { return nil }
    let entropy = counts.filter { $0 > 0 }.reduce(0.0) { sum, count in
      let p = Double(count) / Double(total)
      return sum - p * log2(p)
    }
    return entropy / log2(Double(bins))
  }
}
