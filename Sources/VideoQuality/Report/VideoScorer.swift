import VideoIO

/// Measures a video in one pass over its frames.
///
/// Every frame gives its colour layout and its difference to the one before; the frames of the ``SamplePlan`` are looked at
/// closely. Memory is that of a few frames and a fixed number of samples, however long the video.
public struct VideoScorer {
  private let plan: SamplePlan
  private let rate: Double
  private let borders: ChunkBorders?
  private var index = 0
  private var previous: RGBFrame?
  private var nextSample = 0
  private var nextPair = 0
  private var samples: [Sample] = []
  /// First frames of pairs that wait for their partners.
  private var waiting: [(pair: Int, start: Int, grey: GreyPicture)] = []
  private var motion: [Motion] = []
  private var flicker: FlickerMeter
  private var seams: SeamMeter
  private var changes: TimeBins

  private struct Sample {
    var frame: Int
    var appearance: Appearance
    var feature: [Float]
  }

  /// Motion of one pair: over 0.25 s, and where it is measured over 0.5 s.
  private struct Motion {
    var frame: Int
    var quarter: Double
    var half: Double?
    var degree: Double?
    var entropy: Double?
  }

  /// - Parameters:
  ///   - count: frames of the video, at least 1. If fewer come, their samples are missing.
  ///   - frameRate: frames per second.
  ///   - borders: where chunks begin, if that is known.
  public init(count: Int, frameRate: Double, borders: ChunkBorders? = nil) {
    plan = SamplePlan(count: count, frameRate: frameRate)
    rate = frameRate
    self.borders = borders
    flicker = FlickerMeter(frames: count)
    seams = SeamMeter(frames: count)
    changes = TimeBins(over: count)
  }

  /// The next frame; all have the size of the first.
  public mutating func add(_ frame: RGBFrame) {
    let startsChunk = index > 0 && borders?.contains(index) ?? false
    let layout = ColourLayout(frame)
    flicker.add(layout, frame: index, startsChunk: startsChunk)
    if let previous {
      precondition(previous.width == frame.width && previous.height == frame.height, "frames of different sizes")
      let difference = VideoScorer.difference(previous, frame)
      changes.add(difference, frame: index)
      seams.add(difference: difference, frame: index, isBorder: startsChunk)
    }
    previous = frame
    look(at: frame, layout)
    index += 1
  }

  /// What was measured, once all frames are in; at least one.
  public consuming func finish() -> VideoMeasures {
    precondition(index > 0, "no frame")
    let halves = motion.filter { $0.half != nil }
    let entropies = halves.compactMap(\.entropy)
    func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(max(1, values.count)) }
    let loop = LoopScore(features: samples.map(\.feature), activity: halves.compactMap(\.half))
    let seamError = borders == nil ? nil : seams.finish()
    return VideoMeasures(
      frames: index, loop: loop,
      freeze: motion.isEmpty ? nil : FreezeRate(magnitudes: motion.map(\.quarter)),
      motion: halves.isEmpty
        ? nil
        : MotionMeasures(
          dynamicDegree: mean(halves.compactMap(\.degree)),
          directionEntropy: entropies.isEmpty ? nil : mean(entropies), flow: mean(halves.compactMap(\.half))),
      drift: samples.count < 2 ? nil : Drift(samples.map(\.appearance)), flicker: flicker.flicker, seams: seamError,
      series: series())
  }

  private mutating func look(at frame: RGBFrame, _ layout: ColourLayout) {
    let isSample = nextSample < plan.frames.count && plan.frames[nextSample] == index
    let isStart = nextPair < plan.pairStarts.count && plan.pairStarts[nextPair] == index
    let isPartner = waiting.contains { index == $0.start + plan.quarter || index == $0.start + plan.half }
    guard isSample || isStart || isPartner else { return }
    let grey = GreyPicture(frame)
    if isSample {
      samples.append(Sample(frame: index, appearance: Appearance(frame, grey: grey), feature: layout.feature))
      nextSample += 1
    }
    for first in waiting {
      let distance = index - first.start
      guard distance == plan.quarter || (distance == plan.half && plan.measuresHalf(pair: first.pair)) else { continue }
      let flow = OpticalFlow(from: first.grey, to: grey)
      if distance == plan.quarter { motion.append(Motion(frame: first.start, quarter: flow.meanMagnitude)) }
      if distance == plan.half && plan.measuresHalf(pair: first.pair) {
        motion[first.pair].half = flow.meanMagnitude
        motion[first.pair].degree = DynamicDegree.of(flow)
        motion[first.pair].entropy = DirectionEntropy.of(flow)
      }
    }
    waiting.removeAll { index >= $0.start + (plan.measuresHalf(pair: $0.pair) ? plan.half : plan.quarter) }
    if isStart {
      waiting.append((nextPair, index, grey))
      nextPair += 1
    }
  }

  private func series() -> VideoSeries {
    let first = samples.first?.feature ?? []
    let halves = motion.filter { $0.half != nil }
    func seconds(_ frame: Int) -> Double { Double(frame) / rate }
    return VideoSeries(
      samples: SampleSeries(
        seconds: samples.map { seconds($0.frame) }, brightness: samples.map(\.appearance.brightness),
        contrast: samples.map(\.appearance.contrast), saturation: samples.map(\.appearance.saturation),
        blue: samples.map(\.appearance.blue), red: samples.map(\.appearance.red),
        sharpness: samples.map(\.appearance.sharpness),
        similarity: samples.map { Feature.cosine(first, $0.feature) }),
      quarterFlow: PointSeries(seconds: motion.map { seconds($0.frame) }, values: motion.map(\.quarter)),
      halfFlow: PointSeries(seconds: halves.map { seconds($0.frame) }, values: halves.compactMap(\.half)),
      change: changes.series(rate: rate), flicker: flicker.bins.series(rate: rate),
      seams: borders == nil ? nil : seams.bins.series(rate: rate))
  }

  /// Mean absolute difference over all pixels and channels, in levels.
  static func difference(_ a: RGBFrame, _ b: RGBFrame) -> Double {
    var sum = 0
    for (x, y) in zip(a.pixels, b.pixels) { sum += Int(x > y ? x - y : y - x) }
    return Double(sum) / Double(a.pixels.count)
  }
}
