import Foundation
import Testing
import VideoIO
import VideoQuality

/// Each formula by itself.
@Suite struct MeasureTests {
  @Test(
    "The flow of a displaced texture is the displacement",
    arguments: [(0.3, 0.0), (1.5, -1.0), (-4.25, 2.5), (9.0, 6.0)])
  func theFlowOfADisplacedTextureIs(x: Double, y: Double) throws {
    let flow = OpticalFlow(
      from: GreyPicture(Clip.texture(contrast: 0.9)), to: GreyPicture(Clip.texture(x: -x, y: -y, contrast: 0.9)))
    // Lengths are those of a picture 480 wide; pixels that leave the picture are guessed.
    var errors: [Double] = []
    for row in 8..<Clip.height - 8 {
      for column in 12..<Clip.width - 12 {
        let i = row * flow.width + column
        errors.append(hypot(Double(flow.right[i]) / 5 - x, Double(flow.down[i]) / 5 - y))
      }
    }
    errors.sort()
    #expect(errors[errors.count / 2] < 0.05, "median error \(errors[errors.count / 2]) px of (\(x), \(y))")
    #expect(errors[errors.count * 9 / 10] < 0.3, "90% error \(errors[errors.count * 9 / 10]) px of (\(x), \(y))")
  }

  @Test("A flat picture has no flow, and pictures of one pixel or line are fine") func aFlatPictureHasNoFlowAnd() {
    let flat = GreyPicture(width: 50, height: 40, values: [Float](repeating: 77, count: 2000))
    #expect(OpticalFlow(from: flat, to: flat).meanMagnitude == 0)
    for (width, height) in [(1, 1), (1, 30), (30, 1), (2, 2)] {
      let a = GreyPicture(width: width, height: height, values: (0..<width * height).map { Float($0 % 7) })
      let flow = OpticalFlow(from: a, to: a)
      #expect(flow.meanMagnitude < 1e-3, "\(width)x\(height): \(flow.meanMagnitude)")
    }
  }

  @Test("Two directions in equal parts have an entropy of a quarter, all of them one")
  func twoDirectionsInEqualPartsHaveAn() throws {
    func flow(_ vectors: (Int) -> (Float, Float)) -> OpticalFlow {
      let both = (0..<640).map(vectors)
      return OpticalFlow(width: 32, height: 20, right: both.map(\.0), down: both.map(\.1))
    }
    func turn(_ part: Int, of parts: Int) -> (Float, Float) {
      let angle = 2 * Float.pi * Float(part) / Float(parts)
      return (2 * cos(angle), 2 * sin(angle))
    }
    // 1 bit of 4, 4 of 4, none.
    let two = try #require(DirectionEntropy.of(flow { turn($0 % 2, of: 2) }))
    #expect(two.isNear(0.25, 1e-12), "\(two)")
    let all = try #require(DirectionEntropy.of(flow { turn($0 % 16, of: 16) }))
    #expect(all.isNear(1, 1e-12), "\(all)")
    let one = try #require(DirectionEntropy.of(flow { (3, 0.1 * Float($0 % 3 - 1)) }))
    #expect(one == 0, "\(one)")
    #expect(DirectionEntropy.of(flow { _ in (0.7, 0.7) }) == nil)
    // A quarter moves by more than 1.
    let quarter = flow { $0 % 4 == 0 ? (0, -1.01) : (0.6, 0.8) }
    #expect(DynamicDegree.of(quarter) == 0.25, "\(DynamicDegree.of(quarter))")
  }

  @Test("The parts of the loop score follow their formulas") func thePartsOfTheLoopScoreFollow() throws {
    // Features on a circle with period 10: M depends on the distance alone.
    let features = (0..<64).map { i in
      let angle = 2 * Double.pi * Double(i) / 10
      return [Float(cos(angle)), Float(sin(angle))]
    }
    let loop = LoopScore(features: features, activity: (0..<32).map { $0 % 4 == 0 ? 1 : 0 })
    #expect(loop.period == 10 || loop.period == 20 || loop.period == 30, "\(loop)")
    // b is a cosine of mean -1/32 · ... about 0 and deviation about 0.7: c = 1 / 0.707 / 3.
    let (c, d) = (try #require(loop.cycle), try #require(loop.duplicates))
    #expect(c.isNear(0.47, 0.03), "\(loop)")
    // Distances 10, 20, ... 60 of 58 from the gap of 6 on: Σ (64 - 10 k) = 174 of Σ_{o=6}^{63} (64 - o) = 1711 pairs.
    #expect(d.isNear(3 * 174.0 / 1711, 1e-9), "\(loop)")
    // A pulse train has equal power in k = 8 and k = 16: half in one.
    let f = try #require(loop.periodicity)
    #expect(f.isNear((0.5 - 0.3) / 0.4, 1e-9), "\(loop)")
    // Equal steps are as if frozen.
    #expect(loop.autocorrelation == 0.8, "\(loop)")
    #expect(loop.score.isNear(100 * (1 - 0.35 * c - 0.25 * d - 0.2 * f - 0.2 * 0.8), 1e-9), "\(loop)")
    #expect(loop.longestStreak == 64 - (loop.period ?? 0), "\(loop)")
  }

  @Test("Alike pictures are guarded, and few are not judged") func alikePicturesAreGuardedAndFewAre() {
    // All pairs have a cosine of 0.96 or a little more: static, though nothing equals anything.
    let features = (0..<64).map { i in
      var vector = [Float](repeating: 0, count: 65)
      vector[0] = Float(0.96.squareRoot())
      vector[i + 1] = Float(0.04.squareRoot())
      return vector
    }
    let loop = LoopScore(features: features, activity: [])
    #expect((loop.cycle ?? 0) >= 0.8 && loop.duplicates == 0 && loop.periodicity == 0, "\(loop)")
    let few = LoopScore(features: Array(features.prefix(9)), activity: [1, 2, 3])
    #expect(few.score == 80 && few.cycle == nil && few.samples == 9, "\(few)")
    #expect(LoopScore(features: [], activity: []).score == 80)
    #expect(LoopScore(features: Array(features.prefix(10)), activity: [1]).cycle != nil)
  }

  @Test("Freezes are counted with their longest row") func freezesAreCountedWithTheirLongestRow() {
    let freeze = FreezeRate(magnitudes: [0, 0.05, 3, 0.09, 0.1, 0, 0, 0, 2, 1])
    #expect(freeze == FreezeRate(magnitudes: [0, 0, 1, 0, 1, 0, 0, 0, 1, 1]), "\(freeze)")
    #expect(freeze.rate == 0.6 && freeze.longest == 0.3 && freeze.pairs == 10, "\(freeze)")
  }

  @Test("A trend is the line's rise and knows its error") func aTrendIsTheLinesRiseAnd() {
    let line = Trend((0..<64).map { 3 + 2 * Double($0) / 63 })
    #expect(line.change.isNear(2, 1e-9) && line.mean.isNear(4, 1e-9) && line.isDrift, "\(line)")
    let wave = Trend((0..<64).map { Double($0 % 2) })
    #expect(!wave.isDrift && abs(wave.change) < 0.1, "\(wave)")
    #expect(!Trend([1, 2]).isDrift && Trend([1, 2]).change == 1)
  }

  @Test("Samples are of a fixed number, the first and the last frame among them") func samplesAreOfAFixedNumberThe() {
    for count in [64, 65, 81, 321, 9600, 576_000] {
      let plan = SamplePlan(count: count, frameRate: 16)
      #expect(plan.frames.count == 64 && plan.frames.first == 0 && plan.frames.last == count - 1, "\(count)")
      #expect(Set(plan.frames).count == 64, "\(count)")
      #expect(plan.pairStarts.last.map { $0 + plan.half } == count - 1, "\(count): \(plan.pairStarts)")
      #expect(plan.pairStarts.count == min(64, count - 8), "\(count): \(plan.pairStarts.count)")
    }
    #expect(SamplePlan(count: 1, frameRate: 16).pairStarts.isEmpty)
    #expect(SamplePlan(count: 2, frameRate: 16).pairStarts == [0])
    #expect(SamplePlan(count: 5, frameRate: 16).half == 4)
    #expect(SamplePlan(count: 50, frameRate: 1).quarter == 1)
  }

  @Test("Chunk borders follow from latent frames") func chunkBordersFollowFromLatentFrames() {
    #expect(ChunkBorders(chunkFrames: 3).frames(below: 40) == [9, 21, 33])
    #expect(ChunkBorders(chunkFrames: 1).frames(below: 10) == [1, 5, 9])
    #expect(ChunkBorders(latentFrames: [3, 3, 3, 2]) == ChunkBorders(chunkFrames: 3))
    // After an image: 1, 3, 3, ...
    let image = ChunkBorders(latentFrames: [1, 3, 3, 3])
    #expect(image.frames(below: 30) == [1, 13, 25], "\(image.frames(below: 30))")
    #expect(image.contains(13) && !image.contains(9) && !image.contains(0))
    #expect(ChunkBorders(latentFrames: [2, 5, 3, 3, 1]).frames(below: 54) == [5, 25, 37, 49])
    #expect(ChunkBorders(latentFrames: [7]).frames(below: 100).isEmpty)
  }

  @Test("Latent features know the layout and nothing of scale or of a channel's level")
  func latentFeaturesKnowTheLayoutAndNothing() {
    let (channels, height, width) = (2, 8, 8)
    let values = (0..<channels * height * width).map { Float(($0 * 37) % 11) }
    let feature = LatentFeature.of(values, channels: channels, height: height, width: width)
    #expect(feature.count == 2 * 16 + 1, "\(feature.count)")
    func apart(_ other: [Float]) -> Float {
      let other = LatentFeature.of(other, channels: channels, height: height, width: width)
      return zip(feature, other).map { abs($0 - $1) }.max() ?? 1
    }
    let levels = apart(values.enumerated().map { $1 + ($0 < height * width ? 5 : -70) })
    #expect(levels < 1e-4, "\(levels)")
    // The empty picture's weight is the only thing that does not grow.
    let scaled = apart(values.map { 3 * $0 })
    #expect(scaled < 0.01, "\(scaled)")
    #expect(apart(values.reversed()) > 0.1)
    let flat = LatentFeature.of(values.map { _ in 4 }, channels: channels, height: height, width: width)
    #expect(flat.last == 1 && flat.allSatisfy(\.isFinite), "\(flat)")
  }

  @Test("A large frame is measured at 480, a small one as it is") func aLargeFrameIsMeasuredAt480() {
    let large = GreyPicture(RGBFrame(width: 960, height: 540, red: 10, green: 200, blue: 30))
    #expect(large.width == 480 && large.height == 270, "\(large.width)x\(large.height)")
    let luma: Float = 0.2126 * 10 + 0.7152 * 200 + 0.0722 * 30
    #expect(large.values.allSatisfy { abs($0 - luma) < 0.01 }, "\(large.values[0]) for \(luma)")
    #expect(GreyPicture(Clip.texture()).width == Clip.width)
  }
}
