import Foundation
import Tensors

/// Everything needed to repeat a run, as JSON beside the video (or `manifest.json` in the run directory).
struct RunRecord: Encodable {
  struct Settings: Encodable {
    let prompt: String
    let seed: UInt64
    let rng: String
    let height, width, frames, chunkFrames: Int
    let fps: String
    let mode: String
    let timesteps: [Double]
    /// Of clip mode.
    let sampler: String?
    let guidance: Double
    let negativePrompt: String?
    let recipe, memory, positions, tile: String
    let precision: String
    /// How keys and values were kept.
    let kv: String
    let threads: Int
    let crf: Double
    let preset: String
  }
  struct Weights: Encodable {
    let part: String
    let path: String
    /// Of the file's size, header and samples; equal files have equal ones.
    let fingerprint: String
  }
  struct Machine: Encodable {
    let processor: String
    let backend: String
    let system: String
  }

  let engine: String
  let version: String
  let created: String
  let arguments: [String]
  let settings: Settings
  let model: String
  let weights: [Weights]
  let machine: Machine
  /// Prompt tokens given to the text encoder, and what was cut of the prompt.
  let promptTokens: Int
  let promptCut: String?
  var summary: RunSummary?

  init(
    _ settings: RunSettings, threads: Int, backend: String, promptTokens: Int, promptCut: String?, geometryTile: String
  ) throws {
    engine = Engine.name
    version = Engine.version
    created = ISO8601DateFormatter().string(from: Date())
    arguments = CommandLine.arguments
    let (request, rollout) = (settings.request, settings.rollout)
    self.settings = Settings(
      prompt: request.prompt, seed: request.seed, rng: request.rng.rawValue, height: settings.height,
      width: settings.width, frames: settings.frames, chunkFrames: settings.chunkFrames, fps: "\(settings.frameRate)",
      mode: settings.mode.rawValue, timesteps: settings.sampler?.timesteps ?? rollout.schedule.timesteps,
      sampler: settings.sampler?.kind.rawValue, guidance: rollout.guidance, negativePrompt: settings.negativePrompt,
      recipe: rollout.recipe.name, memory: rollout.recipe.memory.summary,
      positions: rollout.recipe.positions.rawValue, tile: geometryTile, precision: settings.precision.rawValue,
      kv: settings.pages.rawValue, threads: threads, crf: request.crf, preset: request.preset)
    model = settings.model.path
    var parts = [
      ("transformer", settings.model.transformerPath), ("text_encoder", settings.model.textEncoderPath),
      (settings.model.settings.autoencoder, settings.model.autoencoderPath),
    ]
    if let addition = settings.model.additionPath(recipe: settings.rollout.recipe.name) {
      parts.append(("lora", addition))
    }
    weights = try parts.map { part, path in
      Weights(part: part, path: path, fingerprint: try TensorArchive(path: path).fingerprint)
    }
    let os = ProcessInfo.processInfo.operatingSystemVersionString
    machine = Machine(processor: Host.processor, backend: backend, system: os)
    self.promptTokens = promptTokens
    self.promptCut = promptCut
  }

  /// - Throws: ``RunError`` if something else than the record of a run has this name: it would be lost.
  static func checkReplaceable(_ path: String) throws {
    struct Mark: Decodable { let engine: String }
    guard FileManager.default.fileExists(atPath: path) else { return }
    let mark = FileManager.default.contents(atPath: path).flatMap { try? JSONDecoder().decode(Mark.self, from: $0) }
    guard mark?.engine == Engine.name else {
      throw RunError("\(path) is in the way: the run's record goes there; move it, or choose another output")
    }
  }

  /// Writes the record under a temporary name and renames it.
  func write(to path: String) throws {
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    do { try encoder.encode(self).write(to: URL(fileURLWithPath: path), options: .atomic) } catch {
      throw RunError("\(path): the run's record cannot be written: \(error.localizedDescription)")
    }
  }
}
