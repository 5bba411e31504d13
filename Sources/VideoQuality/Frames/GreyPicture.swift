import VideoIO

/// Brightness of a picture at the size at which motion, contrast and sharpness are measured.
///
/// Luma Y' = 0.2126 R + 0.7152 G + 0.0722 B of the encoded values (BT.709), 0 to 255, box-filtered to at most ``longSide``
/// pixels on the longer side; a smaller picture keeps its size.
public struct GreyPicture: Sendable {
  public let width: Int
  public let height: Int
  /// `[height, width]`, row major.
  public let values: [Float]

  /// Pixels of the longer side at most, as in VQeval.
  public static let longSide = 480

  public init(width: Int, height: Int, values: [Float]) {
    precondition(width > 0 && height > 0 && values.count == width * height, "\(values.count) for \(width)x\(height)")
    self.width = width
    self.height = height
    self.values = values
  }

  /// The luma of a frame, made smaller if need be.
  public init(_ frame: RGBFrame) {
    let longer = max(frame.width, frame.height)
    let scale = longer > GreyPicture.longSide ? Double(GreyPicture.longSide) / Double(longer) : 1
    let width = max(1, Int((Double(frame.width) * scale).rounded()))
    let height = max(1, Int((Double(frame.height) * scale).rounded()))
    var luma = [Float](repeating: 0, count: frame.width * frame.height)
    for i in luma.indices {
      luma[i] =
        0.2126 * Float(frame.pixels[3 * i]) + 0.7152 * Float(frame.pixels[3 * i + 1])
        + 0.0722 * Float(frame.pixels[3 * i + 2])
    }
    let full = GreyPicture(width: frame.width, height: frame.height, values: luma)
    self = width == frame.width && height == frame.height ? full : full.boxed(width: width, height: height)
  }

  /// Half the size, rounded up, for the next level of a pyramid: a 1-2-1 filter in both directions, every second pixel.
  func halved() -> GreyPicture {
    let (newWidth, newHeight) = ((width + 1) / 2, (height + 1) / 2)
    var out = [Float](repeating: 0, count: newWidth * newHeight)
    var line = [Float](repeating: 0, count: width)
    for y in 0..<newHeight {
      let middle = 2 * y * width
      let above = max(0, 2 * y - 1) * width
      let below = min(height - 1, 2 * y + 1) * width
      for x in 0..<width { line[x] = values[above + x] + 2 * values[middle + x] + values[below + x] }
      for x in 0..<newWidth {
        out[y * newWidth + x] = (line[max(0, 2 * x - 1)] + 2 * line[2 * x] + line[min(width - 1, 2 * x + 1)]) / 16
      }
    }
    return GreyPicture(width: newWidth, height: newHeight, values: out)
  }

  /// Each new pixel is the mean of the area that it covers.
  private func boxed(width newWidth: Int, height newHeight: Int) -> GreyPicture {
    let columns = Coverage.of(width, by: newWidth)
    var out = [Float](repeating: 0, count: newWidth * newHeight)
    var line = [Float](repeating: 0, count: width)
    for (y, rows) in Coverage.of(height, by: newHeight).enumerated() {
      for x in line.indices { line[x] = 0 }
      for (k, weight) in rows.weights.enumerated() {
        let base = (rows.start + k) * width
        for x in 0..<width { line[x] += weight * values[base + x] }
      }
      for (x, column) in columns.enumerated() {
        var sum: Float = 0
        for (k, weight) in column.weights.enumerated() { sum += weight * line[column.start + k] }
        out[y * newWidth + x] = sum
      }
    }
    return GreyPicture(width: newWidth, height: newHeight, values: out)
  }
}

/// The old cells that a new cell covers, and their weights, which sum to one.
private struct Coverage {
  var start: Int
  var weights: [Float]

  static func of(_ old: Int, by new: Int) -> [Coverage] {
    let step = Double(old) / Double(new)
    return (0..<new).map { cell in
      let (low, high) = (Double(cell) * step, min(Double(old), Double(cell + 1) * step))
      let range = Int(low)..<min(old, Int(high.rounded(.up)))
      return Coverage(
        start: range.lowerBound,
        weights: range.map { Float((min(high, Double($0 + 1)) - max(low, Double($0))) / step) })
    }
  }
}
