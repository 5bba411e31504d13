/// What ``VideoScorer`` found in the pixels of a video.
public struct VideoMeasures: Sendable, Encodable {
  public let frames: Int
  public let loop: LoopScore
  /// `nil` for a single frame.
  public let freeze: FreezeRate?
  /// `nil` for a single frame.
  public let motion: MotionMeasures?
  /// `nil` for a single frame.
  public let drift: Drift?
  /// `nil` if no three frames in a row are in one chunk.
  public let flicker: Flicker?
  /// `nil` if no chunk borders are known or none lies in the video.
  public let seams: SeamError?
  public let series: VideoSeries
}

/// Motion over half a second, on average over 32 pairs of frames.
public struct MotionMeasures: Sendable, Equatable, Encodable {
  /// ``DynamicDegree``, 0 to 1.
  public let dynamicDegree: Double
  /// ``DirectionEntropy``, 0 to 1; `nil` if nothing moves.
  public let directionEntropy: Double?
  /// Mean length of the optical flow, in pixels of a picture whose longer side is 480.
  public let flow: Double
}

/// The measures over time, of fixed length for a video of any length.
public struct VideoSeries: Sendable, Encodable {
  public let samples: SampleSeries
  /// Mean flow over 0.25 s.
  public let quarterFlow: PointSeries
  /// Mean flow over 0.5 s.
  public let halfFlow: PointSeries
  /// Mean absolute difference of neighbouring frames, in levels.
  public let change: BinnedSeries
  public let flicker: BinnedSeries
  /// Excess of each border over its surroundings, in levels.
  public let seams: BinnedSeries?
}

/// Appearance at up to 64 moments.
public struct SampleSeries: Sendable, Encodable {
  public let seconds: [Double]
  public let brightness: [Double]
  public let contrast: [Double]
  public let saturation: [Double]
  public let blue: [Double]
  public let red: [Double]
  public let sharpness: [Double]
  /// Cosine of the layout feature with the first frame's.
  public let similarity: [Double]
}

/// Values at moments.
public struct PointSeries: Sendable, Encodable {
  public let seconds: [Double]
  public let values: [Double]
}
