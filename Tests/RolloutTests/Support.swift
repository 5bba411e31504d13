import Compute
import Foundation
import Rollout
import SparseAttention
import Tensors
import Testing
import WanModel

/// The shipped model and the values that a brute-force PyTorch program computed with it.
struct ShippedModel {
  let folder: ModelFolder
  let reference: TensorArchive

  static let path = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "weights/default").path

  init() throws {
    folder = try ModelFolder(path: Self.path)
    reference = try TensorArchive(path: Self.path + "/reference.safetensors")
  }

  /// A reference value stored channel first, as `[frames, channels, h, w]`.
  func frames(_ name: String) throws -> Tensor {
    let stored = try reference.tensor(name)
    let (channels, frames, plane) = (stored.shape[0], stored.shape[1], stored.shape[2] * stored.shape[3])
    let values = stored.floats()
    var out = [Float]()
    for f in 0..<frames {
      for c in 0..<channels { out += values[(c * frames + f) * plane..<(c * frames + f + 1) * plane] }
    }
    return Tensor(out, shape: [frames, channels, stored.shape[2], stored.shape[3]])
  }

  func settings(latentFrames: Int? = 9, recipe: SparsityRecipe = .selfForcing(window: 21)) throws -> RolloutSettings {
    let s = folder.settings
    return RolloutSettings(
      latentHeight: s.height / 8, latentWidth: s.width / 8, latentFrames: latentFrames,
      schedule: try FlowSchedule(timesteps: #require(s.steps)), recipe: recipe)
  }

  /// The prompt's context from the stored text rows.
  func context(_ transformer: WanTransformer, on backend: any Backend) throws -> TextContext {
    transformer.context(text: backend.upload(try reference.tensor("text_rows")))
  }

  func noise() throws -> RecordedNoise {
    RecordedNoise(
      initial: try reference.tensor("initial_noise"), renoise: try reference.tensor("renoise"), changedFrom: nil)
  }
}

/// Noise from a file: `initial` `[frames, 16, h, w]`, `renoise` `[chunks, steps - 1, frames of a chunk, 16, h, w]`.
struct RecordedNoise: ChunkNoise {
  let initial: Tensor
  let renoise: Tensor
  /// Chunks from this one on get other noise.
  var changedFrom: Int?

  private func part(_ tensor: Tensor, _ start: Int, _ count: Int, _ shape: [Int], chunk: Int) -> Tensor {
    let sign: Float = changedFrom.map { chunk >= $0 } ?? false ? -1 : 1
    return Tensor(tensor.floats()[start..<start + count].map { sign * $0 }, shape: shape)
  }
  mutating func initial(chunk: Int, frames: Int, channels: Int, height: Int, width: Int) -> Tensor {
    let count = frames * channels * height * width
    return part(initial, chunk * count, count, [frames, channels, height, width], chunk: chunk)
  }
  mutating func renoise(chunk: Int, step: Int, frames: Int, channels: Int, height: Int, width: Int) -> Tensor {
    let count = frames * channels * height * width
    let start = (chunk * renoise.shape[1] + step) * count
    return part(renoise, start, count, [frames, channels, height, width], chunk: chunk)
  }
}

/// Relative L2 distance.
func distance(_ a: [Float], _ b: [Float]) -> Double {
  guard a.count == b.count, a.allSatisfy(\.isFinite) else { return .infinity }
  let difference = zip(a, b).reduce(0.0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
  return (difference / b.reduce(1e-30) { $0 + Double($1) * Double($1) }).squareRoot()
}

extension Rollout {
  /// All chunks' latents, one array each.
  func latents(on backend: any Backend) async throws -> [[Float]] {
    var all: [[Float]] = []
    for try await chunk in self { all.append(backend.download(chunk.latents).floats()) }
    return all
  }
}
