import SparseAttention
import Testing

@Suite struct AnchorPatternTests {
  /// A row of the published densities: budget C, frames T, half window W; stride, anchors, frames read (over all offsets).
  struct Published: Sendable, CustomStringConvertible {
    let budget, frames, halfWindow, stride: Int
    let anchors, read: ClosedRange<Int>
    var description: String { "C \(budget), T \(frames), W \(halfWindow)" }
    init(_ c: Int, _ t: Int, _ w: Int, _ k: Int, _ g: ClosedRange<Int>, _ a: ClosedRange<Int>) {
      (budget, frames, halfWindow, stride, anchors, read) = (c, t, w, k, g, a)
    }
  }

  @Test(
    "Stride, anchors and frames read are the published ones",
    arguments: [
      Published(21, 21, 3, 1, 21...21, 21...21), Published(21, 21, 4, 1, 21...21, 21...21),
      Published(21, 41, 3, 3, 14...15, 21...22), Published(21, 41, 4, 3, 14...15, 23...24),
      Published(21, 42, 3, 3, 14...15, 21...22), Published(21, 42, 4, 3, 14...15, 23...24),
      Published(21, 61, 3, 4, 16...17, 23...24), Published(21, 61, 4, 5, 13...14, 22...23),
      Published(21, 63, 3, 4, 16...17, 23...24), Published(21, 63, 4, 5, 13...14, 22...23),
      Published(21, 81, 3, 6, 14...15, 21...22), Published(21, 81, 4, 7, 12...13, 21...22),
      Published(21, 84, 3, 6, 14...15, 21...22), Published(21, 84, 4, 7, 12...13, 21...22),
      Published(21, 101, 3, 7, 15...16, 22...23), Published(21, 101, 4, 9, 12...13, 21...22),
      Published(21, 121, 3, 9, 14...15, 21...22), Published(21, 121, 4, 10, 13...14, 22...23),
      Published(33, 17, 3, 1, 17...17, 17...17), Published(33, 33, 3, 1, 33...33, 33...33),
      Published(33, 49, 3, 2, 25...25, 32...32), Published(33, 49, 4, 2, 25...25, 34...34),
      Published(33, 65, 3, 3, 22...23, 29...30), Published(33, 65, 4, 3, 22...23, 31...32),
      Published(31, 61, 3, 3, 21...22, 28...29), Published(31, 91, 3, 4, 23...24, 30...31),
      Published(31, 121, 3, 5, 25...26, 32...33), Published(31, 61, 4, 3, 21...22, 30...31),
      Published(31, 91, 4, 4, 23...24, 32...33), Published(31, 121, 4, 6, 21...22, 30...31),
      Published(48, 95, 3, 3, 32...33, 39...40), Published(48, 142, 3, 4, 36...37, 43...44),
      Published(48, 95, 4, 3, 32...33, 41...42), Published(48, 142, 4, 4, 36...37, 45...46),
    ])
  func strideAnchorsAndFramesReadAreThe(row: Published) throws {
    let k = AnchorPattern.stride(frames: row.frames, halfWindow: row.halfWindow, leading: 1, budget: row.budget)
    #expect(k == row.stride, "stride \(k) for \(row)")
    let pattern = try AnchorPattern(frames: row.frames, stride: k, halfWindow: row.halfWindow)
    let anchors = (0..<k).map { pattern.anchors(offset: $0).count }
    let read = (0..<k).map { pattern.attended(by: row.frames / 2, offset: $0).count }
    #expect(Set(anchors).isSubset(of: Set(row.anchors)) && anchors.max() == row.anchors.upperBound, "\(anchors)")
    #expect(anchors.min() == row.anchors.lowerBound, "\(anchors)")
    #expect(read.min() == row.read.lowerBound && read.max() == row.read.upperBound, "\(read)")
  }

  @Test("41 frames at offset 0 have every third frame and windows of 7 others") func n41FramesAtOffset0HaveEvery()
    throws
  {
    let pattern = try AnchorPattern(frames: 41, stride: 3)
    #expect(pattern.anchors(offset: 0) == Array(stride(from: 0, through: 39, by: 3)))
    #expect(pattern.window(of: 0, offset: 0) == 0...10)
    #expect(pattern.window(of: 20, offset: 0) == 15...25)
    #expect(pattern.window(of: 40, offset: 0) == 31...40)
    for t in 0..<41 { #expect(pattern.attended(by: t, offset: 0).count == 21, "frame \(t)") }
  }

  @Test("The grid turns and keeps the first frame") func theGridTurnsAndKeepsTheFirst() throws {
    let pattern = try AnchorPattern(frames: 41, stride: 3)
    #expect(pattern.anchors(offset: 1) == [0] + Array(stride(from: 1, through: 40, by: 3)))
    #expect(pattern.window(of: 0, offset: 1) == 0...11)
    #expect(pattern.window(of: 20, offset: 1) == 15...24)
    #expect(pattern.window(of: 39, offset: 1) == 30...40)
    #expect(pattern.attended(by: 7, offset: 1).count == 22)
    #expect(pattern.anchors(offset: 2) == [0] + Array(stride(from: 2, through: 38, by: 3)))
    #expect(pattern.window(of: 1, offset: 2) == 0...10)
    #expect(pattern.window(of: 39, offset: 2) == 31...40)
    #expect(pattern.attended(by: 7, offset: 2).count == 21)
  }

  @Test("An anchor that leaves the end comes back at the start") func anAnchorThatLeavesTheEndComes() throws {
    let long = try AnchorPattern(frames: 81, stride: 6)
    #expect(long.anchors(offset: 5) == [0, 2] + Array(stride(from: 5, through: 77, by: 6)))
    #expect(long.window(of: 40, offset: 5) == 36...43)
    #expect(long.window(of: 80, offset: 5) == 73...80)
    #expect(long.attended(by: 3, offset: 5).count == 22)
    let longer = try AnchorPattern(frames: 121, stride: 9)
    #expect(longer.anchors(offset: 4) == [0] + Array(stride(from: 4, through: 112, by: 9)))
    #expect(longer.window(of: 60, offset: 4) == 56...63)
    #expect(longer.window(of: 120, offset: 4) == 114...120)
    #expect(longer.attended(by: 3, offset: 4).count == 21)
    let hunyuan = try AnchorPattern(frames: 49, stride: 2)
    #expect(hunyuan.anchors(offset: 1) == [0] + Array(stride(from: 1, through: 47, by: 2)))
    #expect(hunyuan.window(of: 24, offset: 1) == 18...30)
    #expect(hunyuan.window(of: 48, offset: 1) == 36...48)
    #expect(hunyuan.attended(by: 3, offset: 1).count == 32)
  }

  @Test(
    "As many pairs of frames are read as published",
    arguments: [
      (41, 21, 861), (61, 21, 1403), (81, 21, 1701), (121, 21, 2541), (49, 33, 1568), (65, 33, 1885),
    ])
  func asManyPairsOfFramesAreRead(frames: Int, budget: Int, pairs: Int) throws {
    let k = AnchorPattern.stride(frames: frames, halfWindow: 3, leading: 1, budget: budget)
    let pattern = try AnchorPattern(frames: frames, stride: k)
    #expect((0..<frames).reduce(0) { $0 + pattern.attended(by: $1, offset: 0).count } == pairs)
  }

  @Test(
    "Frames read form as few runs as published",
    arguments: [
      (41, 21, 11.0, 11.00), (61, 21, 13.7, 14.21), (81, 21, 13.6, 13.30), (121, 21, 14.5, 14.00),
      (49, 33, 17.6, 18.00), (65, 33, 19.0, 19.00),
    ])
  func framesReadFormAsFewRunsAs(frames: Int, budget: Int, mean: Double, first: Double) throws {
    let k = AnchorPattern.stride(frames: frames, halfWindow: 3, leading: 1, budget: budget)
    let pattern = try AnchorPattern(frames: frames, stride: k)
    func runs(_ offset: Int) -> Double {
      let all = (0..<frames).map { t in
        let read = pattern.attended(by: t, offset: offset)
        return 1 + zip(read, read.dropFirst()).count { $1 > $0 + 1 }
      }
      return Double(all.reduce(0, +)) / Double(frames)
    }
    #expect(abs(runs(0) - first) < 0.006, "\(runs(0)) at offset 0")
    let over = (0..<k).reduce(0) { $0 + runs($1) } / Double(k)
    #expect(abs(over - mean) < 0.051, "\(over) over all offsets")
  }

  @Test(
    "Every frame reads as many frames, itself among them, and k offsets make every frame an anchor", arguments: 1...260)
  func everyFrameReadsAsManyFramesItself(frames: Int)
    throws
  {
    for (w, n) in [(0, 1), (1, 0), (3, 1), (4, 1), (2, 5), (20, 30)] {
      let chosen = AnchorPattern.stride(frames: frames, halfWindow: w, leading: n, budget: 21)
      for k in Set([chosen, min(frames, 2), min(frames, 7)]) {
        let pattern = try AnchorPattern(frames: frames, stride: k, halfWindow: w, leading: n)
        var covered = Set<Int>()
        for o in 0..<k {
          let (anchors, windows) = pattern.reads(offset: o)
          covered.formUnion(anchors)
          let expected = anchors.count + (w == 0 ? 0 : min(2 * w + 1, frames - anchors.count))
          let counts = Set(windows.map { anchors.count + $0.count })
          #expect(counts == [expected], "T \(frames), W \(w), n \(n), k \(k), o \(o): \(counts), wanted \(expected)")
          if w > 0 {
            let alone = (0..<frames).first { !anchors.contains($0) && !windows[$0].contains($0) }
            #expect(alone == nil, "T \(frames), W \(w), n \(n), k \(k), o \(o): \(alone ?? -1) does not see itself")
          }
        }
        #expect(covered.count == frames, "T \(frames), k \(k): \(covered.count) frames are ever anchors")
      }
    }
  }

  @Test("The stride rule obeys scale, leading frames and clips up to the budget")
  func theStrideRuleObeysScaleLeadingFrames() {
    func stride(_ t: Int, _ w: Int = 3, _ n: Int = 1, _ c: Int = 21, _ s: Double = 1) -> Int {
      AnchorPattern.stride(frames: t, halfWindow: w, leading: n, budget: c, scale: s)
    }
    #expect((1...21).allSatisfy { stride($0) == 1 })
    #expect(stride(22) == 2 && stride(21, 3, 1, 21, 0.5) > 1)
    #expect(stride(121, 3, 1, 21, 2) < stride(121))
    #expect(stride(10, 3, 30, 4) == 1, "leading frames fill the clip")
    #expect(stride(5, 3, 1, 1) >= 1 && stride(1, 0, 0, 1) == 1)
    for t in 22...260 { #expect((1...t).contains(stride(t, 0, 1, 2)), "T \(t)") }
  }

  @Test("Impossible patterns are refused") func impossiblePatternsAreRefused() {
    #expect(throws: SparsityError.recipe("an anchor stride of 42 on a clip of 41 latent frames; 1 to 41 are possible"))
    {
      try AnchorPattern(frames: 41, stride: 42)
    }
    #expect(throws: SparsityError.self) { try AnchorPattern(frames: 41, stride: 0) }
    #expect(throws: SparsityError.self) { try AnchorPattern(frames: 41, stride: 3, halfWindow: -1) }
    #expect(throws: SparsityError.self) { try AnchorPattern(frames: 41, stride: 3, leading: -1) }
  }
}
