import Foundation
import Rollout
import Tensors

/// Everything needed to repeat a run, as JSON beside the video (or `manifest.json` in the run directory).
struct RunRecord: Encodable {
  struct Settings: Encodable {
    let prompt: String
    let prompts: [RunPlan.Prompt]
    let seed: UInt64
    let rng: String
    let height, width, chunkFrames: Int
    /// nil without end.
    let frames: Int?
    let fps: String
    let mode: String
    let timesteps: [Double]
    /// Of clip mode.
    let sampler: String?
    let guidance: Double
    /// Timestep of the clean pass, noise in it (sigma), limit of the latents' drift.
    let contextTimestep, contextNoise: Float
    let latentClamp: Double?
    let negativePrompt: String?
    let recipe, memory, positions, tile: String
    /// Without end: how many of the latest chunks keep their latents; nil for all.
    let keptChunks: Int?
    let precision: String
    /// How keys and values were kept.
    let kv: String
    let threads: Int
    let crf: Double
    let preset: String
  }
  struct Weights: Codable, Equatable {
    let part: String
    let path: String
    /// Of the file's size, header and samples; equal files have equal ones.
    let fingerprint: String
  }
  struct Machine: Codable, Equatable {
    let processor: String
    let backend: String
    let system: String
  }

  /// One chunk's memory as it was used.
  struct Chunk: Encodable {
    let index: Int
    let visibleFrames: Int
    let pagesKept: Int
    /// Pages that a query tile reads, by plan.
    let pagesRead: Int
    /// Realised: pages listed over pages in memory, the mean of the layers and each layer's, to 6 decimals.
    let density: Double
    let layerDensities: [Double]
  }

  /// One process that worked on the run.
  struct Part: Codable {
    let started: String
    let arguments: [String]
    /// The chunk that it began with.
    let firstChunk: Int
    /// Frames of the video that it was to reach, nil for no end; more than were declared are an extension, for which what
    /// depends on the length keeps the value that it had at the declared end.
    let frames: Int?
    let isExtension: Bool
  }
  enum Status: String, Codable {
    case running, stopped, finished
  }

  /// Of the record; another one cannot be resumed from.
  static let format = 1

  let engine: String
  let version: String
  var format = RunRecord.format
  var status = Status.running
  let created: String
  let arguments: [String]
  /// The request with absolute paths, from which the run can go on.
  let request: RunRequest
  /// In a run directory: the processes that worked on it.
  var parts: [Part]
  let settings: Settings
  let model: String
  let weights: [Weights]
  let machine: Machine
  /// Of each prompt: the tokens given to the text encoder, and what was cut from its end.
  let promptTokens: [Int]
  let promptCuts: [String?]
  /// What each chunk kept and read; of a run without end the latest.
  private(set) var chunks: [Chunk] = []
  private static let mostChunks = 1000
  var summary: RunSummary?

  /// - Parameter earlier: What the run directory of a run that goes on says.
  init(
    _ settings: RunSettings, threads: Int, backend: String, promptTokens: [Int], promptCuts: [String?],
    geometryTile: String, earlier: RunManifest? = nil, firstChunk: Int = 0
  ) throws {
    engine = Engine.name
    version = Engine.version
    let now = ISO8601DateFormatter().string(from: Date())
    created = earlier?.created ?? now
    arguments = earlier?.arguments ?? CommandLine.arguments
    self.request =
      earlier?.request
      ?? settings.request.repeatable(
        model: settings.model.path, precision: settings.precision, pages: settings.pages)
    let part = Part(
      started: now, arguments: CommandLine.arguments, firstChunk: firstChunk, frames: settings.frameLimit,
      isExtension: settings.rollout.planned != .video)
    // A run that is stopped and resumed for months keeps the latest.
    parts = (earlier?.parts ?? []).suffix(999) + [part]
    let (request, rollout) = (settings.request, settings.rollout)
    self.settings = Settings(
      prompt: request.prompt, prompts: settings.promptList, seed: request.seed, rng: request.rng.rawValue,
      height: settings.height, width: settings.width, chunkFrames: settings.chunkFrames, frames: settings.frameLimit,
      fps: "\(settings.frameRate)",
      mode: settings.mode.rawValue, timesteps: settings.sampler?.timesteps ?? rollout.schedule.timesteps,
      sampler: settings.sampler?.kind.rawValue, guidance: rollout.guidance, contextTimestep: rollout.contextTimestep,
      contextNoise: rollout.contextNoise, latentClamp: rollout.latentGuard?.limit,
      negativePrompt: settings.negativePrompt,
      recipe: rollout.recipe.name, memory: rollout.recipe.memory.summary,
      positions: rollout.recipe.positions.rawValue, tile: geometryTile, keptChunks: settings.keptChunks,
      precision: settings.precision.rawValue,
      kv: settings.pages.rawValue, threads: threads, crf: request.crf, preset: request.preset)
    model = settings.model.path
    weights = try RunRecord.weights(of: settings)
    let os = ProcessInfo.processInfo.operatingSystemVersionString
    machine = Machine(processor: Host.processor, backend: backend, system: os)
    self.promptTokens = promptTokens
    self.promptCuts = promptCuts
  }

  /// The weights that a run reads.
  static func weights(of settings: RunSettings) throws -> [Weights] {
    let model = settings.model
    var files = [
      ("transformer", model.transformerPath), ("text_encoder", model.textEncoderPath),
      (model.settings.autoencoder, model.autoencoderPath),
    ]
    if let addition = model.additionPath(recipe: settings.rollout.recipe.name) { files.append(("lora", addition)) }
    let weights = try files.map { part, path in
      Weights(part: part, path: path, fingerprint: try TensorArchive(path: path).fingerprint)
    }
    // A run must go on from the input that it was begun with, too.
    return try weights
      + (settings.input.map {
        [Weights(part: $0.kind.rawValue, path: $0.path, fingerprint: try $0.fingerprint())]
      } ?? [])
  }

  /// Notes what a finished chunk kept and read.
  mutating func add(_ chunk: FinishedChunk) {
    // By halves, so that the list is not moved for every chunk.
    if settings.frames == nil, chunks.count >= 2 * RunRecord.mostChunks { chunks.removeFirst(RunRecord.mostChunks) }
    func short(_ x: Double) -> Double { (x * 1e6).rounded() / 1e6 }
    chunks.append(
      Chunk(
        index: chunk.index, visibleFrames: chunk.visibleFrames, pagesKept: chunk.pagesKept, pagesRead: chunk.pagesRead,
        density: short(chunk.density), layerDensities: chunk.layerDensities.map(short)))
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
    do { try DurableFile.write(encoder.encode(self), to: path) } catch {
      throw RunError("the run's record cannot be written: \(error)")
    }
  }
}
