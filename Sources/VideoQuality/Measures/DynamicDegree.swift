/// How much of the picture moves: the share of pixels whose optical flow over half a second is longer than 1 px.
///
/// The degree of VQeval's dynamic quality (LVSA, arXiv 2605.31057; specification §5.4), with pixels of a picture whose longer side
/// is 480. The measure is the mean over all pairs. Noise moves as much as anything.
public enum DynamicDegree {
  /// Pixels, at a longer side of 480.
  public static let threshold: Float = 1

  /// 0 to 1, of one pair.
  public static func of(_ flow: OpticalFlow) -> Double {
    Double(flow.magnitudes.count { $0 > threshold }) / Double(flow.right.count)
  }
}
