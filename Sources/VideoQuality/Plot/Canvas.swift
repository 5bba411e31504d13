import VideoIO

/// A colour of a plot.
struct Ink: Equatable {
  var red: UInt8
  var green: UInt8
  var blue: UInt8

  init(_ red: UInt8, _ green: UInt8, _ blue: UInt8) { (self.red, self.green, self.blue) = (red, green, blue) }

  static let white = Ink(255, 255, 255)
  static let black = Ink(30, 30, 34)
  static let grey = Ink(112, 112, 120)
  static let pale = Ink(226, 226, 232)
  static let border = Ink(196, 208, 236)
}

/// A small rasteriser: rectangles, smooth lines, discs and text on a white picture. What lies outside is cut off.
struct Canvas {
  let width: Int
  let height: Int
  private var pixels: [UInt8]

  init(width: Int, height: Int) {
    self.width = width
    self.height = height
    pixels = [UInt8](repeating: 255, count: width * height * 3)
  }

  var picture: RGBFrame { RGBFrame(width: width, height: height, pixels: pixels) }

  /// Mixes `ink` into one pixel.
  private mutating func blend(_ x: Int, _ y: Int, _ ink: Ink, _ share: Double) {
    guard x >= 0, y >= 0, x < width, y < height, share > 0 else { return }
    let i = (y * width + x) * 3
    for (channel, value) in [ink.red, ink.green, ink.blue].enumerated() {
      let old = Double(pixels[i + channel])
      pixels[i + channel] = UInt8((old + (Double(value) - old) * min(1, share)).rounded())
    }
  }

  /// Columns `x..<x + width`, rows `y..<y + height`.
  mutating func fill(x: Int, y: Int, width: Int, height: Int, _ ink: Ink) {
    for row in max(0, y)..<max(0, y, min(self.height, y + height)) {
      for column in max(0, x)..<max(0, x, min(self.width, x + width)) { blend(column, row, ink, 1) }
    }
  }

  /// A stroke with round ends; a pixel is covered by how near its centre is.
  mutating func line(
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

  mutating func disc(at centre: (x: Double, y: Double), radius: Double, _ ink: Ink) {
    line(from: centre, to: centre, ink, thickness: 2 * radius)
  }

  /// Text in letters of 5 x 7 dots, `zoom` pixels each, whose upper left corner is at (x, y).
  mutating func text(_ text: String, x: Int, y: Int, _ ink: Ink, zoom: Int = 2) {
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
  static func width(of text: String, zoom: Int = 2) -> Int { (text.count * DotFont.advance - 1) * zoom }

  private func clipped(_ low: Double, _ high: Double, _ size: Int) -> Range<Int> {
    let first = max(0, min(size, Int(max(-1, low).rounded(.down))))
    return first..<max(first, min(size, Int(min(Double(size), high).rounded(.up)) + 1))
  }
}
