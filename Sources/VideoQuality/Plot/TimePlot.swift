import VideoIO

/// Panels of lines over one time axis, with vertical marks through all of them.
struct TimePlot {
  struct Line {
    var name: String
    var times: [Double]
    var values: [Double]
    var ink: Ink
    /// Single points and stems instead of a line.
    var isDots = false
  }

  struct Panel {
    var title: String
    var lines: [Line]
    /// The least that the vertical axis spans.
    var minimumSpan: Double
    var withZero = false
    /// A horizontal line that means something.
    var threshold: Double?
  }

  var title: String
  var subtitle: String
  var time: TimeAxis
  var panels: [Panel]
  /// Times of the vertical marks, in order.
  var marks: [Double] = []
  /// What the marks are.
  var markName = ""

  private static let (width, left, right) = (1240, 96, 28)
  private static let (top, panelHeight, panelGap, bottom) = (72, 118, 38, 58)

  /// Draws it.
  func picture() -> RGBFrame {
    let height = TimePlot.top + panels.count * (TimePlot.panelHeight + TimePlot.panelGap) + TimePlot.bottom
    var canvas = Canvas(width: TimePlot.width, height: height)
    canvas.text(fitted(title, zoom: 3), x: 20, y: 14, .black, zoom: 3)
    canvas.text(fitted(subtitle, zoom: 2), x: 20, y: 46, .grey)
    var y = TimePlot.top + 26
    for panel in panels {
      draw(panel, top: y, on: &canvas)
      y += TimePlot.panelHeight + TimePlot.panelGap
    }
    drawTime(top: y - TimePlot.panelGap + 6, on: &canvas)
    return canvas.picture
  }

  private var plotWidth: Int { TimePlot.width - TimePlot.left - TimePlot.right }

  private func x(_ time: Double) -> Double { Double(TimePlot.left) + position(time) * Double(plotWidth) }

  private func position(_ time: Double) -> Double { max(0, min(1, self.time.position(of: time))) }

  private func draw(_ panel: Panel, top: Int, on canvas: inout Canvas) {
    let (left, height) = (TimePlot.left, TimePlot.panelHeight)
    let axis = Axis(
      holding: panel.lines.flatMap(\.values) + (panel.threshold.map { [$0] } ?? []), minimumSpan: panel.minimumSpan,
      withZero: panel.withZero)
    func y(_ value: Double) -> Double { Double(top) + (1 - axis.position(of: value)) * Double(height) }
    for mark in shownMarks { canvas.fill(x: Int(x(mark).rounded()), y: top, width: 1, height: height, .border) }
    for tick in axis.ticks {
      let row = Int(y(tick).rounded())
      canvas.fill(x: left, y: row, width: plotWidth, height: 1, .pale)
      let label = axis.label(tick)
      canvas.text(label, x: left - 8 - Canvas.width(of: label), y: row - 7, .grey)
    }
    canvas.fill(x: left, y: top, width: 1, height: height + 1, .grey)
    canvas.fill(x: left, y: top + height, width: plotWidth, height: 1, .grey)
    if let threshold = panel.threshold {
      let row = Int(y(threshold).rounded())
      for column in stride(from: left, to: left + plotWidth, by: 10) {
        canvas.fill(x: column, y: row, width: 5, height: 1, .black)
      }
    }
    for line in panel.lines {
      let points = zip(line.times, line.values).map { (x: x($0), y: y($1)) }
      if line.isDots {
        for point in points {
          canvas.line(from: (point.x, y(max(axis.low, min(0, axis.high)))), to: point, line.ink, thickness: 1)
          canvas.disc(at: point, radius: 2.4, line.ink)
        }
      } else if points.count == 1 {
        canvas.disc(at: points[0], radius: 2.4, line.ink)
      } else {
        for (a, b) in zip(points, points.dropFirst()) { canvas.line(from: a, to: b, line.ink) }
      }
    }
    canvas.text(panel.title, x: left, y: top - 20, .black)
    // Names of the lines, from the right, each in its colour.
    var end = left + plotWidth
    for line in panel.lines.reversed() where !line.name.isEmpty {
      end -= Canvas.width(of: line.name)
      canvas.text(line.name, x: end, y: top - 20, line.ink)
      canvas.fill(x: end - 26, y: top - 14, width: 18, height: 3, line.ink)
      end -= 48
    }
  }

  private func drawTime(top: Int, on canvas: inout Canvas) {
    for tick in time.axis.ticks {
      let column = Int(x(tick * time.scale).rounded())
      canvas.fill(x: column, y: top - 6, width: 1, height: 6, .grey)
      let label = time.axis.label(tick)
      canvas.text(
        label, x: min(column - Canvas.width(of: label) / 2, TimePlot.width - Canvas.width(of: label) - 2), y: top + 4,
        .grey)
    }
    canvas.text(time.unit, x: TimePlot.left + plotWidth / 2 - Canvas.width(of: time.unit) / 2, y: top + 26, .black)
    guard !marks.isEmpty else { return }
    let words = markStep == 1 ? markName : "\(markName) (1 in \(markStep) shown)"
    canvas.fill(x: TimePlot.left, y: top + 25, width: 2, height: 16, .border)
    canvas.text(words, x: TimePlot.left + 10, y: top + 26, .grey)
  }

  /// Marks nearer than twelve pixels would cover the panel.
  private var markStep: Int {
    max(1, Int((12 * Double(marks.count) / Double(plotWidth)).rounded(.up)))
  }

  private var shownMarks: [Double] { stride(from: 0, to: marks.count, by: markStep).map { marks[$0] } }

  private func fitted(_ text: String, zoom: Int) -> String {
    let room = (TimePlot.width - 40) / (DotFont.advance * zoom)
    return text.count <= room ? text : text.prefix(room - 3) + "..."
  }
}
