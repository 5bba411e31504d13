import Foundation
import Testing
import VideoIO
import VideoQuality

/// Clips whose measures are known beforehand.
@Suite struct FixedPointTests {
  @Test("A frozen clip has loop score 24, freeze rate 1 and no motion") func aFrozenClipHasLoopScore24() throws {
    let still = Clip.texture()
    let measures = Clip.measure(161) { _ in still }
    let loop = measures.loop
    #expect(loop.score.isNear(24, 1e-6), "\(loop)")
    #expect(loop.cycle == 1 && loop.duplicates == 1 && loop.periodicity == 0 && loop.autocorrelation == 0.8, "\(loop)")
    #expect(measures.freeze?.rate == 1 && measures.freeze?.longest == 1, "\(String(describing: measures.freeze))")
    let motion = try #require(measures.motion)
    #expect(motion.dynamicDegree == 0 && motion.directionEntropy == nil && motion.flow == 0, "\(motion)")
    let drift = try #require(measures.drift)
    #expect(drift.brightness.change.isNear(0, 1e-9) && drift.colour.isNear(0, 1e-9), "\(drift)")
    #expect(!drift.sharpness.isDrift && !drift.contrast.isDrift, "\(drift)")
    #expect(
      measures.flicker?.brightness == 0 && measures.flicker?.local == 0, "\(String(describing: measures.flicker))")
    #expect(measures.seams == nil)
  }

  @Test("A perfect loop is found with its period, and moves") func aPerfectLoopIsFoundWithIts() throws {
    // A way around a circle in 40 frames, almost eight times: samples are 5 frames apart, a round is 8 samples.
    let measures = Clip.measure(316) { i in
      let angle = 2 * Double.pi * Double(i % 40) / 40
      return Clip.texture(x: 6 * cos(angle), y: 6 * sin(angle))
    }
    let loop = measures.loop
    #expect(loop.score < 45, "\(loop)")
    #expect(loop.cycleDetected && (loop.period ?? 0) % 8 == 0, "\(loop)")
    // Distances 8, 16, ... 56 of 58 from the gap of 6 on.
    let duplicates = try #require(loop.duplicates)
    #expect(duplicates >= 3 * 224.0 / 1711 - 1e-9, "\(loop)")
    #expect(measures.freeze?.rate == 0, "\(String(describing: measures.freeze))")
    // All directions come up, but at any moment only one.
    #expect((measures.motion?.directionEntropy ?? 1) < 0.3, "\(String(describing: measures.motion))")
  }

  @Test("A smooth pan moves everywhere, in one direction, with the pan's speed") func aSmoothPanMovesEverywhereInOne()
    throws
  {
    // 0.125 px a frame to the left: 1 px in half a second, 5 px at a width of 480.
    let measures = Clip.measure(161) { Clip.texture(x: Double($0) * 0.125) }
    let motion = try #require(measures.motion)
    #expect(motion.flow.isNear(5, 0.3), "\(motion)")
    #expect(motion.dynamicDegree > 0.98, "\(motion)")
    #expect((motion.directionEntropy ?? 1) < 0.15, "\(motion)")
    #expect(measures.freeze?.rate == 0, "\(String(describing: measures.freeze))")
    #expect((measures.flicker?.brightness ?? 1) < 0.05, "\(String(describing: measures.flicker))")
    // A perfectly steady flow leaves only rounding to the spectrum, which the formula may take for a period.
    #expect(measures.loop.score > 50 && measures.loop.duplicates == 0, "\(measures.loop)")
    #expect(!measures.loop.cycleDetected, "\(measures.loop)")
  }

  @Test("Random pictures are no loop and move in all directions") func randomPicturesAreNoLoopAndMove() throws {
    let measures = Clip.measure(128) { Clip.noise(seed: UInt64($0)) }
    let loop = measures.loop
    #expect(loop.score > 60 && loop.duplicates == 0, "\(loop)")
    #expect(measures.freeze?.rate == 0, "\(String(describing: measures.freeze))")
    let motion = try #require(measures.motion)
    #expect((motion.directionEntropy ?? 0) > 0.6, "\(motion)")
    #expect(measures.drift?.brightness.isDrift == false, "\(String(describing: measures.drift))")
  }

  @Test("A brightness ramp is drift and neither motion, flicker nor seam") func aBrightnessRampIsDriftAndNeither()
    throws
  {
    let still = Clip.texture(level: 90)
    let measures = Clip.measure(161, borders: ChunkBorders(chunkFrames: 3)) { Clip.shifted(still, by: $0 / 4) }
    let drift = try #require(measures.drift)
    #expect(drift.brightness.change.isNear(40, 0.5) && drift.brightness.isDrift, "\(drift.brightness)")
    #expect(abs(drift.contrast.change) < 0.01 && abs(drift.sharpness.change) < 0.01 && drift.colour < 0.01, "\(drift)")
    let smooth = Clip.measure(64) { Clip.shifted(still, by: $0) }
    #expect((smooth.flicker?.brightness ?? 1) < 1e-6, "\(String(describing: smooth.flicker))")
    let seams = try #require(measures.seams)
    #expect(seams.error.isNear(0, 1e-9), "\(seams)")
  }

  @Test("Brightness that alternates by A flickers by 2 A") func brightnessThatAlternatesByAFlickersBy() throws {
    let still = Clip.texture(contrast: 0.8)
    let measures = Clip.measure(80) { Clip.shifted(still, by: $0 % 2 == 0 ? 6 : -6) }
    let flicker = try #require(measures.flicker)
    #expect(flicker.brightness.isNear(12, 1e-3) && flicker.local.isNear(12, 1e-3), "\(flicker)")
  }

  @Test("Light that flickers in one corner is local") func lightThatFlickersInOneCornerIs() throws {
    let still = Clip.texture(contrast: 0.8)
    let measures = Clip.measure(80) { i in
      var frame = still
      for row in 0..<8 {
        for k in 0..<36 where i % 2 == 0 { frame.pixels[row * Clip.width * 3 + k] += 8 }
      }
      return frame
    }
    let flicker = try #require(measures.flicker)
    // One of 64 cells.
    #expect(flicker.local.isNear(8.0 / 64, 1e-3) && flicker.brightness.isNear(8.0 / 64, 1e-3), "\(flicker)")
  }

  @Test("A seam planted at chunk borders has the size of its step") func aSeamPlantedAtChunkBordersHas() throws {
    let still = Clip.texture(contrast: 0.8)
    let borders = ChunkBorders(chunkFrames: 3)
    var level = 0
    func clip(_ i: Int) -> RGBFrame {
      if borders.contains(i) { level = level == 0 ? 20 : 0 }
      return Clip.shifted(still, by: level)
    }
    let measures = Clip.measure(81, borders: borders, clip)
    let seams = try #require(measures.seams)
    #expect(seams.borders == 6 && seams.error.isNear(20, 1e-9) && seams.outliers == 1, "\(seams)")
    #expect(seams.worst.isNear(20, 1e-9) && borders.contains(seams.worstFrame), "\(seams)")
    // The step belongs to the seams alone.
    #expect(measures.flicker?.brightness == 0, "\(String(describing: measures.flicker))")
    level = 0
    let elsewhere = Clip.measure(81, borders: ChunkBorders(chunkFrames: 4), clip).seams
    #expect((elsewhere?.error ?? 20) < 7, "\(String(describing: elsewhere))")
  }

  @Test("A decoder that changes more at each latent frame has no seams for that") func aDecoderThatChangesMoreAtEach()
    throws
  {
    // A pan that jumps at the first frame of each latent frame, and stands still between.
    let measures = Clip.measure(121, borders: ChunkBorders(chunkFrames: 3)) { Clip.texture(x: Double(($0 + 3) / 4)) }
    let seams = try #require(measures.seams)
    #expect(seams.error.isNear(0, 0.2) && seams.ratio.isNear(1, 0.05), "\(seams)")
  }

  @Test("Colour drifts by its distance, and fading detail is contrast and sharpness")
  func colourDriftsByItsDistanceAndFading() throws {
    // Bluer by 40 levels: Cb rises by 40 (1 - 0.0722) / 1.8556 = 20, Cr falls by 40 · 0.0722 / 1.5748 = 1.83.
    let still = Clip.texture(level: 110, contrast: 0.9)
    let bluer = Clip.measure(81) { i in
      var frame = still
      for k in stride(from: 2, to: frame.pixels.count, by: 3) { frame.pixels[k] += UInt8(i / 2) }
      return frame
    }
    let colour = try #require(bluer.drift)
    #expect(colour.blue.change.isNear(20, 0.5) && colour.red.change.isNear(-1.83, 0.1), "\(colour)")
    #expect(colour.colour.isNear(20.1, 0.5), "\(colour.colour)")
    #expect(colour.sharpness.change.isNear(0, 0.05), "\(colour.sharpness)")
    let fading = try #require(Clip.measure(81) { Clip.texture(contrast: 1 - Double($0) / 160) }.drift)
    #expect(fading.contrast.change.isNear(-fading.contrast.mean / 1.5, 0.5), "\(fading.contrast)")
    #expect(fading.sharpness.change < -1.5 && fading.sharpness.isDrift, "\(fading.sharpness)")
  }
}
