/// How brightness, contrast, colour and sharpness change from a video's beginning to its end.
///
/// Autoregressive video drifts: errors of one chunk are the next one's past. Each ``Trend`` is a straight line through the 64
/// samples. Colour drifts by the distance in the plane of Cb and Cr:
///
///     colour = √(change(Cb)² + change(Cr)²)
public struct Drift: Sendable, Equatable, Encodable {
  /// Levels of 255.
  public let brightness: Trend
  public let contrast: Trend
  public let saturation: Trend
  public let blue: Trend
  public let red: Trend
  public let sharpness: Trend
  /// Levels of 255, 0 or more.
  public let colour: Double

  /// - Parameter samples: evenly spread over time, at least two.
  public init(_ samples: [Appearance]) {
    func trend(_ value: (Appearance) -> Double) -> Trend { Trend(samples.map(value)) }
    brightness = trend(\.brightness)
    contrast = trend(\.contrast)
    saturation = trend(\.saturation)
    blue = trend(\.blue)
    red = trend(\.red)
    sharpness = trend(\.sharpness)
    colour = (blue.change * blue.change + red.change * red.change).squareRoot()
  }
}

/// The least-squares line through a series over time 0 to 1.
public struct Trend: Sendable, Equatable, Encodable {
  public let mean: Double
  /// What the line rises from the first to the last sample.
  public let change: Double
  /// Standard error of `change`, if the residuals were independent (they are not quite: moving pictures change slowly).
  public let standardError: Double
  /// Whether `change` is more than twice its standard error, as VQeval decides on a slope.
  public let isDrift: Bool

  /// - Parameter values: evenly spaced, at least two.
  public init(_ values: [Double]) {
    precondition(values.count >= 2, "a line through \(values.count) points")
    let n = Double(values.count)
    let mean = values.reduce(0, +) / n
    var (products, squares) = (0.0, 0.0)
    for (i, value) in values.enumerated() {
      let t = Double(i) / (n - 1) - 0.5
      products += t * (value - mean)
      squares += t * t
    }
    let slope = products / squares
    let residual = values.enumerated().reduce(0.0) { sum, point in
      let error = point.element - mean - slope * (Double(point.offset) / (n - 1) - 0.5)
      return sum + error * error
    }
    self.mean = mean
    change = slope
    standardError = values.count > 2 ? (residual / (n - 2) / squares).squareRoot() : 0
    // A thousandth of a level is rounding.
    isDrift = values.count > 2 && abs(slope) > max(0.001, 2 * standardError)
  }
}
