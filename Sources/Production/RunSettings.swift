import Compute
import Rollout
import SparseAttention
import VideoIO
import WanModel

/// A request with every default filled in and every number checked. Nothing is loaded for it.
public struct RunSettings: Sendable {
  public let request: RunRequest
  public let model: ModelFolder
  /// Pixels.
  public let height: Int
  public let width: Int
  /// Frames of the video, 4 (latent frames - 1) + 1.
  public let frames: Int
  public let frameRate: FrameRate
  public let mode: RunRequest.Mode
  /// How exact matrix products are.
  public let precision: Precision
  /// How keys and values are kept.
  public let pages: PageFormat
  /// In clip mode one chunk holds the whole clip.
  public let rollout: RolloutSettings
  /// The recipe as it was chosen, in numbers.
  public let recipe: RecipeChoice
  /// The sampler of clip mode.
  public let sampler: ClipSampler?
  /// What guidance leads away from; nil without guidance.
  public let negativePrompt: String?
  /// Latent frames that the decoder is given at a time.
  public let decodedFrames: Int
  /// Where the recipe's answers to memory and positions come from, for people.
  public let notes: [String]

  /// Latent frames of the video; the last chunk may compute more.
  public var latentFrames: Int { (frames - 1) / 4 + 1 }
  public var chunkFrames: Int { rollout.chunkFrames }
  public var chunks: Int { (latentFrames + chunkFrames - 1) / chunkFrames }
  /// Seconds of video.
  public var seconds: Double { Double(frames) / frameRate.framesPerSecond }
  /// Pixels per latent position; the same for both autoencoders of Wan 2.1.
  static let pixelsPerLatent = 8

  /// Fills in what the request leaves open.
  /// - Throws: ``UsageError`` for what is impossible; `ModelError` for a model folder that cannot be used.
  public init(_ request: RunRequest) throws {
    guard let path = request.model ?? ModelFolder.shipped() else {
      throw UsageError(
        "no --model given, and the shipped model (weights/default) was not found; run inside the repository")
    }
    try self.init(request, model: ModelFolder(path: path, checkpoint: request.checkpoint))
  }

  init(_ request: RunRequest, model: ModelFolder) throws {
    self.request = request
    self.model = model
    let defaults = model.settings
    height = try RunSettings.grid(request.height ?? defaults.height, "height")
    width = try RunSettings.grid(request.width ?? defaults.width, "width")
    frameRate = try request.frameRate ?? FrameRate(defaults.framesPerSecond)
    frames = try RunSettings.length(request, frameRate: frameRate)
    precision = request.precision ?? .standard
    guard precision.isSupported else {
      let reason =
        Precision.library == nil
        ? "this build has no oneDNN (Debian: libdnnl-dev; then build again)"
        : "this processor has no AVX-512 BF16" + (precision == .int8 ? " and VNNI" : "")
      throw UsageError("--precision \(precision.rawValue) cannot be had: \(reason); f32 can")
    }
    pages = request.pages ?? .standard(for: precision)
    let latentFrames = (frames - 1) / 4 + 1
    decodedFrames = request.chunkFrames ?? defaults.chunkFrames
    guard (1...1024).contains(decodedFrames) else {
      throw UsageError("--chunk-frames \(decodedFrames); 1 to 1024 are possible")
    }
    guard let mode = request.mode ?? RunRequest.Mode(rawValue: defaults.mode) else {
      throw UsageError("--mode \(defaults.mode) is not known; there are chunks, clip")
    }
    self.mode = mode
    let chunkFrames = mode == .clip ? latentFrames : decodedFrames
    let guidance = request.guidance ?? defaults.guidance ?? (mode == .clip ? 5 : 1)
    guard (0...100).contains(guidance) else {
      throw UsageError("--guidance \(guidance); 0 to 100 are possible, 1 is none")
    }
    negativePrompt =
      guidance == 1 ? nil : request.negativePrompt ?? defaults.negativePrompt ?? ModelSettings.wanNegativePrompt
    var notes: [String] = []
    if guidance == 1, request.negativePrompt != nil {
      notes.append("a negative prompt has no effect without guidance; give --guidance above 1")
    }
    let choice = try RecipeChoice(
      request, defaults, mode: mode, frames: latentFrames, chunkFrames: chunkFrames, notes: &notes)
    recipe = choice
    do {
      sampler = try RunSettings.sampler(request, defaults, mode: mode)
      // The levels of a sampler are kept as a schedule too, for whatever only wants to know them.
      let schedule = try sampler.map { try FlowSchedule(timesteps: $0.sigmas.map { 1000 * $0 }) }
      let levels = try schedule ?? RunSettings.schedule(request, defaults)
      let recipe = try choice.recipe(
        frames: latentFrames, chunkFrames: chunkFrames, steps: levels.timesteps.count, mode: mode)
      var rollout = RolloutSettings(
        latentHeight: height / RunSettings.pixelsPerLatent, latentWidth: width / RunSettings.pixelsPerLatent,
        latentFrames: latentFrames, schedule: levels, recipe: recipe)
      rollout.chunkFrames = chunkFrames
      rollout.contextTimestep = Float(defaults.contextNoise)
      rollout.guidance = guidance
      rollout.tile = try request.tile.map(RunSettings.tile)
      rollout.recording = try request.recording.map { recording in
        guard request.runDirectory != nil else {
          throw UsageError("--record-attention needs --run-dir FOLDER, where the records go")
        }
        return try AttentionSelection(
          recording, layers: model.transformer.layers, heads: model.transformer.heads,
          steps: levels.timesteps.count, chunks: mode == .clip ? 1 : (latentFrames + chunkFrames - 1) / chunkFrames,
          hasCleanPass: mode == .chunks)
      }
      let geometry = try rollout.geometry()
      try recipe.check(geometry: geometry, chunkFrames: chunkFrames, total: latentFrames)
      self.rollout = rollout
    } catch let error as SparsityError { throw UsageError("\(error)") } catch let error as RolloutError {
      throw UsageError("\(error)")
    }
    self.notes = notes
  }

  /// The sampler of clip mode; nil chunk by chunk.
  private static func sampler(_ request: RunRequest, _ defaults: ModelSettings, mode: RunRequest.Mode) throws
    -> ClipSampler?
  {
    guard mode == .clip else {
      guard request.sampler == nil else { throw UsageError("--sampler belongs to --mode clip") }
      return nil
    }
    let name = request.sampler ?? (request.timesteps == nil ? "unipc" : "euler")
    guard let kind = ClipSampler.Kind(rawValue: name) else {
      throw UsageError("--sampler \(name) is not known; there are euler, unipc")
    }
    let shift = request.flowShift ?? defaults.shift
    if let timesteps = request.timesteps {
      guard request.steps == nil else { throw UsageError("give --steps or --timesteps, not both") }
      guard kind == .euler else { throw UsageError("--timesteps needs --sampler euler; unipc has a grid of its own") }
      return ClipSampler(euler: try FlowSchedule(nominal: timesteps, shift: shift))
    }
    return try ClipSampler(kind, steps: request.steps ?? defaults.undistilledSteps?.count ?? 50, shift: shift)
  }

  private static func grid(_ size: Int, _ side: String) throws -> Int {
    guard size > 0 else { throw UsageError("--\(side) \(size) must be above 0") }
    guard size <= 16384 else { throw UsageError("--\(side) \(size) is more than 16384") }
    guard size % 16 == 0 else {
      let below = size / 16 * 16
      let nearest = below == 0 ? "16" : "\(below) or \(below + 16)"
      throw UsageError("--\(side) \(size) is not a multiple of 16; the nearest are \(nearest)")
    }
    return size
  }

  private static func length(_ request: RunRequest, frameRate: FrameRate) throws -> Int {
    let most = 1 << 24
    if let frames = request.frames {
      guard request.seconds == nil else { throw UsageError("give --seconds or --num-frames, not both") }
      guard frames > 0, frames <= most else { throw UsageError("--num-frames \(frames); 1 to \(most) are possible") }
      guard frames % 4 == 1 else {
        let below = max(1, (frames - 1) / 4 * 4 + 1)
        throw UsageError("--num-frames \(frames) is not 4n + 1; the nearest are \(below) and \(below + 4)")
      }
      return frames
    }
    let seconds = request.seconds ?? 5
    let frames = (seconds * frameRate.framesPerSecond).rounded(.up)
    guard seconds.isFinite, seconds > 0 else { throw UsageError("--seconds \(seconds) must be above 0") }
    guard frames <= Double(most) else { throw UsageError("--seconds \(seconds) is more than \(most) frames") }
    return (Int(frames) + 2) / 4 * 4 + 1
  }

  private static func schedule(_ request: RunRequest, _ defaults: ModelSettings) throws -> FlowSchedule {
    let shift = request.flowShift ?? defaults.shift
    if let timesteps = request.timesteps {
      guard request.steps == nil else { throw UsageError("give --steps or --timesteps, not both") }
      return try FlowSchedule(nominal: timesteps, shift: shift)
    }
    if let steps = request.steps { return try FlowSchedule(steps: steps, shift: shift) }
    let stored = defaults.distilled ? defaults.steps : defaults.undistilledSteps ?? defaults.steps
    guard let stored else { return try FlowSchedule(nominal: ModelSettings.nominalSteps, shift: shift) }
    // A list of the model is warped already; another shift takes as many steps anew.
    if request.flowShift != nil { return try FlowSchedule(steps: stored.count, shift: shift) }
    return try FlowSchedule(timesteps: stored)
  }

  private static func tile(_ text: String) throws -> PageTile {
    let parts = text.lowercased().split(separator: "x", omittingEmptySubsequences: false).map { Int($0) }
    let sizes = parts.compactMap { $0 }
    guard sizes.count == parts.count, sizes.count == 2 || sizes.count == 3, sizes.allSatisfy({ $0 >= 1 && $0 <= 4096 })
    else {
      throw UsageError("--tile \(text) is not RxC or FxRxC, such as 15x4")
    }
    return sizes.count == 2
      ? PageTile(rows: sizes[0], columns: sizes[1]) : PageTile(frames: sizes[0], rows: sizes[1], columns: sizes[2])
  }
}
