import SparseAttention
import Testing

/// The tables of the Light Forcing specification, section 2.4 (512x768, 24 pages of 64 tokens a frame).
@Suite struct ChunkAwareGrowthTests {
  private static func check(
    _ growth: ChunkAwareGrowth, chunks: Int, pagesPerFrame: Int, sparsity: [Double], pages: [Int], read: [Int]
  ) {
    for (i, expected) in sparsity.enumerated() {
      let s = growth.sparsity(chunk: i + 1, of: chunks)
      #expect(abs(s - expected) < 1e-6, "s_\(i + 1) = \(s), published \(expected)")
      let visible = min(3 * (i + 2), growth.window ?? .max) * pagesPerFrame
      #expect(visible == pages[min(i, pages.count - 1)])
      let count = growth.budget(chunk: i + 1, of: chunks).pages(of: visible)
      #expect(count == read[i], "chunk \(i + 1) reads \(count) of \(visible) pages, published \(read[i])")
    }
  }

  @Test("The short setting gives the published table") func theShortSettingGivesThePublishedTable() {
    let short = ChunkAwareGrowth.short
    #expect(abs(short.beta(chunks: 7) - 0.374795) < 1e-6)
    Self.check(
      short, chunks: 7, pagesPerFrame: 24, sparsity: [0.826990, 0.855068, 0.871806, 0.883228, 0.891660, 0.898213],
      pages: [144, 216, 288, 360, 432, 504], read: [24, 31, 36, 42, 46, 51])
    // In full digits, by the rule in Python's floats.
    for (i, s) in [0.8269904165, 0.8550681982, 0.8718058859, 0.8832282425, 0.8916598758, 0.8982129374].enumerated() {
      #expect(abs(short.sparsity(chunk: i + 1, of: 7) - s) < 1e-9, "chunk \(i + 1)")
    }
  }

  @Test("The setting for Hopper gives the published table") func theSettingForHopperGivesThePublished() {
    Self.check(
      ChunkAwareGrowth(target: 0.80, base: 0.90), chunks: 7, pagesPerFrame: 12,
      sparsity: [0.746990, 0.775068, 0.791806, 0.803228, 0.811660, 0.818213], pages: [72, 108, 144, 180, 216, 252],
      read: [18, 24, 29, 35, 40, 45])
  }

  @Test("The long setting gives the published table, and grows on while the window is full")
  func theLongSettingGivesThePublishedTable() {
    #expect(abs(ChunkAwareGrowth.long.beta(chunks: 21) - 0.527932) < 1e-6)
    Self.check(
      .long, chunks: 21, pagesPerFrame: 24,
      sparsity: [
        0.734473, 0.774023, 0.797599, 0.813689, 0.825565, 0.834796, 0.842236, 0.848399, 0.853613, 0.858099, 0.862011,
        0.865463, 0.868538, 0.871301, 0.873800, 0.876075, 0.878158, 0.880074, 0.881844, 0.883487,
      ], pages: [144, 216, 288],
      read: [38, 48, 58, 53, 50, 47, 45, 43, 42, 40, 39, 38, 37, 37, 36, 35, 35, 34, 34, 33])
  }

  @Test(
    "The mean over visible frames is the target, chunk 0 apart",
    arguments: [(0.88, 0.98, 21, 7), (0.85, 0.95, 12, 21), (0.5, 0.7, nil, 2), (0.3, 0.9, 6, 80)])
  func theMeanOverVisibleFramesIsThe(
    target: Double, base: Double, window: Int?, chunks: Int
  ) {
    let growth = ChunkAwareGrowth(target: target, base: base, window: window)
    var (sum, weight, last) = (0.0, 0.0, -1.0)
    for i in 1..<chunks {
      let visible = Double(min(3 * (i + 1), window ?? .max))
      let s = growth.sparsity(chunk: i, of: chunks)
      // Strong growth may ask for less than no sparsity in early chunks; then the mean cannot hold.
      if s == 0 { return }
      #expect(s > last && s < base)
      last = s
      sum += s * visible
      weight += visible
    }
    #expect(abs(sum / weight - target) < 1e-12)
    #expect(growth.density(chunk: 0, of: chunks) == 1)
  }

  @Test("Over a whole video, its dense first chunk included, as much is read as published")
  func overAWholeVideoAsMuchIsRead() {
    // Section 2.4: 0.150 of all pages in the short setting (6.7 times fewer operations), 0.225 in that for Hopper.
    for (growth, perFrame, published) in [
      (ChunkAwareGrowth.short, 24, 0.150), (ChunkAwareGrowth(target: 0.80, base: 0.90), 12, 0.225),
    ] {
      let pages = (1...7).map { 3 * $0 * perFrame }
      let read = pages.enumerated().map { growth.budget(chunk: $0, of: 7).pages(of: $1) }
      let density = Double(read.reduce(0, +)) / Double(pages.reduce(0, +))
      #expect(abs(density - published) < 0.0005, "\(density)")
      // Before rounding to pages, chunk 0 apart: sum (1 - s_i) L_i = (1 - s_target) 81.
      let frames = (1..<7).reduce(0.0) { $0 + growth.density(chunk: $1, of: 7) * Double(3 * $1 + 3) }
      #expect(abs(frames - (1 - growth.target) * 81) < 1e-12)
    }
  }

  @Test("A target that is also the base is the same for every chunk but the first") func aTargetThatIsAlsoTheBase() {
    let flat = ChunkAwareGrowth(target: 0.9, base: nil)
    #expect(flat.density(chunk: 0, of: 9) == 1)
    for i in 1..<9 { #expect(abs(flat.sparsity(chunk: i, of: 9) - 0.9) < 1e-15) }
  }

  @Test("One chunk is dense, and chunks past the plan are as sparse as its last") func oneChunkIsDenseAndChunksPast() {
    let short = ChunkAwareGrowth.short
    #expect(short.density(chunk: 0, of: 1) == 1)
    #expect(short.sparsity(chunk: 7, of: 7) == short.sparsity(chunk: 6, of: 7))
    #expect(short.sparsity(chunk: 100_000, of: nil) == short.sparsity(chunk: 20, of: 21))
    #expect(short.sparsity(chunk: 3, of: nil) == short.sparsity(chunk: 3, of: 21))
  }

  @Test(
    "Without an end, growth is planned for 63 latent frames whatever the chunk, and then holds",
    arguments: [(1, 63), (3, 21), (6, 11), (63, 2), (100, 2)])
  func withoutAnEndGrowthIsPlannedFor(chunkFrames: Int, chunks: Int) {
    for setting in [ChunkAwareGrowth.short, .long] {
      var growth = setting
      growth.chunkFrames = chunkFrames
      for chunk in 0..<chunks {
        #expect(growth.sparsity(chunk: chunk, of: nil) == growth.sparsity(chunk: chunk, of: chunks))
      }
      for chunk in [chunks, chunks + 1, 1_000_000] {
        #expect(growth.sparsity(chunk: chunk, of: nil) == growth.sparsity(chunk: chunks - 1, of: chunks))
      }
      #expect(growth.sparsity(chunk: 1_000_000, of: nil) < growth.base)
    }
  }

  @Test("All chunks' densities at once are those of each chunk", arguments: [1, 2, 7, 300])
  func allChunksDensitiesAtOnceAreThose(chunks: Int) {
    for schedule in [ChunkAwareGrowth.short, .long] {
      #expect(schedule.densities(total: chunks) == (0..<chunks).map { schedule.density(chunk: $0, of: chunks) })
    }
    #expect(ConstantDensity(0.25).densities(total: chunks) == Array(repeating: 0.25, count: chunks))
  }

  @Test("Impossible sparsities and densities are refused") func impossibleSparsitiesAndDensitiesAreRefused() {
    for value in [-0.1, 1, 1.5, .nan] {
      #expect(throws: SparsityError.self) { try ChunkAwareGrowth(target: value).check() }
      #expect(throws: SparsityError.self) { try ChunkAwareGrowth(base: value).check() }
    }
    for value in [0, -0.25, 1.01, .nan] { #expect(throws: SparsityError.self) { try ConstantDensity(value).check() } }
    #expect(throws: Never.self) { try ConstantDensity(1).check() }
  }

  @Test("A budget is rounded as its schedule says, and is never nothing") func aBudgetIsRoundedAsItsSchedule() {
    #expect(ConstantDensity(0.25).budget(chunk: 3, of: nil).pages(of: 156) == 39)
    #expect(ConstantDensity(0.25).budget(chunk: 3, of: nil).pages(of: 157) == 40)
    #expect(ConstantDensity(0.001).budget(chunk: 3, of: nil).pages(of: 4) == 1)
    #expect(PageBudget(density: 0.01, rounding: .down).pages(of: 4) == 1)
    #expect(PageBudget(density: 1).pages(of: 7) == 7)
    #expect(PageBudget(density: 0.5).pages(of: 0) == 0)
  }
}
