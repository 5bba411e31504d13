import Foundation
import Production
import SparseAttention
import Testing

/// Light Forcing's published tables, and Sparse Forcing's counts, through `plan`.
@Suite struct GrowthPlanTests {
  @Test("The short setting over 81 frames is the published table") func theShortSettingOver81FramesIs() throws {
    let plan = try plan {
      $0.frames = 81
      $0.sparsity = "light-forcing"
      $0.timesteps = [1000, 750, 500, 250]
    }
    #expect(plan.latentFrames == 21 && plan.chunks.count == 7)
    #expect(plan.chunks.map(\.pagesKept) == [72, 144, 216, 288, 360, 432, 504])
    #expect(plan.chunks.map(\.pagesRead) == [72, 24, 31, 36, 42, 46, 51])
    #expect(plan.chunks.map(\.visibleFrames) == [3, 6, 9, 12, 15, 18, 21])
    let sparsities = [0, 0.826990, 0.855068, 0.871806, 0.883228, 0.891660, 0.898213]
    for (chunk, s) in zip(plan.chunks, sparsities) {
      #expect(abs(1 - chunk.density - s) < 1e-6, "chunk \(chunk.index): \(1 - chunk.density), wanted \(s)")
    }
    // The example of the plan's documentation.
    #expect(abs(plan.chunks[1].density - 0.1730096) < 1e-7 && plan.chunks[1].firstFrame == 3)
    for (a, b) in zip(plan.schedule.timesteps, [1000, 937.5, 833.3333333, 625]) { #expect(abs(a - b) < 1e-6) }
    for (a, b) in zip(plan.schedule.sigmas, [1, 0.9375, 0.8333333, 0.625]) { #expect(abs(a - b) < 1e-7) }
    #expect(plan.reads == nil && plan.pattern == nil)
  }

  @Test("The long setting over 249 frames is the published table") func theLongSettingOver249FramesIs() throws {
    let plan = try plan {
      $0.frames = 249
      $0.sparsity = "light-forcing"
      $0.window = .frames(12)
      ($0.growth.target, $0.growth.base) = (0.85, 0.95)
      ($0.hierarchy.keep, $0.hierarchy.sink, $0.hierarchy.near) = (3, 1, 1)
    }
    #expect(
      plan.chunks.map(\.pagesRead)
        == [72, 38, 48, 58, 53, 50, 47, 45, 43, 42, 40, 39, 38, 37, 37, 36, 35, 35, 34, 34, 33])
    let sparsities = [
      0.734473, 0.774023, 0.797599, 0.813689, 0.825565, 0.834796, 0.842236, 0.848399, 0.853613, 0.858099, 0.862011,
      0.865463, 0.868538, 0.871301, 0.873800, 0.876075, 0.878158, 0.880074, 0.881844, 0.883487,
    ]
    for (chunk, s) in zip(plan.chunks.dropFirst(), sparsities) {
      #expect(abs(1 - chunk.density - s) < 1e-6, "chunk \(chunk.index): \(1 - chunk.density), wanted \(s)")
    }
    #expect(plan.chunks.dropFirst(3).allSatisfy { $0.pagesKept == 288 && $0.visibleFrames == 12 })
  }

  @Test("The setting for large blocks has the same growth at other levels") func theSettingForLargeBlocksHasThe() throws
  {
    let plan = try plan {
      $0.frames = 81
      $0.sparsity = "light-forcing"
      ($0.growth.target, $0.growth.base) = (0.80, 0.90)
    }
    for (chunk, s) in zip(plan.chunks.dropFirst(), [0.746990, 0.775068, 0.791806, 0.803228, 0.811660, 0.818213]) {
      #expect(abs(1 - chunk.density - s) < 1e-6)
    }
  }

  @Test("A target alone is also the base, and the mean over what is visible is the target")
  func aTargetAloneIsAlsoTheBase() throws {
    let flat = try plan {
      $0.frames = 81
      $0.sparsity = "light-forcing"
      $0.growth.target = 0.7
    }
    for chunk in flat.chunks.dropFirst() { #expect(abs(chunk.density - 0.3) < 1e-9) }
    let growing = try plan {
      $0.frames = 333
      $0.sparsity = "light-forcing"
      $0.window = .all
    }
    let later = growing.chunks.dropFirst()
    let weight = later.reduce(0.0) { $0 + Double($1.visibleFrames) }
    let mean = later.reduce(0.0) { $0 + $1.density * Double($1.visibleFrames) } / weight
    #expect(abs(mean - 0.12) < 1e-9, "\(mean)")
    #expect(zip(later, later.dropFirst()).allSatisfy { $0.density > $1.density })
  }

  @Test("Selection by frames reads its candidates at most, and one page at least")
  func selectionByFramesReadsItsCandidatesAt() throws {
    let wide = try plan {
      $0.frames = 81
      $0.sparsity = "light-forcing"
      $0.growth.target = 0.1
    }
    // (6 past + 3 own frames) x 24 pages, once there are more than 6 past frames.
    #expect(wide.chunks.map(\.pagesRead) == [72, 129, 194, 216, 216, 216, 216])
    let free = try plan {
      $0.frames = 81
      $0.sparsity = "light-forcing"
      $0.select = "topk"
      $0.growth.target = 0.1
    }
    #expect(free.chunks.map(\.pagesRead) == [72, 129, 194, 259, 324, 388, 453])
    let narrow = try plan {
      $0.frames = 81
      $0.sparsity = "light-forcing"
      $0.growth.target = 0.9999
    }
    #expect(narrow.chunks.dropFirst().allSatisfy { $0.pagesRead == 1 })
  }

  @Test("One chunk is dense") func oneChunkIsDense() throws {
    let plan = try plan {
      $0.frames = 9
      $0.sparsity = "light-forcing"
    }
    #expect(plan.chunks.map(\.density) == [1] && plan.chunks[0].pagesRead == 72)
  }

  @Test("Persistent pages are all read, of the local window a quarter, and memory is 42% smaller")
  func persistentPagesAreAllReadOfThe() throws {
    func sparsePlan(_ positions: String?) throws -> RunPlan {
      try plan {
        $0.frames = 161
        $0.sparsity = "sparse-forcing"
        $0.precision = .f32
        $0.positions = positions
        ($0.height, $0.width) = (480, 832)
      }
    }
    let sparse = try sparsePlan("absolute")
    #expect(sparse.pagesPerFrame == 26)
    #expect(sparse.chunks.prefix(6).map(\.visibleFrames) == [3, 6, 9, 12, 12, 12])
    #expect(sparse.chunks.prefix(6).map(\.pagesKept) == [78, 156, 234, 312, 312, 312])
    // ceil(78 / 4), ceil(156 / 4), then 3 and 6 persistent frames more.
    #expect(sparse.chunks.prefix(6).map(\.pagesRead) == [20, 39, 78 + 39, 156 + 39, 156 + 39, 156 + 39])
    #expect(sparse.chunks.allSatisfy { $0.density == 0.25 })
    let dense = try plan {
      $0.frames = 81
      $0.sparsity = "dense"
      $0.precision = .f32
      ($0.height, $0.width) = (480, 832)
    }
    #expect(Double(sparse.kvBytes) < 0.58 * Double(dense.kvBytes), "\(sparse.kvBytes) of \(dense.kvBytes)")
    #expect(sparse.windowKvBytes == dense.kvBytes)
    #expect(sparse.text.contains("42.86% below a dense cache of 21 frames"), "\(sparse.text)")
    // A run that outlives the trained window counts ranks; 44 of 128 channels of each key are then kept unturned besides.
    let ranked = try sparsePlan(nil)
    #expect(ranked.kvBytes == sparse.kvBytes / 256 * (256 + 44))
    // Both comparisons are told: 12 of 21 frames, and 12 with such channels of 21 without.
    #expect(ranked.windowKvBytes == dense.kvBytes && ranked.windowKvBytesSamePositions * 12 == ranked.kvBytes * 21)
    #expect(
      ranked.text.contains(
        "42.86% below a dense cache of 21 frames with such positions, 33.04% below one with absolute positions"
      ),
      "\(ranked.text)")
    let wider = try plan {
      $0.frames = 161
      $0.sparsity = "sparse-forcing"
      ($0.memoryCapacity, $0.localWindow, $0.density) = (4, 9, 0.5)
    }
    #expect(wider.chunks.prefix(6).map(\.visibleFrames) == [3, 6, 9, 12, 13, 13])
    #expect(wider.chunks[5].pagesRead == 4 * 24 + 9 * 12)
  }

  @Test("Longtake keeps persistent pages, counts them in its growth, and takes the flags of its parts")
  func longtakeKeepsPersistentPagesCountsThemIn() throws {
    let settings = LongTake()
    let kept = settings.blocks.capacityFrames + settings.blocks.localWindow
    let long = try plan {
      $0.frames = 321
      $0.sparsity = "longtake"
    }
    for (chunk, density) in zip(long.chunks, settings.growth.densities(total: 27)) {
      #expect(chunk.visibleFrames == min(kept, 3 * (chunk.index + 1)) && chunk.pagesKept == 24 * chunk.visibleFrames)
      #expect(chunk.density == density && chunk.pagesRead == max(1, Int(density * Double(chunk.pagesKept))))
    }
    #expect(long.reads == nil && long.recipe == "longtake")
    let own = try plan {
      $0.frames = 161
      $0.sparsity = "longtake"
      ($0.growth.target, $0.growth.base) = (0.8, 0.9)
      ($0.memoryCapacity, $0.localWindow, $0.sink) = (4, 9, 1)
    }
    #expect(own.chunks.map(\.visibleFrames) == [3, 6, 9, 12] + Array(repeating: 13, count: 9) + [12])
    #expect(own.memory == "4 frames of persistent pages beside a window of 9, sink 1")
    // As many pages as Sparse Forcing reads of a full memory: 6 and a quarter of 6 of 12 frames, 180 of 288 pages.
    let flat = try plan {
      $0.frames = 161
      $0.memory = "persistent"
      $0.select = "topk"
      $0.growth.target = 0.375
    }
    #expect(flat.chunks.dropFirst(3).dropLast().allSatisfy { $0.pagesRead == 180 && $0.pagesKept == 288 })
    let settingsOf = { (change: (inout RunRequest) -> Void) in try RunSettings(request(change)).recipe }
    #expect(try settingsOf { $0.sparsity = "longtake" }.tail == settings.tail)
    let other = try settingsOf {
      $0.sparsity = "longtake"
      ($0.tail, $0.anchorStride, $0.rotation, $0.replan) = ("drop", 5, "r4", "once-per-chunk")
    }
    #expect(other.tail == .drop && other.select == .topk(anchorStride: 5, rotation: .staggered))
    #expect(other.replan == .oncePerChunk)
  }

  @Test("A plan of three hours takes time in proportion to its chunks") func aPlanOfThreeHoursTakesTime() throws {
    for sparsity in ["dense", "self-forcing", "sparse-forcing", "light-forcing", "longtake"] {
      let clock = ContinuousClock()
      let start = clock.now
      // Six hours at 16 fps; a plan that is quadratic in its chunks takes minutes.
      let long = try plan {
        $0.frames = 345_601
        $0.sparsity = sparsity
      }
      let time = clock.now - start
      #expect(time < .seconds(10), "\(sparsity): \(time)")
      #expect(long.chunks.count == 28_801)
      if sparsity == "dense" { #expect(long.chunks[28_800].visibleFrames == 86_401) }
    }
  }

  @Test("A constant share of a window is rounded up") func aConstantShareOfAWindowIs() throws {
    let plan = try plan {
      $0.frames = 81
      $0.select = "topk"
      $0.density = 0.1
      $0.window = .frames(9)
    }
    #expect(plan.chunks.map(\.pagesRead) == [8, 15, 22, 22, 22, 22, 22])
  }
}
