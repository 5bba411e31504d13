extension RGBFrame {
  /// Writes a number into the upper left corner: light digits of 6 x 10 pixels on black, cut off where the frame ends.
  public mutating func stamp(_ number: Int) {
    let zoom = 2
    let digits = String(number.magnitude).utf8.map { Int($0) - 48 }
    // A border of one dot around 3 x 5 dots per digit, one dot apart.
    let dots = (width: digits.count * 4 + 1, height: 7)
    var stamped = pixels
    for y in 0..<min(dots.height * zoom, height) {
      for x in 0..<min(dots.width * zoom, width) {
        let (row, column) = (y / zoom - 1, x / zoom - 1)
        let isInside = (0..<5).contains(row) && column >= 0 && column % 4 < 3 && column / 4 < digits.count
        let isLit = isInside && digitRows[digits[column / 4]][row] >> (2 - column % 4) & 1 == 1
        for channel in 0..<3 { stamped[(y * width + x) * 3 + channel] = isLit ? 240 : 0 }
      }
    }
    pixels = stamped
  }
}

/// Rows of three dots for the digits 0 to 9.
private let digitRows: [[UInt8]] = [
  [0b111, 0b101, 0b101, 0b101, 0b111], [0b010, 0b110, 0b010, 0b010, 0b111], [0b111, 0b001, 0b111, 0b100, 0b111],
  [0b111, 0b001, 0b111, 0b001, 0b111], [0b101, 0b101, 0b111, 0b001, 0b001], [0b111, 0b100, 0b111, 0b001, 0b111],
  [0b111, 0b100, 0b111, 0b101, 0b111], [0b111, 0b001, 0b010, 0b010, 0b010], [0b111, 0b101, 0b111, 0b101, 0b111],
  [0b111, 0b101, 0b111, 0b001, 0b111],
]
