import Compute
import Foundation
import Rollout
import SparseAttention
import Tensors
import Testing
import WanModel

/// A rollout that is saved between two chunks and read back goes on with the same bytes.
@Suite struct SavedRolloutTests {
  private let model: ShippedModel
  private let folder = NSTemporaryDirectory() + "longtake-saved-\(UUID().uuidString)"

  init() throws {
    model = try ShippedModel()
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  }

  private func settings(_ recipe: SparsityRecipe, frames: Int?) throws -> RolloutSettings {
    var settings = RolloutSettings(
      latentHeight: 8, latentWidth: 16, latentFrames: frames,
      schedule: try FlowSchedule(nominal: [1000, 500], shift: 5), recipe: recipe)
    settings.tile = PageTile(rows: 2, columns: 2)
    return settings
  }

  private func rollout(
    _ settings: RolloutSettings, torch: Bool = false, from path: String? = nil, on backend: any Backend
  ) throws -> Rollout {
    let transformer = try model.folder.loadTransformer(on: backend)
    let text = try model.context(transformer, on: backend)
    let noise: any ChunkNoise =
      torch ? TorchNoise(seed: 5, totalFrames: 30, channels: 16, height: 8, width: 16) : CounterNoise(seed: 5)
    return try Rollout(
      transformer: transformer, text: text, negative: text, noise: noise, settings: settings,
      from: path.map(SavedState.init(path:)), on: backend)
  }

  private static let recipes: [(String, SparsityRecipe)] = [
    ("dense", .dense()), ("window", .selfForcing(window: 12)),
    ("ranks in a window", .selfForcing(window: 9, sink: 2, positions: .window)),
    ("sparse-forcing", .sparseForcing()), ("sparse-forcing by rank", .sparseForcing(positions: .window)),
    ("light-forcing", .lightForcing()),
  ]

  @Test("Every recipe goes on from any chunk with the same bytes", arguments: 0..<recipes.count)
  func everyRecipeGoesOnFromAnyChunk(number: Int) async throws {
    let (name, recipe) = Self.recipes[number]
    let backend = CPUBackend(threads: 2)
    let settings = try settings(recipe, frames: 30)
    let whole = try await rollout(settings, torch: number % 2 == 1, on: backend).latents(on: backend)
    for cut in [1, 6, 9] {
      let first = try rollout(settings, torch: number % 2 == 1, on: backend)
      var found: [[Float]] = []
      while found.count < cut, let chunk = try await first.next() {
        found.append(backend.download(chunk.latents).floats())
      }
      let path = "\(folder)/\(number)-\(cut).safetensors"
      let bytes = try await first.save(to: path)
      #expect(bytes > 0)
      // The saved one is not disturbed by being saved, nor the file by its going on.
      let rest = try await first.latents(on: backend)
      found += try await rollout(settings, torch: number % 2 == 1, from: path, on: backend).latents(on: backend)
      #expect(found == whole, "\(name), cut after \(cut)")
      #expect(Array(whole.dropFirst(cut)) == rest, "\(name), cut after \(cut), the one that went on")
    }
  }

  @Test("Guidance's second memory and the reference backend are saved too") func guidanceAndReference() async throws {
    for backend in [CPUBackend(threads: 1), ReferenceBackend()] as [any Backend] {
      var settings = try settings(.selfForcing(window: 6), frames: 9)
      (settings.latentHeight, settings.latentWidth, settings.guidance) = (4, 4, 3)
      settings.schedule = try FlowSchedule(timesteps: [900])
      let whole = try await rollout(settings, on: backend).latents(on: backend)
      let first = try rollout(settings, on: backend)
      _ = try await first.next()
      let path = "\(folder)/guided.safetensors"
      _ = try await first.save(to: path)
      let rest = try await rollout(settings, from: path, on: backend).latents(on: backend)
      #expect(rest == Array(whole.dropFirst()), "\(backend.name)")
    }
  }

  @Test("A rollout that is extended equals a longer one, but for the plan that it keeps") func extension_() async throws
  {
    let backend = CPUBackend(threads: 2)
    func extended(_ recipe: SparsityRecipe) async throws -> (found: [[Float]], longer: [[Float]]) {
      let longer = try await rollout(settings(recipe, frames: 30), on: backend).latents(on: backend)
      let first = try rollout(settings(recipe, frames: 15), on: backend)
      var found: [[Float]] = []
      while found.count < 4, let chunk = try await first.next() {
        found.append(backend.download(chunk.latents).floats())
      }
      _ = try await first.save(to: folder + "/x.safetensors")
      var more = try settings(recipe, frames: 30)
      more.planned = .frames(15)
      found += try await rollout(more, from: folder + "/x.safetensors", on: backend).latents(on: backend)
      return (found, longer)
    }
    for recipe in [SparsityRecipe.dense(), .selfForcing(window: 9), .sparseForcing()] {
      let (found, longer) = try await extended(recipe)
      #expect(found == longer, "\(recipe.name)")
    }
    let growing = try await extended(.lightForcing())
    #expect(growing.found.count == 10 && growing.found.joined().allSatisfy(\.isFinite))
    #expect(growing.found[0] == growing.longer[0] && growing.found[9] != growing.longer[9])
  }

  @Test("A state of another recipe, noise or size is refused by name") func aStateOfAnother() async throws {
    let backend = CPUBackend(threads: 1)
    let path = folder + "/state.safetensors"
    let first = try rollout(settings(.selfForcing(window: 9), frames: 30), on: backend)
    _ = try await first.next()
    _ = try await first.save(to: path)
    func refusal(_ settings: RolloutSettings, torch: Bool = false) -> String {
      do {
        _ = try rollout(settings, torch: torch, from: path, on: backend)
        return ""
      } catch { return "\(error)" }
    }
    #expect(refusal(try settings(.selfForcing(window: 9), frames: 30)) == "")
    #expect(refusal(try settings(.dense(), frames: 30)).contains("the recipe of the state is 'self-forcing'"))
    #expect(
      refusal(try settings(.selfForcing(window: 9, positions: .window), frames: 30)).contains("'absolute'"))
    #expect(refusal(try settings(.selfForcing(window: 9), frames: 30), torch: true).contains("noise"))
    #expect(refusal(try settings(.selfForcing(window: 6), frames: 30)).contains("table"))
    var other = try settings(.selfForcing(window: 9), frames: 30)
    other.tile = PageTile(rows: 4, columns: 4)
    #expect(refusal(other).contains("state.safetensors"), "\(refusal(other))")
    let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
    try bytes.dropLast(5000).write(to: URL(fileURLWithPath: path))
    #expect(refusal(try settings(.selfForcing(window: 9), frames: 30)).contains("state.safetensors"))
  }
}
