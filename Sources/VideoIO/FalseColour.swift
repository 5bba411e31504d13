import Tensors

/// Pictures of latents, for inspection: every channel a tile, every value a colour.
///
/// Channels are shown side by side and not mixed into one RGB picture, because what one looks for (a dead channel, a seam
/// between chunks, a drift, a NaN) shows in single channels. The scale is fixed, so pictures of different frames and runs
/// can be compared: latents are normalised to a standard deviation of about one.
public enum FalseColour {
  /// One picture per latent frame: channels in rows of a near-square grid (4 x 4 for 16), a line of black between.
  ///
  /// - Parameters:
  ///   - latents: `[frames, channels, height, width]`, any floating-point type.
  ///   - limit: the magnitude that gets the strongest colour; larger ones are clipped to it.
  ///   - zoom: screen pixels per latent pixel, in both directions.
  /// - Throws: `VideoIOError.invalidSetting` for another shape.
  public static func tiles(_ latents: Tensor, limit: Float = 3, zoom: Int = 1) throws -> [RGBFrame] {
    let shape = latents.shape
    guard shape.count == 4, shape.allSatisfy({ $0 > 0 }) else {
      throw VideoIOError.invalidSetting(
        name: "shape of latents", value: "\(shape)", expected: "[frames, channels, height, width]")
    }
    precondition(limit > 0 && zoom >= 1, "limit \(limit) and zoom \(zoom) must be positive")
    let (channels, height, width) = (shape[1], shape[2], shape[3])
    let values = latents.floats()
    let plane = height * width
    let columns = Int(Double(channels).squareRoot().rounded(.up))
    return try (0..<shape[0]).map { frame in
      var sheet = try ContactSheet(columns: columns, gap: 1, background: 0)
      for channel in 0..<channels {
        let base = (frame * channels + channel) * plane
        var pixels = [UInt8]()
        pixels.reserveCapacity(plane * 3)
        for value in values[base..<base + plane] {
          let (red, green, blue) = colour(value, limit: limit)
          pixels.append(red)
          pixels.append(green)
          pixels.append(blue)
        }
        sheet.add(RGBFrame(width: width, height: height, pixels: pixels).enlarged(by: zoom))
      }
      return try sheet.picture()
    }
  }

  /// The colour of a value: blue below zero, light grey at zero, red above; lightness falls evenly to both sides.
  ///
  /// Moreland's diverging map, its two halves interpolated between nine of his values. NaN and infinities are bright green,
  /// which the map does not contain.
  public static func colour(_ value: Float, limit: Float = 3) -> (red: UInt8, green: UInt8, blue: UInt8) {
    guard value.isFinite else { return (0, 255, 0) }
    let position = (max(-1, min(1, value / limit)) + 1) / 2 * Float(map.count - 1)
    let lower = min(map.count - 2, Int(position))
    let weight = position - Float(lower)
    let mixed = map[lower] * (1 - weight) + map[lower + 1] * weight
    return (UInt8(mixed.x.rounded()), UInt8(mixed.y.rounded()), UInt8(mixed.z.rounded()))
  }

  /// K. Moreland, "Diverging Color Maps for Scientific Visualization" (2009), from -1 to 1 in steps of 1/4.
  private static let map: [SIMD3<Float>] = [
    [59, 76, 192], [98, 130, 234], [141, 176, 254], [184, 208, 249], [221, 221, 221],
    [245, 196, 173], [244, 154, 123], [222, 96, 77], [180, 4, 38],
  ]
}
