/// A colour of a plot.
package struct Ink: Equatable, Sendable {
  package var red: UInt8
  package var green: UInt8
  package var blue: UInt8

  package init(_ red: UInt8, _ green: UInt8, _ blue: UInt8) { (self.red, self.green, self.blue) = (red, green, blue) }

  package static let white = Ink(255, 255, 255)
  package static let black = Ink(30, 30, 34)
  package static let grey = Ink(112, 112, 120)
  package static let pale = Ink(226, 226, 232)
  package static let border = Ink(196, 208, 236)
}

/// A small rasteriser: rectangles, smooth lines, discs, text and pictures on a background. What lies outside is cut off.
package struct Canvas {
  package let width: Int
  package let height: Int
  private var pixels: [UInt8]

  package init(width: Int, height: Int, background: Ink = .white) {
    self.width = width
    self.height = height
    pixels =
      RGBFrame(width: width, height: height, red: background.red, green: background.green, blue: background.blue).pixels
  }

  package var picture: RGBFrame { RGBFrame(width: width, height: height, pixels: pixels) }

  /// Mixes `ink` into one pixel.
  private mutating func blend(_ x: Int, _ y: Int, _ ink: Ink, _ share: Double) {
    guard x >= 0, y >= 0, x < width, y < height, share > 0 else { return }
    let i = (y * width + x) * 3
    for (channel, value) in [ink.red, ink.green, ink.blue].enumerated() {
      let old = Double(pixels[i + channel])
      pixels[i + channel] = UInt8((old + (Double(value) - old) * min(1, share)).rounded())
    }
  }

  /// Columns `x..<x + width`, rows `y..<y + height`; `share` of the ink is mixed in.
  package mutating func fill(x: Int, y: Int, width: Int, height: Int, _ ink: Ink, share: Double = 1) {
    for row in max(0, y)..<max(0, y, min(self.height, y + height)) {
      for column in max(0, x)..<max(0, x, min(self.width, x + width)) { blend(column, row, ink, share) }
    }
  }

  /// A picture whose upper left corner is at (x, y).
  package mutating func draw(_ picture: RGBFrame, x: Int, y: Int) {
    for row in max(0, -y)..<max(0, -y, min(picture.height, height - y)) {
      for column in max(0, -x)..<max(0, -x, min(picture.width, width - x)) {
        let (from, to) = ((row * picture.width + column) * 3, ((y + row) * width + x + column) * 3)
        for channel in 0..<3 { pixels[to + channel] = picture.pixels[from + channel] }
      }
    }
  }

  /// The edges of columns `x..<x + width`, rows `y..<y + height`, `thickness` pixels wide to the inside.
  package mutating func frame(x: Int, y: Int, width: Int, height: Int, thickness: Int = 1, _ ink: Ink) {
    fill(x: x, y: y, width: width, height: thickness, ink)
    fill(x: x, y: y + height - thickness, width: width, height: thickness, ink)
    fill(x: x, y: y, width: thickness, height: height, ink)
    fill(x: x + width - thickness, y: y, width: thickness, height: height, ink)
  }

  /// A stroke with round ends; a pixel is covered by how near its centre is.
  package mutating func line(
    from a: (x: Double, y: Double), to b: (x: Double, y: Double), _ ink: Ink, thickness: Double = 1.8
  ) {
    let reach = thickness / 2 + 1
    let (dx, dy) = (b.x - a.x, b.y - a.y)
    let length = dx * dx + dy * dy
    let columns = clipped(min(a.x, b.x) - reach, max(a.x, b.x) + reach, width)
    for y in clipped(min(a.y, b.y) - reach, max(a.y, b.y) + reach, height) {
      for x in columns {
        let (px, py) = (Double(x) - a.x, Double(y) - a.y)
        let t = length > 0 ? max(0, min(1, (px * dx + py * dy) / length)) : 0
        let (ex, ey) = (px - t * dx, py - t * dy)
        blend(x, y, ink, thickness / 2 + 0.5 - (ex * ex + ey * ey).squareRoot())
      }
    }
  }

  package mutating func disc(at centre: (x: Double, y: Double), radius: Double, _ ink: Ink) {
    line(from: centre, to: centre, ink, thickness: 2 * radius)
  }

  /// Text in letters of 5 x 7 dots, `zoom` pixels each, whose upper left corner is at (x, y).
  package mutating func text(_ text: String, x: Int, y: Int, _ ink: Ink, zoom: Int = 2) {
    for (i, character) in text.enumerated() {
      let columns = DotFont.columns(of: character)
      for (column, bits) in columns.enumerated() {
        for row in 0..<8 where bits >> row & 1 == 1 {
          fill(
            x: x + (i * DotFont.advance + column) * zoom, y: y + row * zoom, width: zoom, height: zoom, ink)
        }
      }
    }
  }

  /// Pixels that a text is wide.
  package static func width(of text: String, zoom: Int = 2) -> Int { (text.count * DotFont.advance - 1) * zoom }

  private func clipped(_ low: Double, _ high: Double, _ size: Int) -> Range<Int> {
    let first = max(0, min(size, Int(max(-1, low).rounded(.down))))
    return first..<max(first, min(size, Int(min(Double(size), high).rounded(.up)) + 1))
  }
}
