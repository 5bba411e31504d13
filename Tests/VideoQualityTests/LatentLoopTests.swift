import Foundation
import Tensors
import Testing
import VideoIO
import VideoQuality

/// Latent clips whose loop scores are known beforehand: layouts on top of channel levels that all frames share, as real
/// latents have them.
@Suite struct LatentLoopTests {
  private static let (channels, height, width) = (16, 20, 32)

  /// Numbers between -1 and 1, the same for the same arguments.
  private static func number(_ seed: Int, _ i: Int) -> Float {
    var x = UInt64(truncatingIfNeeded: seed &* 0x9E37_79B9 &+ i &* 0x85EB_CA6B &+ 0x1234_5678)
    for _ in 0..<3 { x = (x ^ (x >> 29)) &* 0xBF58_476D_1CE4_E5B9 }
    return Float(x >> 40) / Float(1 << 23) - 1
  }

  /// A frame of the window at `x` onto a landscape of random heights, one every 8 columns and 5 rows, smooth between; it
  /// repeats after `around` columns.
  private static func frame(at x: Double, around: Int, size: Float, levels: Float, seed: Int = 0) -> [Float] {
    var values: [Float] = []
    for channel in 0..<channels {
      for row in 0..<height {
        for column in 0..<width {
          let place = (x + Double(column)) / 8
          let left = Int(place.rounded(.down))
          let weight = Float(place - Double(left))
          func height(_ post: Int) -> Float {
            number(seed, (channel * 31 + row / 5) * 4099 + (post % (around / 8) + around / 8) % (around / 8))
          }
          let layout = height(left) * (1 - weight) + height(left + 1) * weight
          values.append(levels * number(77, channel) + size * layout)
        }
      }
    }
    return values
  }

  private static func measure(_ count: Int, _ frame: (Int) -> [Float]) throws -> LoopScore {
    let path = NSTemporaryDirectory() + "longtake-loop-\(UUID().uuidString).safetensors"
    defer { try? FileManager.default.removeItem(atPath: path) }
    let latents = Tensor((0..<count).flatMap(frame), shape: [count, channels, height, width])
    try SafetensorsWriter.write([("latents", latents)], to: path)
    return try LatentMeasures(LatentClip(path: path, files: [path])).loop
  }

  @Test("A still has 24, a nearly still clip the worst of cycle and duplicates", arguments: [Float(0), 2])
  func aStillHas24(levels: Float) throws {
    let still = Self.frame(at: 0, around: 256, size: 0.5, levels: levels)
    let frozen = try Self.measure(64) { _ in still }
    #expect((24.0...31).contains(frozen.score), "\(frozen)")
    let nearly = try Self.measure(64) { i in still.enumerated().map { $1 + 0.01 * Self.number(i, $0) } }
    #expect((nearly.cycle ?? 0) >= 0.8 && nearly.duplicates == 1 && nearly.score < 50, "\(nearly)")
    let flat = try Self.measure(64) { i in
      still.indices.map { levels * Self.number(77, $0 / 640) + 1e-6 * Self.number(i, $0) }
    }
    #expect(flat.duplicates == 1 && flat.score < 50, "\(flat)")
  }

  @Test("A loop is found with its period under any levels", arguments: [Float(0), 0.5, 5])
  func aLoopIsFoundWithItsPeriod(levels: Float) throws {
    // Around 96 columns in 8 frames.
    let loop = try Self.measure(64) { i in
      Self.frame(at: Double(i % 8) * 12, around: 96, size: 0.4, levels: levels)
    }
    #expect(loop.cycleDetected && (loop.period ?? 0) % 8 == 0 && loop.score < 60, "\(loop)")
    // Distances 8, 16, ... 56 of all from the gap of 6 on.
    #expect((loop.duplicates ?? 0).isNear(3 * 224.0 / 1711, 1e-9), "\(loop)")
  }

  @Test("A pan that never comes back is no loop under any levels", arguments: [Float(0), 0.5, 5])
  func aPanThatNeverComesBackIsNoLoop(levels: Float) throws {
    let pan = try Self.measure(64) { i in Self.frame(at: Double(i) * 6, around: 4096, size: 0.4, levels: levels) }
    #expect(!pan.cycleDetected && (pan.duplicates ?? 1) == 0 && pan.score > 60, "\(pan)")
  }

  @Test(
    "Layouts that have nothing in common are no loop, however small against the levels",
    arguments: [Float(0.1), 0.3, 1])
  func layoutsThatHaveNothingInCommon(size: Float) throws {
    func score(_ levels: Float) throws -> LoopScore {
      try Self.measure(64) { i in Self.frame(at: 0, around: 256, size: size, levels: levels, seed: i + 1) }
    }
    let (with, without) = (try score(1), try score(0))
    #expect(with.duplicates == 0 && with.score > 55, "\(with)")
    // Levels that all frames share change nothing.
    #expect(with.score.isNear(without.score, 0.1), "\(with.score) and \(without.score)")
  }
}
