import Foundation

/// One picture: 8-bit sRGB-encoded red, green and blue.
public struct RGBFrame: Sendable, Hashable {
  /// Columns, at least 1.
  public let width: Int
  /// Rows, at least 1.
  public let height: Int
  /// `[height, width, 3]`, row major, channels interleaved, 0 to 255.
  public var pixels: [UInt8] {
    didSet { precondition(pixels.count == width * height * 3, "a frame keeps its size") }
  }

  /// A picture of existing bytes, which must be exactly `height * width * 3`.
  public init(width: Int, height: Int, pixels: [UInt8]) {
    precondition(width > 0 && height > 0, "a frame of \(width)x\(height) has no pixels")
    precondition(pixels.count == width * height * 3, "\(pixels.count) bytes do not make a frame of \(width)x\(height)")
    self.width = width
    self.height = height
    self.pixels = pixels
  }

  /// A picture of one colour.
  public init(width: Int, height: Int, red: UInt8, green: UInt8, blue: UInt8) {
    var pixels = [UInt8](repeating: red, count: width * height * 3)
    if green != red || blue != red {
      for i in stride(from: 0, to: pixels.count, by: 3) {
        pixels[i + 1] = green
        pixels[i + 2] = blue
      }
    }
    self.init(width: width, height: height, pixels: pixels)
  }

  /// Red, green and blue of one pixel.
  public subscript(row: Int, column: Int) -> (red: UInt8, green: UInt8, blue: UInt8) {
    let i = (row * width + column) * 3
    return (pixels[i], pixels[i + 1], pixels[i + 2])
  }
}

extension RGBFrame {
  /// Peak signal-to-noise ratio against another frame of the same size, in decibels over all channels; infinite if equal.
  public func psnr(to other: RGBFrame) -> Double {
    precondition(width == other.width && height == other.height, "frames of different sizes")
    var sum = 0
    for (a, b) in zip(pixels, other.pixels) {
      let d = Int(a) - Int(b)
      sum += d * d
    }
    if sum == 0 { return .infinity }
    return 10 * log10(255 * 255 * Double(pixels.count) / Double(sum))
  }

  /// The frame made smaller with a box filter: each new pixel is the mean of the area that it covers.
  ///
  /// - Parameter scale: above 0, at most 1; the new size is the rounded product, at least one pixel. 1 gives the frame itself.
  public func scaledDown(by scale: Double) -> RGBFrame {
    precondition(scale > 0 && scale <= 1, "scale \(scale) is not in (0, 1]")
    let newWidth = max(1, Int((Double(width) * scale).rounded()))
    let newHeight = max(1, Int((Double(height) * scale).rounded()))
    if newWidth == width && newHeight == height { return self }
    let columns = boxWeights(from: width, to: newWidth)
    let rows = boxWeights(from: height, to: newHeight)
    var out = [UInt8]()
    out.reserveCapacity(newWidth * newHeight * 3)
    // One new row: the weighted sum of the old rows first, then of its columns.
    var line = [Float](repeating: 0, count: width * 3)
    for row in rows {
      for i in line.indices { line[i] = 0 }
      for (y, weight) in row {
        let base = y * width * 3
        for i in line.indices { line[i] += weight * Float(pixels[base + i]) }
      }
      for column in columns {
        for channel in 0..<3 {
          var sum: Float = 0
          for (x, weight) in column { sum += weight * line[x * 3 + channel] }
          out.append(UInt8(max(0, min(255, sum.rounded()))))
        }
      }
    }
    return RGBFrame(width: newWidth, height: newHeight, pixels: out)
  }

  /// The frame made larger by repeating each pixel `factor` times in both directions, so that single values stay visible.
  public func enlarged(by factor: Int) -> RGBFrame {
    precondition(factor >= 1, "factor \(factor) is not positive")
    if factor == 1 { return self }
    var out = [UInt8]()
    out.reserveCapacity(pixels.count * factor * factor)
    for row in 0..<height {
      var line = [UInt8]()
      line.reserveCapacity(width * factor * 3)
      for column in 0..<width {
        let (red, green, blue) = self[row, column]
        for _ in 0..<factor { line += [red, green, blue] }
      }
      for _ in 0..<factor { out += line }
    }
    return RGBFrame(width: width * factor, height: height * factor, pixels: out)
  }
}

/// For each of `new` cells over `old` cells, the old cells that it covers and their weights, which sum to one.
private func boxWeights(from old: Int, to new: Int) -> [[(index: Int, weight: Float)]] {
  let step = Double(old) / Double(new)
  return (0..<new).map { cell in
    let (start, end) = (Double(cell) * step, Double(cell + 1) * step)
    return (Int(start)..<min(old, Int(end.rounded(.up)))).map { i in
      (i, Float((min(end, Double(i + 1)) - max(start, Double(i))) / step))
    }
  }
}
