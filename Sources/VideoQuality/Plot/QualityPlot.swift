import Foundation
import VideoIO

/// A report's measures over time, chunk borders marked.
public struct QualityPlot {
  private let report: QualityReport

  private static let blue = Ink(33, 98, 190)
  private static let orange = Ink(222, 110, 16)
  private static let green = Ink(30, 140, 70)
  private static let red = Ink(200, 40, 48)

  public init(_ report: QualityReport) { self.report = report }

  /// The plot, 1240 pixels wide.
  public func picture() -> RGBFrame {
    let rate = report.video.flatMap { try? FrameRate(parsing: $0.fps) }?.framesPerSecond
    let time =
      report.video.map { TimeAxis(seconds: $0.seconds) } ?? TimeAxis(latentFrames: report.latents?.frames ?? 1)
    let marks = report.chunks.flatMap { chunks in rate.map { rate in chunks.borders.map { Double($0) / rate } } } ?? []
    let plot = TimePlot(
      title: (report.input as NSString).lastPathComponent, subtitle: subtitle, time: time,
      panels: panels(rate: rate), marks: marks, markName: "chunk borders")
    return plot.picture()
  }

  private var subtitle: String {
    var words: [String] = []
    func number(_ value: Double, _ digits: Int) -> String { String(format: "%.\(digits)f", value) }
    if let pixels = report.pixels {
      words.append("loop \(number(pixels.loop.score, 1))")
      if let latents = report.latents { words.append("(latents \(number(latents.loop.score, 1)))") }
      if let freeze = pixels.freeze { words.append("freeze \(number(freeze.rate, 2))") }
      if let motion = pixels.motion { words.append("dynamic \(number(motion.dynamicDegree, 2))") }
      if let entropy = pixels.motion?.directionEntropy { words.append("entropy \(number(entropy, 2))") }
      if let flicker = pixels.flicker { words.append("flicker \(number(flicker.brightness, 2))") }
      if let seams = pixels.seams { words.append("seams \(number(seams.error, 2))") }
    } else if let latents = report.latents {
      words.append("latents only: loop \(number(latents.loop.score, 1))")
    }
    return words.joined(separator: "  ")
  }

  private func panels(rate: Double?) -> [TimePlot.Panel] {
    typealias Line = TimePlot.Line
    var panels: [TimePlot.Panel] = []
    // A latent frame is shown where the first of its frames is.
    func times(_ frames: [Int]) -> [Double] {
      frames.map { rate == nil ? Double($0) : Double(max(0, ChunkBorders.timeFactor * ($0 - 1) + 1)) / (rate ?? 1) }
    }
    var likeness: [Line] = []
    if let series = report.pixels?.series {
      let samples = series.samples
      func line(_ name: String, _ values: [Double], _ ink: Ink) -> Line {
        Line(name: name, times: samples.seconds, values: values, ink: ink)
      }
      panels.append(
        TimePlot.Panel(
          title: "brightness and contrast, levels",
          lines: [
            line("brightness", samples.brightness, QualityPlot.blue),
            line("contrast", samples.contrast, QualityPlot.orange),
          ], minimumSpan: 10))
      panels.append(
        TimePlot.Panel(
          title: "colour, levels",
          lines: [
            line("saturation", samples.saturation, QualityPlot.green), line("Cb", samples.blue, QualityPlot.blue),
            line("Cr", samples.red, QualityPlot.red),
          ], minimumSpan: 8, withZero: true))
      panels.append(
        TimePlot.Panel(
          title: "sharpness (deviation of the Laplacian), levels",
          lines: [line("", samples.sharpness, QualityPlot.blue)], minimumSpan: 4, withZero: true))
      likeness.append(line("pixels", samples.similarity, QualityPlot.blue))
    }
    if let latents = report.latents {
      let series = latents.similarity
      likeness.append(
        Line(name: "latents", times: times(series.frames), values: series.values, ink: QualityPlot.orange))
    }
    panels.append(
      TimePlot.Panel(title: "likeness to the beginning, cosine", lines: likeness, minimumSpan: 0.1))
    if report.pixels == nil, let change = report.latents?.change {
      let line = Line(name: "", times: times(change.frames), values: change.values, ink: QualityPlot.blue)
      panels.append(
        TimePlot.Panel(title: "change to the next latent frame", lines: [line], minimumSpan: 0.1, withZero: true))
    }
    guard let series = report.pixels?.series else { return panels }
    panels.append(
      TimePlot.Panel(
        title: "motion, px at 480; frozen below the dashes",
        lines: [
          Line(
            name: "in 0.5 s", times: series.halfFlow.seconds, values: series.halfFlow.values, ink: QualityPlot.orange),
          Line(
            name: "in 0.25 s", times: series.quarterFlow.seconds, values: series.quarterFlow.values,
            ink: QualityPlot.blue),
        ], minimumSpan: 0.5, withZero: true, threshold: FreezeRate.threshold))
    panels.append(
      TimePlot.Panel(
        title: "change from frame to frame, levels", lines: binned(series.change), minimumSpan: 1, withZero: true))
    panels.append(
      TimePlot.Panel(title: "flicker, levels", lines: binned(series.flicker), minimumSpan: 1, withZero: true))
    if let seams = series.seams {
      let line = Line(name: "", times: seams.seconds, values: seams.maximum, ink: QualityPlot.red, isDots: true)
      panels.append(
        TimePlot.Panel(
          title: "seam error of chunk borders, levels", lines: [line], minimumSpan: 1, withZero: true))
    }
    return panels
  }

  /// The maximum behind the mean; the mean alone if both are the same.
  private func binned(_ series: BinnedSeries) -> [TimePlot.Line] {
    let mean = TimePlot.Line(name: "mean", times: series.seconds, values: series.mean, ink: QualityPlot.blue)
    if series.mean == series.maximum {
      return [TimePlot.Line(name: "", times: series.seconds, values: series.mean, ink: QualityPlot.blue)]
    }
    let maximum = TimePlot.Line(
      name: "maximum", times: series.seconds, values: series.maximum, ink: Ink(236, 176, 128))
    return [maximum, mean]
  }
}
