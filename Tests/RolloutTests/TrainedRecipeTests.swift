import Compute
import Foundation
import Rollout
import SparseAttention
import Tensors
import Testing
import WanModel

/// The recipes that ship weights of their own, against the code that trained these (`tools/fixtures/sparse_rollout.py`).
@Suite struct TrainedRecipeTests {
  @Test(
    "A rollout under a trained recipe equals the training code's, chunk after chunk",
    arguments: ["sparse-forcing", "light-forcing"])
  func rolloutsUnderTrainedRecipesEqual(name: String) async throws {
    let model = try ShippedModel()
    let fixture = try TensorArchive(
      path: URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "Fixtures/sparse-rollout.safetensors").path)
    let wanted = try fixture.tensor(name)
    let backend = CPUBackend(threads: 2)
    let transformer = try model.folder.loadTransformer(recipe: name, on: backend)
    var settings = RolloutSettings(
      latentHeight: wanted.shape[2], latentWidth: wanted.shape[3], latentFrames: wanted.shape[0],
      schedule: try FlowSchedule(timesteps: #require(model.folder.settings.steps)),
      recipe: name == "sparse-forcing" ? .sparseForcing(positions: .window) : .lightForcing(positions: .window))
    settings.tile = PageTile(rows: 5, columns: 8)
    let noise = RecordedNoise(
      initial: try fixture.tensor("initial_noise"), renoise: try fixture.tensor("renoise"), changedFrom: nil)
    let rollout = try Rollout(
      transformer: transformer, text: model.context(transformer, on: backend), noise: noise, settings: settings,
      on: backend)
    let values = wanted.floats()
    for (i, chunk) in try await rollout.latents(on: backend).enumerated() {
      let error = distance(chunk, Array(values[i * chunk.count..<(i + 1) * chunk.count]))
      print("parity \(name), chunk \(i): relative L2 \(error)")
      #expect(error < 1e-3, "chunk \(i): relative L2 \(error)")
    }
  }
}
