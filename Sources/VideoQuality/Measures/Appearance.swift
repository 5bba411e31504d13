import VideoIO

/// Brightness, contrast, colour and sharpness of one frame, on the scale of 8-bit levels.
///
/// Y', Cb and Cr are BT.709's of encoded values:
///
///     Y' = 0.2126 R + 0.7152 G + 0.0722 B,   Cb = (B - Y') / 1.8556,   Cr = (R - Y') / 1.5748
public struct Appearance: Sendable, Equatable {
  /// Mean Y', 0 to 255.
  public var brightness: Double
  /// Standard deviation of Y' at the measured size (``GreyPicture``).
  public var contrast: Double
  /// Mean Cb: above 0 is blue, below 0 yellow.
  public var blue: Double
  /// Mean Cr: above 0 is red, below 0 cyan.
  public var red: Double
  /// Mean of √(Cb² + Cr²): how colourful, whatever the colours.
  public var saturation: Double
  /// Standard deviation of the Laplacian (4 neighbours) of Y' at the measured size. VQeval calls its square below 100 blurred.
  public var sharpness: Double

  public init(_ frame: RGBFrame, grey: GreyPicture) {
    var (blue, red, saturation, brightness) = (0.0, 0.0, 0.0, 0.0)
    let pixels = frame.pixels
    for i in stride(from: 0, to: pixels.count, by: 3) {
      let (r, g, b) = (Float(pixels[i]), Float(pixels[i + 1]), Float(pixels[i + 2]))
      let y = 0.2126 * r + 0.7152 * g + 0.0722 * b
      let (cb, cr) = ((b - y) / 1.8556, (r - y) / 1.5748)
      brightness += Double(y)
      blue += Double(cb)
      red += Double(cr)
      saturation += Double((cb * cb + cr * cr).squareRoot())
    }
    let count = Double(frame.width * frame.height)
    self.brightness = brightness / count
    self.blue = blue / count
    self.red = red / count
    self.saturation = saturation / count
    contrast = Appearance.deviation(grey.values)
    sharpness = Appearance.deviation(Appearance.laplacian(grey))
  }

  private static func laplacian(_ grey: GreyPicture) -> [Float] {
    let (width, height, values) = (grey.width, grey.height, grey.values)
    var out = [Float](repeating: 0, count: values.count)
    for y in 0..<height {
      let (row, above, below) = (y * width, max(0, y - 1) * width, min(height - 1, y + 1) * width)
      for x in 0..<width {
        out[row + x] =
          values[above + x] + values[below + x] + values[row + max(0, x - 1)] + values[row + min(width - 1, x + 1)]
          - 4 * values[row + x]
      }
    }
    return out
  }

  private static func deviation(_ values: [Float]) -> Double {
    let mean = values.reduce(0.0) { $0 + Double($1) } / Double(values.count)
    let sum = values.reduce(0.0) { $0 + (Double($1) - mean) * (Double($1) - mean) }
    return (sum / Double(values.count)).squareRoot()
  }
}
