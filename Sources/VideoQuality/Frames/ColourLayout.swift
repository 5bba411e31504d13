import VideoIO

/// Mean colours of a grid of cells over a frame: what every single frame is asked for, cheap enough for all of them.
public struct ColourLayout: Sendable {
  /// Cells in a row and in a column; fewer only in frames of fewer pixels.
  public static let cells = 8
  /// Y', Cb and Cr of each cell, row by row, as BT.709 has them of encoded values: Y' 0 to 255, Cb and Cr around 0.
  public let luma: [Float]
  public let blue: [Float]
  public let red: [Float]
  /// Mean Y' of all pixels.
  public let brightness: Double

  public init(_ frame: RGBFrame) {
    let (columns, rows) = (min(ColourLayout.cells, frame.width), min(ColourLayout.cells, frame.height))
    let edges = (0...columns).map { $0 * frame.width / columns * 3 }
    var sums = [Int](repeating: 0, count: columns * rows * 3)
    for y in 0..<frame.height {
      // The row of cells whose pixels start at `row * height / rows`.
      let row = min(rows - 1, ((y + 1) * rows - 1) / frame.height)
      let base = y * frame.width * 3
      for column in 0..<columns {
        var (red, green, blue) = (0, 0, 0)
        var i = base + edges[column]
        let end = base + edges[column + 1]
        while i < end {
          red += Int(frame.pixels[i])
          green += Int(frame.pixels[i + 1])
          blue += Int(frame.pixels[i + 2])
          i += 3
        }
        let cell = (row * columns + column) * 3
        sums[cell] += red
        sums[cell + 1] += green
        sums[cell + 2] += blue
      }
    }
    var counts = [Int](repeating: 0, count: rows)
    for y in 0..<frame.height { counts[min(rows - 1, ((y + 1) * rows - 1) / frame.height)] += 1 }
    var (luma, blue, red) = ([Float](), [Float](), [Float]())
    var total = 0.0
    for cell in 0..<columns * rows {
      let column = cell % columns
      let count = Float(counts[cell / columns] * (edges[column + 1] - edges[column]) / 3)
      let (r, g, b) = (Float(sums[3 * cell]), Float(sums[3 * cell + 1]), Float(sums[3 * cell + 2]))
      let y = 0.2126 * r + 0.7152 * g + 0.0722 * b
      total += Double(y)
      luma.append(y / count)
      blue.append((b - y) / count / 1.8556)
      red.append((r - y) / count / 1.5748)
    }
    self.luma = luma
    self.blue = blue
    self.red = red
    brightness = total / Double(frame.width * frame.height)
  }

  /// The pixel feature of the loop score: the cells' Y', Cb and Cr, each channel less its own mean, as a unit vector.
  ///
  /// So it says where what is, not how bright or tinted the whole is. A last component of 0.25 levels per cell stands for
  /// the empty picture: flat frames are alike, and rounding noise in them counts for nothing.
  public var feature: [Float] {
    let centred = [luma, blue, red].flatMap { channel in
      let mean = channel.reduce(0, +) / Float(channel.count)
      return channel.map { $0 - mean }
    }
    return Feature.unit(centred, floor: 0.25 * Float(centred.count).squareRoot())
  }
}

/// Vectors whose dot product is a cosine.
enum Feature {
  /// `values` with `floor` appended, at length 1.
  static func unit(_ values: [Float], floor: Float) -> [Float] {
    let vector = values + [floor]
    let norm = vector.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
    return vector.map { Float(Double($0) / norm) }
  }

  static func cosine(_ a: [Float], _ b: [Float]) -> Double {
    var sum = 0.0
    for (x, y) in zip(a, b) { sum += Double(x) * Double(y) }
    return sum
  }

  /// Euclidean distance.
  static func distance(_ a: [Float], _ b: [Float]) -> Double {
    zip(a, b).reduce(0) { $0 + (Double($1.0) - Double($1.1)) * (Double($1.0) - Double($1.1)) }.squareRoot()
  }
}
