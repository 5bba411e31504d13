/// What a latent frame looks like, for the loop score in latent space, which a rollout could take while it runs.
///
/// Specification of LVSA, §5.10 (iv): the latent frame `[channels, height, width]` is averaged over 4 x 4 cells, the mean of all
/// entries is taken off, and the rest is brought to length 1. The levels of the channels stay in, so that frames of one tint are
/// more alike than their layout: compare scores of the same model only.
public enum LatentFeature {
  public static let cells = 4

  /// - Parameter frame: `[channels, height, width]`, row major.
  public static func of(_ frame: [Float], channels: Int, height: Int, width: Int) -> [Float] {
    precondition(frame.count == channels * height * width, "\(frame.count) for \(channels)x\(height)x\(width)")
    let (rows, columns) = (min(cells, height), min(cells, width))
    var pooled: [Float] = []
    for channel in 0..<channels {
      for row in 0..<rows {
        let ys = row * height / rows..<(row + 1) * height / rows
        for column in 0..<columns {
          let xs = column * width / columns..<(column + 1) * width / columns
          var sum: Float = 0
          for y in ys {
            let base = (channel * height + y) * width
            for x in xs { sum += frame[base + x] }
          }
          pooled.append(sum / Float(ys.count * xs.count))
        }
      }
    }
    let mean = pooled.reduce(0, +) / Float(pooled.count)
    // The floor only keeps constant frames from dividing by zero, and makes them alike.
    return Feature.unit(pooled.map { $0 - mean }, floor: 1e-6)
  }
}
