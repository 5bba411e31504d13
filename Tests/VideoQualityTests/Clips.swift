import Foundation
import VideoIO
import VideoQuality

/// Synthetic clips whose measures are known.
enum Clip {
  static let (width, height) = (96, 64)

  /// A smooth texture of sines, seen from (x, y): any displacement is exact.
  static func texture(x: Double = 0, y: Double = 0, seed: Int = 0, level: Double = 128, contrast: Double = 1)
    -> RGBFrame
  {
    let phase = Double(seed) * 1.7
    var pixels: [UInt8] = []
    pixels.reserveCapacity(width * height * 3)
    for row in 0..<height {
      for column in 0..<width {
        let (px, py) = (Double(column) + x, Double(row) + y)
        for channel in 0..<3 {
          let c = Double(channel)
          let value =
            sin(0.21 * px + 0.13 * py + phase + c) + sin(0.09 * px - 0.26 * py + 2 * phase) + 0.7
            * sin(0.031 * px + 0.017 * py + 3 * phase + c) + 0.5 * sin(0.47 * px + 0.39 * py - phase)
          pixels.append(UInt8(max(0, min(255, (level + contrast * 28 * value).rounded()))))
        }
      }
    }
    return RGBFrame(width: width, height: height, pixels: pixels)
  }

  /// The same frame with every level moved.
  static func shifted(_ frame: RGBFrame, by levels: Int) -> RGBFrame {
    RGBFrame(
      width: frame.width, height: frame.height, pixels: frame.pixels.map { UInt8(max(0, min(255, Int($0) + levels))) })
  }

  /// Independent noise of each pixel; the same for the same seed.
  static func noise(seed: UInt64) -> RGBFrame {
    var state = seed &* 0x9E37_79B9_7F4A_7C15 &+ 1
    let pixels = (0..<width * height * 3).map { _ in
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      return UInt8(truncatingIfNeeded: state >> 40)
    }
    return RGBFrame(width: width, height: height, pixels: pixels)
  }

  /// Measures `count` frames at 16 per second.
  static func measure(_ count: Int, borders: ChunkBorders? = nil, _ frame: (Int) -> RGBFrame) -> VideoMeasures {
    var scorer = VideoScorer(count: count, frameRate: 16, borders: borders)
    for i in 0..<count { scorer.add(frame(i)) }
    return scorer.finish()
  }
}

extension Double {
  /// Whether two numbers differ by at most `tolerance`.
  func isNear(_ other: Double, _ tolerance: Double) -> Bool { abs(self - other) <= tolerance }
}
