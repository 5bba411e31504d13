import Compute
import Foundation
import Rollout
import SparseAttention
import Tensors
import Testing
import WanModel

/// `lora/<recipe>.safetensors` of a model folder.
@Suite("The weights of a recipe")
struct RecipeWeightsTests {
  private let folder = NSTemporaryDirectory() + "longtake-lora-\(UUID().uuidString)"

  /// Latents of one chunk under the folder's weights for `recipe`.
  private func latents(_ model: ModelFolder, recipe: String?) async throws -> [Float] {
    let backend = CPUBackend(threads: 2)
    let transformer = try model.loadTransformer(recipe: recipe, on: backend)
    let rows = try TensorArchive(path: ShippedModel.path + "/reference.safetensors").tensor("text_rows")
    let settings = RolloutSettings(
      latentHeight: 8, latentWidth: 16, latentFrames: 3, schedule: try FlowSchedule(steps: 1, shift: 5),
      recipe: .selfForcing(window: 21))
    let rollout = try Rollout(
      transformer: transformer, text: transformer.context(text: backend.upload(rows)), noise: CounterNoise(seed: 3),
      settings: settings, on: backend)
    return try await rollout.latents(on: backend)[0]
  }

  private func numbers(_ shape: [Int], _ seed: UInt64) -> Tensor {
    CounterNoise(seed: seed).normals(.initial, chunk: 0, step: 0, shape: shape)
  }

  /// A copy of the shipped model with these tensors as the addition of `self-forcing`.
  private func model(_ tensors: [(String, Tensor)], alpha: String) throws -> ModelFolder {
    try FileManager.default.copyItem(atPath: ShippedModel.path, toPath: folder)
    try FileManager.default.createDirectory(atPath: folder + "/lora", withIntermediateDirectories: true)
    try SafetensorsWriter.write(tensors, metadata: ["alpha": alpha], to: folder + "/lora/self-forcing.safetensors")
    return try ModelFolder(path: folder)
  }

  @Test("Are W + alpha / r B A, for that recipe and no other")
  func merging() async throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let (a, b) = (numbers([4, 384], 1), numbers([1536, 4], 2))
    let layer = "blocks.2.ffn.net.0.proj"
    let model = try model(
      [("base_model.model.\(layer).lora_A.weight", a), ("base_model.model.\(layer).lora_B.weight", b)], alpha: "0.8")
    let plain = try await latents(model, recipe: nil)
    #expect(try await latents(model, recipe: "dense") == plain)
    let merged = try await latents(model, recipe: "self-forcing")
    #expect(distance(merged, plain) > 1e-3)
    // The same sum, written into a checkpoint by hand.
    let archive = try TensorArchive(path: ShippedModel.path + "/transformer")
    var weight = try archive.tensor(layer + ".weight").floats()
    let (down, up) = (a.floats(), b.floats())
    for o in 0..<1536 {
      for i in 0..<384 {
        weight[o * 384 + i] += 0.2 * (0..<4).reduce(Float(0)) { $0 + up[o * 4 + $1] * down[$1 * 384 + i] }
      }
    }
    var tensors = Dictionary(uniqueKeysWithValues: try archive.names.map { ($0, try archive.tensor($0)) })
    tensors[layer + ".weight"] = Tensor(weight, shape: [1536, 384])
    try SafetensorsWriter.write(tensors.sorted { $0.key < $1.key }, metadata: [:], to: folder + "/by-hand.safetensors")
    let byHand = try ModelFolder(path: ShippedModel.path, checkpoint: folder + "/by-hand.safetensors")
    #expect(distance(merged, try await latents(byHand, recipe: nil)) < 1e-5)
  }

  @Test("That do not fit the transformer are refused with every name")
  func misfits() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let model = try model(
      [
        ("blocks.9.attn1.to_q.lora_A.weight", numbers([2, 384], 1)),
        ("blocks.9.attn1.to_q.lora_B.weight", numbers([384, 2], 1)),
        ("blocks.0.attn1.to_q.lora_A.weight", numbers([2, 380], 1)),
        ("blocks.0.attn1.to_q.lora_B.weight", numbers([384, 2], 1)),
        ("blocks.1.attn1.to_q.lora_B.weight", numbers([384, 2], 1)),
      ], alpha: "2")
    #expect {
      try model.loadTransformer(recipe: "self-forcing", on: CPUBackend(threads: 1))
    } throws: { error in
      let text = "\(error)"
      return text.contains("self-forcing.safetensors") && text.contains("blocks.9.attn1.to_q")
        && text.contains("[2, 380]")
        && text.contains("blocks.1.attn1.to_q.lora_A.weight")
    }
  }
}
