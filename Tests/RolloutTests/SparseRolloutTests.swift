import Compute
import Rollout
import SparseAttention
import Tensors
import Testing
import WanModel

/// Sparse recipes with the shipped weights, over 21 latent frames of 4 x 8 tokens in pages of 4.
@Suite struct SparseRolloutTests {
  private let model: ShippedModel
  init() throws { model = try ShippedModel() }

  private func run(_ recipe: SparsityRecipe, frames: Int = 21, threads: Int = 2) async throws -> (
    latents: [[Float]], chunks: [FinishedChunk], bytes: Int
  ) {
    let backend = CPUBackend(threads: threads)
    let transformer = try model.folder.loadTransformer(on: backend)
    var settings = RolloutSettings(
      latentHeight: 8, latentWidth: 16, latentFrames: frames,
      schedule: try FlowSchedule(nominal: [1000, 750, 500, 250], shift: 5), recipe: recipe)
    settings.tile = PageTile(rows: 2, columns: 2)
    let rollout = try Rollout(
      transformer: transformer, text: model.context(transformer, on: backend), noise: CounterNoise(seed: 11),
      settings: settings, on: backend)
    var (latents, chunks) = ([[Float]](), [FinishedChunk]())
    for try await chunk in rollout {
      latents.append(backend.download(chunk.latents).floats())
      chunks.append(chunk)
    }
    return (latents, chunks, rollout.memoryBytes)
  }

  /// The video's pixels, decoded chunk by chunk.
  private func frames(_ latents: [[Float]]) throws -> [Float] {
    let backend = CPUBackend(threads: 2)
    let decoder = try model.folder.loadDecoder(on: backend)
    return try latents.flatMap { chunk in
      let pixels = try decoder.decode(backend.upload(Tensor(chunk, shape: [chunk.count / (16 * 8 * 16), 16, 8, 16])))
      return backend.download(pixels).floats()
    }
  }

  @Test("Recipes with everything kept and read equal dense Self-Forcing over 21 frames")
  func recipesWithEverythingKeptAndReadEqual() async throws {
    let dense = try await run(.selfForcing(window: 21)).latents
    for positions in PositionMode.allCases {
      let recipes: [SparsityRecipe] = [
        .dense(),
        .sparseForcing(
          SparseForcing(blocks: PersistentBlocks(capacityFrames: 15), density: 1), positions: positions),
        .lightForcing(LightForcing(growth: ChunkAwareGrowth(target: 0, base: 0)), positions: positions),
      ]
      for recipe in recipes {
        var recipe = recipe
        // Light Forcing's frames are a choice of their own; with all of them kept nothing is left out.
        if recipe.name == "light-forcing" { recipe.select = Hierarchical(keep: 21) }
        let latents = try await run(recipe).latents
        for (i, (a, b)) in zip(latents, dense).enumerated() {
          let error = distance(a, b)
          #expect(error < 1e-5, "\(recipe.name), positions \(positions), chunk \(i): \(error)")
        }
        guard recipe.name == "sparse-forcing" else { continue }
        let (pixels, wanted) = (try frames(latents), try frames(dense))
        let apart = zip(pixels, wanted).reduce(Float(0)) { max($0, abs($1.0 - $1.1)) }
        #expect(
          pixels.count == 81 * 64 * 128 * 3 && apart < 1 / 255.0, "positions \(positions): frames differ by \(apart)")
      }
    }
  }

  @Test(
    "Sparse rollouts give the same bytes on any number of threads, and again",
    arguments: ["sparse-forcing", "light-forcing"])
  func sparseRolloutsGiveTheSameBytesOn(name: String) async throws {
    var recipe = name == "sparse-forcing" ? SparsityRecipe.sparseForcing() : .lightForcing()
    for tail in Compensation.allCases {
      recipe.tail = tail
      let first = try await run(recipe, threads: 2).latents
      let others = [
        try await run(recipe, threads: 1).latents, try await run(recipe, threads: 3).latents,
        try await run(recipe, threads: 2).latents,
      ]
      #expect(others.allSatisfy { $0 == first }, "\(name), \(tail)")
    }
  }

  @Test("Sparse Forcing keeps 12 frames and reads the persistent ones and a quarter of the window")
  func sparseForcingKeeps12FramesAndReads() async throws {
    // 33 frames: four chunks beyond the first that has to choose.
    let sparse = try await run(.sparseForcing(), frames: 33)
    #expect(sparse.chunks.map(\.pagesKept) == [24, 48, 72, 96, 96, 96, 96, 96, 96, 96, 96])
    #expect(sparse.chunks.map(\.pagesRead) == [6, 12, 36, 60, 60, 60, 60, 60, 60, 60, 60])
    let dense = try await run(.selfForcing(window: 21))
    #expect(dense.chunks.map(\.pagesRead) == [24, 48, 72, 96, 120, 144, 168])
    let saved = 1 - Double(sparse.bytes) / Double(dense.bytes)
    #expect(saved > 0.42, "\(saved) of the memory of 21 frames is saved")
    // Every list is counted: all pages in the first chunk's six, then what the plan says.
    for chunk in sparse.chunks + dense.chunks {
      #expect(chunk.layerDensities.count == 6)
      for density in chunk.layerDensities { #expect(density == Double(chunk.pagesRead) / Double(chunk.pagesKept)) }
    }
  }

  @Test("Longtake reads what its growth allows of all pages in memory, in every layer, and has no end")
  func longtakeReadsWhatItsGrowthAllowsOf() async throws {
    let settings = LongTake()
    let recipe = SparsityRecipe.longtake(settings, steps: 4)
    let run = try await run(recipe, frames: 33)
    let kept = settings.blocks.capacityFrames + settings.blocks.localWindow
    for chunk in run.chunks {
      #expect(chunk.pagesKept == 8 * min(kept, 3 * (chunk.index + 1)))
      let budget = settings.growth.budget(chunk: chunk.index, of: 11)
      #expect(chunk.pagesRead == budget.pages(of: chunk.pagesKept))
      for density in chunk.layerDensities { #expect(density == Double(chunk.pagesRead) / Double(chunk.pagesKept)) }
    }
    #expect(run.chunks[10].density < 1)
    let again = try await self.run(recipe, frames: 33, threads: 3)
    #expect(again.latents == run.latents, "the same bytes on any number of threads")
    // A rollout without end follows the plan for 63 frames.
    let backend = CPUBackend(threads: 2)
    let transformer = try model.folder.loadTransformer(on: backend)
    var endless = RolloutSettings(
      latentHeight: 8, latentWidth: 16, latentFrames: nil,
      schedule: try FlowSchedule(nominal: [1000, 750, 500, 250], shift: 5), recipe: recipe)
    endless.tile = PageTile(rows: 2, columns: 2)
    let rollout = try Rollout(
      transformer: transformer, text: model.context(transformer, on: backend), noise: CounterNoise(seed: 11),
      settings: endless, on: backend)
    #expect(rollout.memoryBytes == run.bytes)
    for index in 0..<24 {
      let chunk = try #require(try await rollout.next())
      let budget = settings.growth.budget(chunk: min(index, 20), of: 21)
      #expect(chunk.pagesRead == budget.pages(of: chunk.pagesKept) && chunk.index == index)
    }
  }

  @Test("Longtake with everything read is exact") func longtakeWithEverythingReadIsExact() async throws {
    let dense = try await run(.selfForcing(window: 21)).latents
    let whole = LongTake(
      blocks: PersistentBlocks(capacityFrames: 15), target: 0, base: 0, anchorStride: 8, tail: .centroidTail)
    for positions in PositionMode.allCases {
      for (a, b) in zip(try await run(.longtake(whole, steps: 4, positions: positions)).latents, dense) {
        #expect(distance(a, b) < 1e-5, "positions \(positions)")
      }
    }
  }

  @Test("Light Forcing reads what its growth allows") func lightForcingReadsWhatItsGrowthAllows() async throws {
    let light = try await run(.lightForcing())
    let growth = ChunkAwareGrowth.short
    for chunk in light.chunks {
      let pages = 24 * (chunk.index + 1)
      #expect(chunk.pagesKept == pages)
      #expect(chunk.pagesRead == max(1, Int((1 - growth.sparsity(chunk: chunk.index, of: 7)) * Double(pages))))
    }
    let dense = try await run(.selfForcing(window: 21)).latents
    #expect(light.latents[0] == dense[0], "the first chunk is dense")
    #expect(distance(light.latents[6], dense[6]) > 1e-3)
  }

  /// Persistent blocks that are never told what pages are worth, and so keep the oldest.
  private struct Oldest: MemoryPolicy {
    let blocks: PersistentBlocks
    var summary: String { "the oldest" }
    func capacity(chunkFrames: Int, total: Int?) throws(SparsityError) -> Int {
      try blocks.capacity(chunkFrames: chunkFrames, total: total)
    }
    func isPersistent(_ page: PageID, chunkAt first: Int, frames: Int) -> Bool {
      blocks.isPersistent(page, chunkAt: first, frames: frames)
    }
    func evictions(from resident: [PageID], mass: [Float]?, after chunk: SealedChunk) -> Set<PageID> {
      blocks.evictions(from: resident, mass: nil, after: chunk)
    }
  }

  @Test("The clean pass tells every layer's memory what its pages are worth") func theCleanPassTellsEveryLayersMemory()
    async throws
  {
    // Chunk 4 is the first that reads what a choice has left.
    var results: [[[Float]]] = []
    for policy in [
      PersistentBlocks(sink: 0), PersistentBlocks(sink: 0, mass: .attended), Oldest(blocks: PersistentBlocks(sink: 0)),
      PersistentBlocks(sink: 0, shareHeads: true),
    ] as [any MemoryPolicy] {
      var recipe = SparsityRecipe.sparseForcing()
      recipe.memory = policy
      results.append(try await run(recipe, frames: 15).latents)
    }
    for (i, a) in results.enumerated() {
      #expect(a[..<4].elementsEqual(results[0][..<4]), "before the first choice, policy \(i)")
      for (j, b) in results[..<i].enumerated() { #expect(a[4] != b[4], "policies \(j) and \(i) keep the same") }
    }
  }

  @Test("What the recipes change, and what replaying a chunk's first selection changes, is measured")
  func whatTheRecipesChangeAndWhatReplaying() async throws {
    let dense = try await run(.selfForcing(window: 21)).latents
    for name in ["sparse-forcing", "light-forcing"] {
      var recipe = name == "sparse-forcing" ? SparsityRecipe.sparseForcing() : .lightForcing()
      let anew = try await run(recipe).latents
      recipe.tail = .centroidTail
      let tail = try await run(recipe).latents
      recipe.tail = .drop
      recipe.replan = .oncePerChunk
      let replayed = try await run(recipe).latents
      func list(_ a: [[Float]], _ b: [[Float]]) -> String {
        zip(a, b).map { String((distance($0, $1) * 1000).rounded() / 1000) }.joined(separator: " ")
      }
      print("\(name) against dense, relative L2 per chunk: \(list(anew, dense)); with the tail: \(list(tail, dense))")
      print("\(name) replayed against anew: \(list(replayed, anew)); against dense: \(list(replayed, dense))")
      #expect(replayed.allSatisfy { $0.allSatisfy(\.isFinite) } && replayed[6] != anew[6])
    }
  }
}
