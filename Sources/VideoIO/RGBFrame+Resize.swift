extension RGBFrame {
  /// The frame scaled to cover `width` x `height` and cut to it around the centre: nothing is distorted, and the longer side
  /// loses what does not fit.
  ///
  /// Separable bicubic filter (Keys, a = -1/2), widened by the scale where the picture gets smaller, so that it is a mean
  /// there; weights at the border are those inside, normalised. The same bytes on every machine.
  public func covering(width newWidth: Int, height newHeight: Int) -> RGBFrame {
    precondition(newWidth > 0 && newHeight > 0, "a frame of \(newWidth)x\(newHeight) has no pixels")
    if newWidth == width && newHeight == height { return self }
    // The part of this frame that is kept, of the new frame's shape.
    let scale = min(Double(width) / Double(newWidth), Double(height) / Double(newHeight))
    let (keptWidth, keptHeight) = (Double(newWidth) * scale, Double(newHeight) * scale)
    let columns = cubicWeights(
      from: (Double(width) - keptWidth) / 2, step: scale, old: width, new: newWidth)
    let rows = cubicWeights(from: (Double(height) - keptHeight) / 2, step: scale, old: height, new: newHeight)
    // Rows of this frame, made narrower or wider first, each once and only while a new row needs it.
    var lines: [Int: [Float]] = [:]
    func line(_ row: Int) -> [Float] {
      if let line = lines[row] { return line }
      var line = [Float](repeating: 0, count: newWidth * 3)
      let base = row * width * 3
      for (x, (first, weights)) in columns.enumerated() {
        for (i, weight) in weights.enumerated() {
          let at = base + (first + i) * 3
          for channel in 0..<3 { line[x * 3 + channel] += weight * Float(pixels[at + channel]) }
        }
      }
      lines[row] = line
      return line
    }
    var out = [UInt8]()
    out.reserveCapacity(newWidth * newHeight * 3)
    var sum = [Float](repeating: 0, count: newWidth * 3)
    for (first, weights) in rows {
      for i in sum.indices { sum[i] = 0 }
      for (i, weight) in weights.enumerated() {
        let source = line(first + i)
        for x in sum.indices { sum[x] += weight * source[x] }
      }
      for value in sum { out.append(UInt8(max(0, min(255, value.rounded())))) }
      lines = lines.filter { $0.key >= first }
    }
    return RGBFrame(width: newWidth, height: newHeight, pixels: out)
  }
}

/// For each of `new` samples, the first of the old ones that it is made of and their weights, which sum to one. Sample i
/// covers `start + i step ..< start + (i + 1) step`.
private func cubicWeights(from start: Double, step: Double, old: Int, new: Int) -> [(first: Int, weights: [Float])] {
  func keys(_ x: Double) -> Double {
    let x = abs(x)
    if x < 1 { return (1.5 * x - 2.5) * x * x + 1 }
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0
  }
  let width = max(1, step)
  return (0..<new).map { i in
    let centre = start + (Double(i) + 0.5) * step
    let first = max(0, Int((centre - 2 * width).rounded(.down)))
    let end = min(old, Int((centre + 2 * width).rounded(.up)))
    let weights = (first..<end).map { keys((Double($0) + 0.5 - centre) / width) }
    let sum = weights.reduce(0, +)
    return (first, weights.map { Float($0 / sum) })
  }
}
