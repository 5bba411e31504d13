import Production
import Testing

/// LVSA through `plan`, over whole clips and chunk by chunk.
@Suite struct AnchorPlanTests {
  /// A clip of `frames` latent frames with a budget of 21.
  private func clip(
    _ frames: Int, steps: Int = 50, detail: Bool = false, _ change: (inout RunRequest) -> Void = { _ in }
  )
    throws -> RunPlan
  {
    try plan(detail: detail) {
      ($0.frames, $0.mode, $0.sparsity, $0.steps) = (4 * frames - 3, .clip, "lvsa", steps)
      $0.anchors.budget = 21
      change(&$0)
    }
  }

  @Test(
    "Strides and densities of Wan's horizons are the published ones",
    arguments: [
      (21, 1, 1.0), (41, 3, 0.520), (42, 3, 0.516), (61, 4, 0.385), (63, 4, 0.373), (81, 6, 0.267), (84, 6, 0.260),
      (101, 7, 0.225), (121, 9, 0.180),
    ])
  func stridesAndDensitiesOfWansHorizonsAre(frames: Int, stride: Int, density: Double)
    throws
  {
    let plan = try clip(frames, steps: 2 * stride)
    let pattern = try #require(plan.pattern)
    #expect(pattern.stride == stride && pattern.window == 3 && pattern.first == 1)
    #expect(plan.chunks.count == 1)
    let chunk = plan.chunks[0]
    #expect(chunk.frames == frames && chunk.visibleFrames == frames && chunk.pagesKept == 24 * frames)
    // Steps are whole cycles here, so the mean is that over all offsets.
    #expect(abs(chunk.density - density) < 0.0011, "\(chunk.density)")
  }

  @Test("What each frame reads at each step are the golden vectors") func whatEachFrameReadsAtEachStep() throws {
    let plan = try clip(41, steps: 4, detail: true)
    let reads = try #require(plan.reads)
    #expect(reads.count == 4 * 41)
    for (i, read) in reads.enumerated() {
      #expect(read.step == i / 41 && read.queryFrame == i % 41)
      #expect(read.frames == read.frames.sorted() && read.frames.count == (read.step % 3 == 1 ? 22 : 21))
    }
    let every = Set(stride(from: 0, through: 39, by: 3))
    #expect(reads[0].frames == every.union(0...10).sorted())
    #expect(reads[20].frames == every.union(15...25).sorted())
    let second = Set([0] + Array(stride(from: 1, through: 40, by: 3)))
    #expect(reads[41 + 39].frames == second.union(30...40).sorted())
    #expect(reads[3 * 41 + 20].frames == reads[20].frames)
    // The most of any step, and the mean over steps (21, 22, 21, 21).
    #expect(plan.chunks[0].pagesRead == 22 * 24)
    #expect(abs(plan.chunks[0].density - 21.25 / 41) < 1e-12)
  }

  @Test("Anchors only: every frame reads the same four") func anchorsOnlyEveryFrameReadsTheSame() throws {
    let plan = try clip(10, steps: 1, detail: true) { ($0.anchors.window, $0.anchors.stride) = (0, 3) }
    #expect(plan.reads?.map(\.frames) == Array(repeating: [0, 3, 6, 9], count: 10))
    #expect(plan.pattern?.stride == 3 && plan.pattern?.window == 0)
  }

  @Test("Leading frames, scale and budget change the stride by the published rule")
  func leadingFramesScaleAndBudgetChangeThe() throws {
    #expect(try clip(41) { $0.anchors.scale = 2 }.pattern?.stride == 1)
    #expect(try clip(21) { $0.anchors.scale = 0.5 }.pattern?.stride ?? 1 > 1)
    #expect(try clip(49) { $0.anchors.budget = 33 }.pattern?.stride == 2)
    #expect(try clip(121) { $0.anchors.window = 4 }.pattern?.stride == 10)
    let given = try clip(41) { ($0.anchors.first, $0.anchors.stride) = (5, 7) }
    #expect(given.pattern?.first == 5 && given.pattern?.stride == 7)
    // Without a budget it is the model's training length.
    #expect(try plan { ($0.frames, $0.mode, $0.sparsity) = (93, .clip, "lvsa") }.pattern?.stride == 1)
  }

  @Test("A dense clip has one chunk and reads itself") func aDenseClipHasOneChunkAnd() throws {
    let plan = try plan(detail: true) { ($0.frames, $0.mode, $0.steps, $0.sampler) = (21, .clip, 3, "euler") }
    #expect(plan.chunks.count == 1 && plan.chunks[0].density == 1 && plan.chunks[0].pagesRead == 6 * 24)
    #expect(plan.pattern == nil && plan.reads?.count == 18)
    #expect(plan.reads?.allSatisfy { $0.frames == Array(0..<6) } == true)
  }

  @Test("The grids of clip mode are Euler's and UniPC's") func theGridsOfClipModeAreEulers() throws {
    let euler = try plan { ($0.frames, $0.mode, $0.steps, $0.sampler, $0.flowShift) = (21, .clip, 4, "euler", 5) }
    for (a, b) in zip(euler.schedule.timesteps, [1000, 937.5, 833.3333333, 625]) { #expect(abs(a - b) < 1e-6) }
    let unipc = try plan { ($0.frames, $0.mode, $0.steps, $0.sampler, $0.flowShift) = (21, .clip, 50, "unipc", 3) }
    #expect(unipc.schedule.timesteps.prefix(6) == [999, 992, 985, 978, 971, 963])
    #expect(unipc.schedule.timesteps.suffix(4) == [206, 160, 111, 57])
    #expect(abs(unipc.schedule.sigmas[0] - 3 * 0.999 / (1 + 2 * 0.999)) < 1e-12 && unipc.schedule.sigmas.count == 50)
  }

  @Test("Chunk by chunk the list has 21 frames, and its anchors turn with chunk and step")
  func chunkByChunkTheListHas21() throws {
    let plan = try plan(detail: true) {
      ($0.frames, $0.sparsity) = (161, "lvsa")
      $0.anchors.budget = 21
      $0.timesteps = [1000, 750, 500, 250]
    }
    #expect(plan.chunks.count == 14 && plan.chunks.map(\.visibleFrames) == Array(stride(from: 3, to: 40, by: 3)) + [41])
    #expect(
      plan.chunks.prefix(13).map(\.pagesRead) == [3, 6, 9, 12, 15, 18, 21, 21, 21, 21, 21, 21, 21].map { $0 * 24 })
    #expect(plan.chunks.prefix(7).allSatisfy { $0.density == 1 })
    #expect(abs(plan.chunks[12].density - 21.0 / 39) < 1e-12)
    let reads = try #require(plan.reads)
    #expect(reads.count == 4 * 41)
    // Chunk 7 at steps 0 and 1: 13 middle frames, stride 2, offsets 28 and 29 mod 2.
    #expect(reads[21].frames == [0, 2, 4, 6] + Array(7..<24))
    #expect(reads[41 + 23].frames == [0, 1, 3, 5, 7] + Array(8..<24))
    // The last chunk is computed whole and shown without what the video does not keep.
    #expect(reads[40].frames.last == 40 && reads[40].frames.count == 20)
  }

  @Test("A reservoir bounds what is kept") func aReservoirBoundsWhatIsKept() throws {
    let plan = try plan {
      ($0.frames, $0.sparsity, $0.memory, $0.memoryCapacity) = (2401, "lvsa", "reservoir", 32)
      $0.anchors.budget = 21
    }
    #expect(plan.chunks.count == 201 && plan.chunks.map(\.visibleFrames).max() ?? 0 <= 1 + 32 + 7 + 3)
    #expect(plan.chunks.dropFirst(6).dropLast().allSatisfy { $0.pagesRead == 21 * 24 })
    let longer = try RunPlan(
      RunSettings(
        request {
          ($0.frames, $0.sparsity, $0.memory, $0.memoryCapacity) = (4801, "lvsa", "reservoir", 32)
          $0.anchors.budget = 21
        }))
    #expect(longer.kvBytes == plan.kvBytes)
  }
}
