import Compute
import Rollout
import SparseAttention
import Tensors
import Testing
import WanModel

/// The selector that README.md shows, word for word.
struct EverySecondPage: PageSelector {
  var summary: String { "every second page" }
  var dependsOnContent: Bool { false }

  func pagesRead(of census: PageCensus, budget: PageBudget) -> Int { (census.persistent + census.local + 1) / 2 }

  func plan(
    _ queries: DeviceTensor, over view: LayerView, budget: PageBudget, at context: StepContext, on backend: any Backend
  ) -> PageLists {
    PageLists(
      shared: view.fixed("every second") { head in
        view.pages[head].enumerated().filter { $0.offset % 2 == 0 }.map(\.element.slot)
      })
  }
}

@Suite("The examples of the README")
struct ReadmeExampleTests {
  @Test("A selector of one's own goes into a recipe, and a rollout runs with it from a prompt to pixels")
  func selectorAndLibrary() async throws {
    let backend = CPUBackend(threads: 2)
    let model = try ModelFolder(path: ShippedModel.path)
    let ids = try model.loadTokenizer().encode(PromptCleaner.clean("a red star over purple hills")).ids
    let rows = try model.loadTextEncoder(on: backend).encode(ids: ids)
    let transformer = try model.loadTransformer(on: backend)
    let recipe = SparsityRecipe(
      name: "every-second", memory: SlidingWindow(window: 21), select: EverySecondPage())
    let settings = RolloutSettings(
      latentHeight: 8, latentWidth: 16, latentFrames: 6, schedule: try FlowSchedule(steps: 2, shift: 5), recipe: recipe)
    let rollout = try Rollout(
      transformer: transformer, text: transformer.context(text: rows), noise: CounterNoise(seed: 7), settings: settings,
      on: backend)
    let decoder = try model.loadDecoder(on: backend)
    var frames = 0
    for try await chunk in rollout {
      let pixels = try decoder.decode(chunk.latents)  // [frames, height, width, 3] in 0...1
      #expect(pixels.shape.dropFirst() == [64, 128, 3] && backend.allFinite(pixels))
      frames += pixels.shape[0]
    }
    #expect(frames == 21)
  }
}
