import Foundation

/// What a model wants to be run with: the keys of `longtake.json`, or the settings of Self-Forcing without one.
public struct ModelSettings: Sendable, Equatable {
  public var name = "wan"
  /// Pixels of the size that it was trained at.
  public var height = 480
  public var width = 832
  public var framesPerSecond = 16
  public var chunkFrames = 3
  /// Latent frames that a chunk may see, its own included.
  public var windowFrames = 21
  public var sinkFrames = 0
  /// Memory that a recipe was trained with where it is another one than the model's, by the recipe's name.
  public var recipes: [String: RecipeMemory] = [:]
  /// `absolute` or `window`; nil to choose by the length of the run.
  public var positions: String?
  /// Timesteps of the distilled model, already warped, used as they stand; nil for the nominal list of Self-Forcing.
  public var steps: [Double]?
  /// Timesteps that a model which is not distilled wants.
  public var undistilledSteps: [Double]?
  public var distilled = true
  /// Flow shift that warps nominal timesteps given by hand.
  public var shift = 5.0
  /// Scale of classifier-free guidance; exactly 1 is none. nil: 1 chunk by chunk, 5 over whole clips (Wan 2.1's own).
  public var guidance: Double?
  /// What guidance leads away from; nil: Wan 2.1's own.
  public var negativePrompt: String?
  /// `chunks` or `clip`.
  public var mode = "chunks"
  /// Timestep of the clean pass.
  public var contextNoise = 0.0
  /// Latent frames of the longest clip of its training: how far memory and positions are known to work.
  public var trainedFrames = 21
  /// Subfolder of the autoencoder.
  public var autoencoder = "vae"
  /// Rows of the text context.
  public var textLength: Int?

  /// Latent frames that a recipe's chunk may see, and how many of the first ones it keeps.
  public struct RecipeMemory: Sendable, Equatable {
    public var windowFrames: Int
    public var sinkFrames: Int
  }

  public init() {}

  /// The same model as it is run under the recipe `name`.
  public func adopting(recipe name: String) -> ModelSettings {
    guard let memory = recipes[name] else { return self }
    var settings = self
    (settings.windowFrames, settings.sinkFrames) = (memory.windowFrames, memory.sinkFrames)
    settings.trainedFrames = max(trainedFrames, memory.windowFrames)
    return settings
  }

  /// The negative prompt that Wan 2.1 was published with (`wan/configs/shared_config.py`).
  public static let wanNegativePrompt =
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，"
    + "多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"

  /// Nominal timesteps of Self-Forcing.
  public static let nominalSteps: [Double] = [1000, 750, 500, 250]

  /// Reads `longtake.json`; what it does not say keeps the value of Self-Forcing.
  /// - Throws: ``ModelError``, naming the file and what is wrong in it.
  public init(path: String) throws {
    let file = try ConfigurationFile(path: path)
    func text(_ key: String) throws -> String? {
      guard let value = file.value(key) else { return nil }
      guard let text = value as? String else { throw file.problem("'\(key)' is \(value), wanted a text") }
      return text
    }
    func number(_ key: String, _ standard: Double) throws -> Double {
      guard let value = file.value(key) else { return standard }
      guard let number = (value as? Double) ?? (value as? Int).map(Double.init) else {
        throw file.problem("'\(key)' is \(value), wanted a number")
      }
      return number
    }
    name = try text("name") ?? name
    height = try file.positive("height", default: height)
    width = try file.positive("width", default: width)
    framesPerSecond = try file.positive("fps", default: framesPerSecond)
    chunkFrames = try file.positive("chunk_frames", default: chunkFrames)
    windowFrames = try file.positive("window_frames", default: windowFrames)
    trainedFrames = try file.positive("trained_frames", default: max(trainedFrames, windowFrames))
    if file.value("text_length") != nil { textLength = try file.positive("text_length") }
    if let sink = file.value("sink_frames") {
      guard let sink = sink as? Int, sink >= 0 else { throw file.problem("'sink_frames' is \(sink), wanted 0 or more") }
      sinkFrames = sink
    }
    if let flag = file.value("distilled") {
      guard let flag = flag as? Bool else { throw file.problem("'distilled' is \(flag), wanted true or false") }
      distilled = flag
    }
    positions = try text("rope")
    steps = try file.numbers("steps")
    undistilledSteps = try file.numbers("steps_undistilled")
    shift = try number("shift", shift)
    contextNoise = try number("context_noise", contextNoise)
    guidance = try number("guidance", 1)
    negativePrompt = try text("negative_prompt") ?? ""
    mode = try text("mode") ?? mode
    guard ["chunks", "clip"].contains(mode) else { throw file.problem("'mode' is '\(mode)', wanted chunks or clip") }
    autoencoder = try text("vae") ?? autoencoder
    for (key, list) in [("steps", steps), ("steps_undistilled", undistilledSteps)] {
      guard let list else { continue }
      guard !list.isEmpty, list.allSatisfy({ $0 > 0 && $0 <= 1000 }),
        zip(list, list.dropFirst()).allSatisfy({ $0 > $1 })
      else { throw file.problem("'\(key)' must be a list of falling timesteps in (0, 1000]") }
    }
    // What a flag may not say, a file may not say either; the error names the file and not the flag.
    for (key, size) in [("height", height), ("width", width)] where size % 16 != 0 || size > 16384 {
      throw file.problem("'\(key)' is \(size), wanted a multiple of 16 up to 16384")
    }
    guard framesPerSecond <= 1000 else { throw file.problem("'fps' is \(framesPerSecond), wanted at most 1000") }
    guard chunkFrames <= 1024 else { throw file.problem("'chunk_frames' is \(chunkFrames), wanted at most 1024") }
    func check(window: Int, sink: Int, _ place: String) throws {
      guard sink <= window, window >= sink + chunkFrames else {
        throw file.problem(
          "\(place)a window of \(window) frames cannot hold a chunk of \(chunkFrames) beside a sink of \(sink)")
      }
    }
    try check(window: windowFrames, sink: sinkFrames, "")
    if let value = file.value("recipes") {
      guard let entries = value as? [String: Any] else {
        throw file.problem("'recipes' is \(value), wanted recipes by name")
      }
      for (name, value) in entries.sorted(by: { $0.key < $1.key }) {
        let fields = value as? [String: Any]
        let (window, sink) = (fields?["window_frames"] ?? windowFrames, fields?["sink_frames"] ?? sinkFrames)
        guard fields != nil, let window = window as? Int, let sink = sink as? Int, (1...1 << 20).contains(window),
          (0...1 << 20).contains(sink)
        else {
          throw file.problem("'recipes' has \(value) for '\(name)', wanted window_frames and sink_frames")
        }
        try check(window: window, sink: sink, "'recipes', '\(name)': ")
        recipes[name] = RecipeMemory(windowFrames: window, sinkFrames: sink)
      }
    }
    guard positions.map({ ["absolute", "window"].contains($0) }) ?? true else {
      throw file.problem("'rope' is \(positions ?? ""), wanted absolute or window")
    }
    guard shift > 0 else { throw file.problem("'shift' is \(shift), wanted more than 0") }
    guard (0...1000).contains(contextNoise) else {
      throw file.problem("'context_noise' is \(contextNoise), wanted a timestep from 0 to 1000")
    }
    guard !autoencoder.contains("/"), !autoencoder.hasPrefix("."), !autoencoder.isEmpty else {
      throw file.problem("'vae' must name a subfolder, not '\(autoencoder)'")
    }
  }
}
