import Production
import Testing

/// Requests that cannot be had say so in one line, before any work.
@Suite struct RefusalTests {
  struct Wrong: Sendable, CustomStringConvertible {
    let words: String
    let change: @Sendable (inout RunRequest) -> Void
    var description: String { words }
    init(_ words: String, _ change: @escaping @Sendable (inout RunRequest) -> Void) {
      (self.words, self.change) = (words, change)
    }
  }

  @Test(
    "A wrong request is refused with what would be right",
    arguments: [
      Wrong("there are dense, self-forcing, sparse-forcing, light-forcing, lvsa, longtake") { $0.sparsity = "magic" },
      Wrong("there are all, topk, hierarchical, anchors") { $0.select = "some" },
      Wrong("there are R0, R1, R2, R3, R4") { ($0.sparsity, $0.rotation) = ("lvsa", "R5") },
      Wrong("needs --mode chunks") { ($0.sparsity, $0.mode, $0.rotation) = ("lvsa", .clip, "R3") },
      Wrong("belongs to --sparsity lvsa or longtake") { $0.rotation = "R3" },
      Wrong("has nothing to turn") { ($0.sparsity, $0.rotation) = ("sparse-forcing", "R3") },
      Wrong("belongs to --select topk") { ($0.sparsity, $0.anchorStride) = ("light-forcing", 4) },
      Wrong("the least is 0") { ($0.sparsity, $0.anchorStride) = ("longtake", -1) },
      Wrong("there are every-pass, once-per-chunk") { $0.replan = "never" },
      Wrong("needs a selection by content") { ($0.sparsity, $0.replan) = ("lvsa", "once-per-chunk") },
      Wrong("there are all, window, persistent, reservoir") { $0.memory = "most" },
      Wrong("there are drop, centroid") { $0.tail = "mean" },
      Wrong("1 to 21 are possible") { ($0.sparsity, $0.anchors.stride) = ("lvsa", 22) },
      Wrong("1 to 21 are possible") { ($0.sparsity, $0.anchors.stride) = ("lvsa", 0) },
      Wrong("the least is 0, which reads anchors only") { ($0.sparsity, $0.anchors.window) = ("lvsa", -1) },
      Wrong("--lvsa-first -1") { ($0.sparsity, $0.anchors.first) = ("lvsa", -1) },
      Wrong("--lvsa-budget 0") { ($0.sparsity, $0.anchors.budget) = ("lvsa", 0) },
      Wrong("--lvsa-scale") { ($0.sparsity, $0.anchors.scale) = ("lvsa", 0) },
      Wrong("the least is 12") { ($0.sparsity, $0.anchors.budget) = ("lvsa", 11) },
      Wrong("belong to --sparsity lvsa") { $0.anchors.window = 3 },
      Wrong("belong to --select hierarchical") { $0.hierarchy.keep = 3 },
      Wrong("need a selection that can choose") { $0.growth.target = 0.5 },
      Wrong("is not in [0, 1)") { ($0.sparsity, $0.growth.target) = ("light-forcing", 1) },
      Wrong("is not in [0, 1)") { ($0.sparsity, $0.growth.base) = ("light-forcing", .nan) },
      Wrong("sparsity could not grow") { ($0.sparsity, $0.growth.base) = ("light-forcing", 0.5) },
      Wrong("the least is 3") { ($0.sparsity, $0.hierarchy.keep) = ("light-forcing", 2) },
      Wrong("is not in (0, 1]") { ($0.sparsity, $0.density) = ("sparse-forcing", 0) },
      Wrong("is not in (0, 1]") { ($0.sparsity, $0.density) = ("sparse-forcing", 1.5) },
      Wrong("needs a selection that can choose") { $0.density = 0.5 },
      Wrong("the least is 3") { ($0.sparsity, $0.memoryCapacity) = ("sparse-forcing", 2) },
      Wrong("the least is 3") { ($0.sparsity, $0.localWindow) = ("sparse-forcing", 2) },
      Wrong("--sink 7") { ($0.sparsity, $0.sink) = ("sparse-forcing", 7) },
      Wrong("--local-window") { ($0.sparsity, $0.window) = ("sparse-forcing", .frames(12)) },
      Wrong("belongs to --memory persistent") { $0.localWindow = 6 },
      Wrong("belongs to --memory persistent or reservoir") { $0.memoryCapacity = 6 },
      Wrong("needs --select anchors") { $0.memory = "reservoir" },
      // Capacities smaller than a chunk, densities outside (0, 1], tiles that do not divide 32x48 tokens, and combinations.
      Wrong("the least is 3") { ($0.sparsity, $0.memoryCapacity) = ("longtake", 2) },
      Wrong("the least is 3") { ($0.sparsity, $0.memoryCapacity) = ("longtake", 0) },
      Wrong("the least is 3") { ($0.sparsity, $0.localWindow) = ("longtake", 1) },
      Wrong("the least is 9") { ($0.sparsity, $0.chunkFrames) = ("sparse-forcing", 9) },
      Wrong("0 to 4 are possible") { ($0.sparsity, $0.memoryCapacity, $0.sink) = ("longtake", 4, 5) },
      Wrong("the least is 0") { ($0.sparsity, $0.sink) = ("longtake", -1) },
      Wrong("the least is 3") { $0.window = .frames(2) },
      Wrong("the least is 6") { ($0.window, $0.sink) = (.frames(5), 3) },
      Wrong("1 reads everything") { ($0.sparsity, $0.density) = ("longtake", 2) },
      Wrong("0.25 is usual") { ($0.sparsity, $0.density) = ("longtake", 0) },
      Wrong("0.25 is usual") { ($0.sparsity, $0.density) = ("longtake", -.infinity) },
      Wrong("0.25 is usual") { ($0.sparsity, $0.density) = ("longtake", .nan) },
      Wrong("0 reads everything") { ($0.sparsity, $0.growth.target) = ("longtake", -0.1) },
      Wrong("0.88 and 0.98") { ($0.sparsity, $0.growth.target) = ("longtake", 1) },
      Wrong("the least is 0.9") { ($0.sparsity, $0.growth.target, $0.growth.base) = ("longtake", 0.9, 0.3) },
      Wrong("give --density or --cag-target") {
        ($0.sparsity, $0.density, $0.growth.target) = ("longtake", 0.5, 0.5)
      },
      Wrong("a tile of 8x8 fits") { $0.tile = "7x8" },
      Wrong("a tile of 4x12 fits") { $0.tile = "4x13" },
      Wrong("a tile of 3x4x4 fits") { $0.tile = "3x5x4" },
      Wrong("a tile of 8x8 fits") { $0.tile = "16x16" },
      Wrong("is not RxC or FxRxC") { $0.tile = "0x4" },
      Wrong("needs --mode chunks") { ($0.mode, $0.sparsity) = (.clip, "longtake") },
      Wrong("--memory persistent has --local-window") { ($0.sparsity, $0.window) = ("longtake", .frames(12)) },
      Wrong("needs --select anchors") { ($0.sparsity, $0.memory) = ("longtake", "reservoir") },
      Wrong("belongs to --memory persistent") { ($0.sparsity, $0.memory, $0.localWindow) = ("longtake", "window", 6) },
      Wrong("not to all") { ($0.sparsity, $0.memoryCapacity) = ("dense", 3) },
      Wrong("leave out --window") { ($0.memory, $0.window) = ("all", .frames(9)) },
      Wrong("the least is 10") { ($0.sparsity, $0.hierarchy.near) = ("light-forcing", 9) },
      Wrong("pages inside one frame") { ($0.sparsity, $0.tile) = ("light-forcing", "3x4x4") },
      Wrong("pages inside one frame") { ($0.sparsity, $0.tile) = ("lvsa", "3x4x4") },
      Wrong("more than 64; a tile of 8x8 fits") { ($0.sparsity, $0.tile) = ("light-forcing", "3x8x8") },
      Wrong("tokens of a frame; a tile of 4x12 fits") { ($0.sparsity, $0.tile) = ("lvsa", "3x4x13") },
      Wrong("--sampler belongs to --mode clip") { $0.sampler = "euler" },
      Wrong("there are euler, unipc") { ($0.mode, $0.sampler) = (.clip, "heun") },
      Wrong("needs --mode chunks") { ($0.mode, $0.sparsity) = (.clip, "light-forcing") },
      Wrong("leave out --window") { ($0.mode, $0.window) = (.clip, .frames(9)) },
      Wrong("leave out --memory") { ($0.mode, $0.memory) = (.clip, "window") },
      Wrong("needs --sampler euler") { ($0.mode, $0.sampler, $0.timesteps) = (.clip, "unipc", [1000, 500]) },
      Wrong("1 to 1000 are possible") { ($0.mode, $0.steps) = (.clip, 0) },
      Wrong("--guidance") { $0.guidance = -1 },
      Wrong("--guidance") { $0.guidance = .nan },
    ])
  func aWrongRequestIsRefusedWithWhat(wrong: Wrong) throws {
    let line = try refusal {
      $0.frames = 81
      wrong.change(&$0)
    }
    #expect(line?.contains(wrong.words) == true, "\(line ?? "accepted")")
    #expect(line?.contains("\n") != true)
  }

  @Test("Guidance is off chunk by chunk, and negative prompts come from flag or model")
  func guidanceIsOffChunkByChunkAnd() throws {
    func settings(_ change: (inout RunRequest) -> Void) throws -> RunSettings { try RunSettings(request(change)) }
    #expect(try settings { _ in }.negativePrompt == nil)
    #expect(try settings { $0.guidance = 3 }.negativePrompt == "")
    #expect(try settings { ($0.guidance, $0.negativePrompt) = (3, "blur") }.negativePrompt == "blur")
    #expect(try settings { $0.negativePrompt = "blur" }.notes.contains { $0.contains("no effect") })
  }
}
