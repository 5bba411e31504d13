import Compute
import Foundation
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
  /// Frames of the video, 4 (latent frames - 1) + 1; of a run without end those that a plan shows.
  public private(set) var frames: Int
  /// Whether the run goes on until it is stopped.
  public private(set) var isEndless: Bool
  /// The length that the run was declared with; more frames than that are an extension.
  public let declaredFrames: Int
  public let frameRate: FrameRate
  public let mode: RunRequest.Mode
  /// How exact matrix products are.
  public let precision: Precision
  /// How keys and values are kept.
  public let pages: PageFormat
  /// In clip mode one chunk holds the whole clip.
  public private(set) var rollout: RolloutSettings
  /// The recipe as it was chosen, in numbers.
  public let recipe: RecipeChoice
  /// The sampler of clip mode.
  public let sampler: ClipSampler?
  /// What guidance leads away from; nil without guidance.
  public let negativePrompt: String?
  /// Latent frames that the decoder is given at a time.
  public let decodedFrames: Int
  /// What the video begins with.
  public let input: InputClip?
  /// Video to video: the noise levels of chunks that are made from the input; nil where it is taken as it is.
  public let inputSchedule: FlowSchedule?
  /// Which prompt holds in which chunk.
  public let prompts: PromptSchedule
  /// Where the recipe's answers to memory and positions come from, for people.
  public let notes: [String]

  /// Latent frames of the video; the last chunk may compute more.
  public var latentFrames: Int { (frames - 1) / 4 + 1 }
  /// The number of frames and of chunks; nil without end.
  public var frameLimit: Int? { isEndless ? nil : frames }
  /// How many of the latest chunks keep their latents, records of attention and live segments; nil for all.
  public var keptChunks: Int? { isEndless ? RunSettings.keptChunks(request) : nil }
  /// Chunks of the declared length, whose latents stay in any case.
  var declaredChunks: Int {
    request.isEndless
      ? 0
      : ChunkLayout(frames: chunkFrames, first: rollout.firstChunkFrames, latentFrames: (declaredFrames - 1) / 4 + 1)
        .count ?? 0
  }
  public var chunkLimit: Int? { isEndless ? nil : chunks }
  public var chunkFrames: Int { rollout.chunkFrames }
  public var chunks: Int { shownLayout.count ?? 0 }
  /// How the frames are cut into chunks; without end those that a plan shows.
  var shownLayout: ChunkLayout {
    ChunkLayout(frames: chunkFrames, first: rollout.firstChunkFrames, latentFrames: latentFrames)
  }
  /// The prompts with their chunks.
  var promptList: [RunPlan.Prompt] {
    prompts.switches.map { RunPlan.Prompt($0, text: request.timeline.segments[$0.prompt].text) }
  }
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
    input = try RunSettings.input(request, frameRate: frameRate)
    let inputFrames = input.map { model.latentFrames(ofVideoFrames: $0.frames) } ?? 0
    isEndless = request.isEndless
    if isEndless {
      guard request.seconds == nil, request.frames == nil else {
        throw UsageError("--forever has no length; leave out --seconds and --num-frames")
      }
      guard request.rng != .torch else {
        throw UsageError("--rng torch draws the noise of the whole length at once; --forever needs --rng counter")
      }
      frames = RunSettings.shownFrames + 4 * inputFrames
    } else {
      frames = try RunSettings.length(request, frameRate: frameRate, inputFrames: inputFrames)
    }
    declaredFrames = frames
    guard request.checkpointEvery >= 1 else {
      throw UsageError("--checkpoint-every \(request.checkpointEvery); the least is 1, every chunk")
    }
    try RunSettings.checkKept(request)
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
    guard mode == .chunks || !isEndless else {
      throw UsageError("--forever needs --mode chunks; a whole clip has an end")
    }
    try RunSettings.checkGuards(request, mode: mode)
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
      request, defaults, mode: mode, frames: isEndless ? .max : latentFrames, chunkFrames: chunkFrames, notes: &notes)
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
        latentFrames: isEndless ? nil : latentFrames, schedule: levels, recipe: recipe)
      rollout.chunkFrames = chunkFrames
      inputSchedule = try request.strength.map {
        try levels.entered(at: $0, shift: request.flowShift ?? defaults.shift)
      }
      if inputFrames > 0 {
        guard mode == .chunks else { throw UsageError("--image and --video need --mode chunks") }
        if inputFrames % chunkFrames > 0 { rollout.firstChunkFrames = inputFrames % chunkFrames }
        if request.strength == nil { rollout.givenFrames = inputFrames }
      }
      rollout.contextTimestep = Float(defaults.contextNoise)
      if let noise = request.contextNoise {
        (rollout.contextTimestep, rollout.contextNoise) = (Float(noise), Float(noise / 1000))
      }
      rollout.latentGuard = request.latentClamp.map { LatentGuard(limit: $0) }
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
      try recipe.check(geometry: geometry, chunkFrames: chunkFrames, total: rollout.latentFrames)
      self.rollout = rollout
      prompts = try RunSettings.prompts(request, mode: mode, layout: rollout.layout, frameRate: frameRate)
    } catch let error as TimelineError { throw UsageError("\(error)") } catch let error as SparsityError {
      throw UsageError("\(error)")
    } catch let error as RolloutError {
      throw UsageError("\(error)")
    }
    if let input {
      notes.append(RunSettings.note(on: input, latentFrames: inputFrames, of: self.frames, request, frameRate))
    }
    self.notes = notes + prompts.switches.dropFirst().map(\.summary)
  }

  /// Which chunk each prompt takes effect with. A plan may go without a prompt.
  private static func prompts(
    _ request: RunRequest, mode: RunRequest.Mode, layout: ChunkLayout, frameRate: FrameRate
  ) throws -> PromptSchedule {
    let timeline = request.timeline
    if timeline.segments.count == 1, timeline.segments[0].seconds == 0 { return .single }
    guard mode == .chunks else {
      throw UsageError("\(timeline.segments.count) prompts need --mode chunks; a whole clip has one prompt")
    }
    return try timeline.schedule(layout, framesPerSecond: frameRate.framesPerSecond)
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

  /// What a run without end keeps of its chunks; nil for all.
  static func keptChunks(_ request: RunRequest) -> Int? {
    if case .chunks(let count) = request.kept ?? .standard { max(count, request.checkpointEvery + 1) } else { nil }
  }

  private static func checkKept(_ request: RunRequest) throws {
    guard let kept = request.kept else { return }
    guard request.isEndless else {
      throw UsageError("--keep belongs to --forever; a run with an end keeps the latents of all its chunks")
    }
    guard case .chunks(let count) = kept else { return }
    guard (1...1 << 24).contains(count) else { throw UsageError("--keep \(count); 1 to \(1 << 24), or all") }
    guard count > request.checkpointEvery else {
      throw UsageError(
        "--keep \(count) with --checkpoint-every \(request.checkpointEvery): a resumed run would miss chunks; the least is "
          + "\(request.checkpointEvery + 1)")
    }
  }

  /// Refuses impossible guards against drift.
  private static func checkGuards(_ request: RunRequest, mode: RunRequest.Mode) throws {
    if let noise = request.contextNoise {
      guard noise >= 0, noise < 1000 else {
        throw UsageError("--context-noise \(noise) is no timestep in [0, 1000); 0 is none, 20 to 100 are usual")
      }
      guard request.rng == .counter || noise == 0 else {
        throw UsageError("--context-noise needs --rng counter; torch's order of numbers has none for it")
      }
    }
    if let limit = request.latentClamp, !(limit >= 0 && limit.isFinite) {
      throw UsageError("--latent-clamp \(limit) must be 0 or more; it is in standard deviations")
    }
    guard mode == .chunks || (request.contextNoise == nil && request.latentClamp == nil) else {
      throw UsageError("--context-noise and --latent-clamp need --mode chunks; a whole clip does not drift")
    }
  }

  /// Chunks that a plan shows of a run without end: 21, as long as growing sparsity grows.
  private static let shownFrames = 249

  /// The same run with more frames. What depends on the length, such as growing sparsity or where positions are counted
  /// from, stays as it was planned.
  /// - Throws: ``UsageError`` for what cannot be extended.
  func extended(to seconds: Double) throws -> RunSettings {
    var request = RunRequest()
    request.seconds = seconds
    let frames: Int
    do { frames = try RunSettings.length(request, frameRate: frameRate) } catch let error as UsageError {
      throw UsageError(error.description.replacingOccurrences(of: "--seconds", with: "--until"))
    }
    return try extended(toFrames: frames)
  }

  /// - Parameter frames: nil for no end.
  func extended(toFrames frames: Int?) throws -> RunSettings {
    if frames == frameLimit { return self }
    guard mode == .chunks else { throw UsageError("a whole clip cannot be extended; it has no next chunk") }
    guard self.request.rng != .torch else {
      throw UsageError("--rng torch draws the noise of the whole length at once; such a run cannot be extended")
    }
    var longer = self
    longer.isEndless = frames == nil
    longer.frames = frames ?? RunSettings.shownFrames
    // The first extension says what was planned.
    if rollout.planned == .video { longer.rollout.planned = rollout.latentFrames.map { .frames($0) } ?? .endless }
    longer.rollout.latentFrames = frames.map { ($0 - 1) / 4 + 1 }
    do {
      try rollout.recipe.check(
        geometry: rollout.geometry(), chunkFrames: chunkFrames, total: longer.rollout.latentFrames)
    } catch { throw UsageError("\(error)") }
    return longer
  }

  /// What a user should know of an extension that outlives the range in which positions were trained, although the declared
  /// run did not: its positions stay as they were planned. nil if there is nothing to know.
  func extensionWarning(of declared: RunSettings) -> String? {
    let trained = model.settings.windowFrames
    guard !declared.isEndless, declared.latentFrames <= trained, isEndless || latentFrames > trained,
      recipe.positions == .absolute
    else { return nil }
    // A window alone, without anything older beside it, never spans more than it was trained for.
    if case .window(let frames, sink: 0) = recipe.memory, frames <= trained { return nil }
    return
      "the run was planned within the \(trained) latent frames of training and counts positions from its beginning; "
      + "past them they are farther apart than in training, and the picture may fall apart. A new run of the full length "
      + "chooses better (--rope window)"
  }

  /// - Parameter inputFrames: Latent frames of the input, 0 without.
  private static func length(_ request: RunRequest, frameRate: FrameRate, inputFrames: Int) throws -> Int {
    let shown = inputFrames == 0 ? 0 : 4 * (inputFrames - 1) + 1
    if request.frames == nil, request.seconds == nil, request.timeline.end == nil, shown > 1 {
      // A clip and five seconds more; video to video is as long as its clip.
      let more = request.strength == nil ? Int((5 * frameRate.framesPerSecond).rounded(.up)) : 0
      return shown + (more + 3) / 4 * 4
    }
    let frames = try length(request, frameRate: frameRate)
    guard request.strength != nil || frames > shown else {
      let seconds = Double(shown) / frameRate.framesPerSecond
      throw UsageError(
        "\(frames) frames are not more than the \(shown) (\(Format.time(seconds))) of the input; give a greater --seconds, "
          + "which counts the input too")
    }
    return frames
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
    let seconds = request.seconds ?? request.timeline.end ?? 5
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
