import Compute
import Rollout
import SparseAttention
import Tensors
import Testing
import WanModel

/// Selection costs no wait: the host launches every call of a rollout without having seen a score.
@Suite struct NoReadbackTests {
  private let model: ShippedModel
  init() throws { model = try ShippedModel() }

  /// The calls of each chunk of a rollout whose noise follows `seed`, and its latents.
  private func calls(_ recipe: SparsityRecipe, seed: UInt64, chunks: Int) async throws -> (
    calls: [[String]], latents: [Float]
  ) {
    let backend = CPUBackend(threads: 2)
    let recorder = CallRecorder(backend)
    let transformer = try model.folder.loadTransformer(on: recorder)
    var settings = RolloutSettings(
      latentHeight: 8, latentWidth: 16, latentFrames: 3 * chunks,
      schedule: try FlowSchedule(nominal: [1000, 500], shift: 5), recipe: recipe)
    settings.tile = PageTile(rows: 2, columns: 2)
    let rollout = try Rollout(
      transformer: transformer, text: model.context(transformer, on: recorder), noise: CounterNoise(seed: seed),
      settings: settings, on: recorder)
    _ = recorder.take()
    var (all, latents) = ([[String]](), [Float]())
    for try await chunk in rollout {
      all.append(recorder.take())
      latents = backend.download(chunk.latents).floats()
    }
    return (all, latents)
  }

  static let recipes: [(String, SparsityRecipe)] = [
    ("self-forcing", .selfForcing(window: 12, sink: 3, positions: .window)),
    ("sparse-forcing", .sparseForcing()), ("sparse-forcing by rank", .sparseForcing(positions: .window)),
    ("sparse-forcing, masses of the kernel", .sparseForcing(SparseForcing(blocks: PersistentBlocks(mass: .attended)))),
    ("sparse-forcing, shared heads", .sparseForcing(SparseForcing(blocks: PersistentBlocks(shareHeads: true)))),
    ("light-forcing", .lightForcing()), ("light-forcing, long", .lightForcing(.long, positions: .window)),
    ("lvsa", .lvsa(try! CausalAnchors(budget: 14, chunkFrames: 3, steps: 2), positions: .window)),
    ("longtake", .longtake(steps: 2)), ("longtake by rank", .longtake(steps: 2, positions: .window)),
  ]

  @Test(
    "Other numbers make the same calls with the same sizes, and no list or score comes back",
    arguments: 0..<recipes.count)
  func otherNumbersMakeTheSameCalls(number: Int) async throws {
    let (name, recipe) = Self.recipes[number]
    let one = try await calls(recipe, seed: 1, chunks: 7)
    let other = try await calls(recipe, seed: 2, chunks: 7)
    #expect(distance(one.latents, other.latents) > 0.1, "\(name): two seeds make the same video")
    for (chunk, (a, b)) in zip(one.calls, other.calls).enumerated() {
      let apart = zip(a, b).first { $0 != $1 }
      #expect(a == b, "\(name), chunk \(chunk): \(String(describing: apart))")
      // What comes back in a chunk: for each layer how many pages its lists named (for the report), and before the memory
      // evicts, once, what all pages were worth. Neither is asked for before the chunk's last pass.
      let back = a.indices.filter { a[$0].hasPrefix("download") }
      let last = try #require(a.lastIndex { $0.hasPrefix("attend") || $0.hasPrefix("pageMass") })
      #expect(back.allSatisfy { $0 > last }, "\(name), chunk \(chunk): something came back between the passes")
      #expect(!a.contains { $0.hasPrefix("download indices") }, "\(name), chunk \(chunk)")
      let masses = back.filter { a[$0] != "download numbers [3]" }
      // The last chunk has no clean pass.
      #expect(
        masses.count == (recipe.memory.mass == .none || chunk == 6 ? 0 : 1),
        "\(name), chunk \(chunk): \(masses.map { a[$0] })")
    }
    #expect(one.calls.count == 7 && other.calls.count == 7)
  }
}
