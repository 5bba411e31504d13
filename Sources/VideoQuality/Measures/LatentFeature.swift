/// What a latent frame looks like, for the loop score in latent space, which a rollout could take while it runs.
///
/// Specification of LVSA, §5.10 (iv), with one change: the latent frame `[channels, height, width]` is averaged over 4 x 4 cells, the
/// mean of *each channel* is taken off, not the mean of all entries, and the rest is brought to length 1. A channel's level is
/// much the same in all frames of a video, and large against what differs between them: with the levels in, frames whose
/// layouts have nothing in common are alike (cosine 0.98 of random layouts of a tenth of the levels' size, three quarters of
/// the severity of a still). Without them the feature says where what is, as that of pixels does
/// (``ColourLayout/feature``), and a still, a loop, a drift and noise have the scores that they should.
public enum LatentFeature {
  public static let cells = 4
  /// What each cell of an empty picture weighs: flat frames are alike, and rounding noise in them counts for nothing. Latents
  /// have a standard deviation of about 1.
  static let empty: Float = 0.005

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
    let size = rows * columns
    let centred = pooled.indices.map { i in
      let channel = pooled[i / size * size..<(i / size + 1) * size]
      return pooled[i] - channel.reduce(0, +) / Float(size)
    }
    return Feature.unit(centred, floor: empty * Float(centred.count).squareRoot())
  }
}
