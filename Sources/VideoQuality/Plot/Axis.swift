import Foundation

/// A range of values and the round numbers marked on it.
struct Axis {
  let low: Double
  let high: Double
  let ticks: [Double]
  private let step: Double

  /// An axis that holds `values`.
  ///
  /// - Parameters:
  ///   - minimumSpan: the least that the axis spans, so that rounding does not look like motion.
  ///   - withZero: whether it begins at zero, or holds it.
  ///   - wanted: about how many marks.
  init(holding values: [Double], minimumSpan: Double, withZero: Bool, ticks wanted: Int = 4) {
    var (low, high) = (values.min() ?? 0, values.max() ?? 0)
    if withZero { (low, high) = (min(0, low), max(0, high)) }
    if high - low < minimumSpan {
      if withZero && low == 0 {
        high = minimumSpan
      } else {
        let middle = (low + high) / 2
        (low, high) = (middle - minimumSpan / 2, middle + minimumSpan / 2)
      }
    }
    let step = Axis.roundStep((high - low) / Double(wanted))
    self.step = step
    let (first, last) = ((low / step + 1e-6).rounded(.down), (high / step - 1e-6).rounded(.up))
    self.low = first * step
    self.high = last * step
    ticks = (0...Int(last - first)).map { (first + Double($0)) * step }
  }

  /// An axis from 0 to exactly `high`.
  init(upTo high: Double, step: Double) {
    low = 0
    self.high = high
    self.step = step
    ticks = Array(stride(from: 0, through: high * (1 + 1e-9), by: step))
  }

  /// 0 at the low end, 1 at the high one.
  func position(of value: Double) -> Double { (value - low) / (high - low) }

  /// A mark's number, with as many decimals as its step needs.
  func label(_ tick: Double) -> String {
    let decimals = max(0, min(6, Int((-log10(step) - 1e-9).rounded(.up))))
    return String(format: "%.\(decimals)f", tick == 0 ? 0 : tick)
  }

  /// 1, 2 or 5 times a power of ten, the least that is not below `rough`.
  static func roundStep(_ rough: Double) -> Double {
    let power = pow(10, log10(rough).rounded(.down))
    return [1.0, 2, 5, 10].first { $0 * power >= rough * (1 - 1e-9) }.map { $0 * power } ?? 10 * power
  }
}

/// Time along a plot: seconds, minutes or hours, whichever makes readable numbers; or plain frames.
struct TimeAxis {
  let axis: Axis
  let unit: String
  /// Of the unit in what the series are given in.
  let scale: Double

  init(seconds: Double) {
    if seconds < 120 {
      self.init(high: seconds, unit: "seconds", scale: 1)
    } else if seconds < 7200 {
      self.init(high: seconds, unit: "minutes", scale: 60)
    } else {
      self.init(high: seconds, unit: "hours", scale: 3600)
    }
  }

  init(latentFrames: Int) { self.init(high: Double(max(1, latentFrames - 1)), unit: "latent frames", scale: 1) }

  private init(high: Double, unit: String, scale: Double) {
    let high = max(1e-3, high / scale)
    axis = Axis(upTo: high, step: Axis.roundStep(high / 10))
    self.unit = unit
    self.scale = scale
  }

  func position(of time: Double) -> Double { axis.position(of: time / scale) }
}
