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
  /// `absolute` or `window`; nil to choose by the length of the run.
  public var positions: String?
  /// Timesteps of the distilled model, already warped, used as they stand; nil for the nominal list of Self-Forcing.
  public var steps: [Double]?
  /// Timesteps that a model which is not distilled wants.
  public var undistilledSteps: [Double]?
  public var distilled = true
  /// Flow shift that warps nominal timesteps given by hand.
  public var shift = 5.0
  /// Timestep of the clean pass.
  public var contextNoise = 0.0
  /// Latent frames of the longest clip of its training: how far memory and positions are known to work.
  public var trainedFrames = 21
  /// Subfolder of the autoencoder.
  public var autoencoder = "vae"
  /// Rows of the text context.
  public var textLength: Int?

  public init() {}

  /// Nominal timesteps of Self-Forcing.
  public static let nominalSteps: [Double] = [1000, 750, 500, 250]

  /// Reads `longtake.json`; what it does not say keeps the value of Self-Forcing.
  /// - Throws: ``ModelError``, naming the file and what is wrong in it.
  public init(json data: Data, file: String) throws {
    let stored: Stored
    do { stored = try JSONDecoder().decode(Stored.self, from: data) } catch {
      throw ModelError.configuration(path: file, problem: "cannot be read: \(ModelSettings.explain(error))")
    }
    func positive(_ value: Int?, _ key: String, _ standard: Int, least: Int = 1) throws -> Int {
      guard let value else { return standard }
      guard value >= least, value <= 1 << 20 else {
        throw ModelError.configuration(path: file, problem: "'\(key)' is \(value), which is no possible number")
      }
      return value
    }
    name = stored.name ?? name
    height = try positive(stored.height, "height", height)
    width = try positive(stored.width, "width", width)
    framesPerSecond = try positive(stored.fps, "fps", framesPerSecond)
    chunkFrames = try positive(stored.chunk_frames, "chunk_frames", chunkFrames)
    windowFrames = try positive(stored.window_frames, "window_frames", windowFrames)
    sinkFrames = try positive(stored.sink_frames, "sink_frames", sinkFrames, least: 0)
    trainedFrames = try positive(stored.trained_frames, "trained_frames", max(trainedFrames, windowFrames))
    if let length = stored.text_length { textLength = try positive(length, "text_length", 512) }
    positions = stored.rope
    steps = stored.steps
    undistilledSteps = stored.steps_undistilled
    distilled = stored.distilled ?? distilled
    shift = stored.shift ?? shift
    contextNoise = stored.context_noise ?? contextNoise
    autoencoder = stored.vae ?? autoencoder
    for (key, list) in [("steps", steps), ("steps_undistilled", undistilledSteps)] {
      if let list, list.isEmpty || !list.allSatisfy({ $0 > 0 && $0 <= 1000 }) {
        throw ModelError.configuration(path: file, problem: "'\(key)' must be a list of timesteps in (0, 1000]")
      }
    }
    guard !autoencoder.contains("/"), !autoencoder.hasPrefix(".") else {
      throw ModelError.configuration(path: file, problem: "'vae' must name a subfolder, not '\(autoencoder)'")
    }
  }

  // The spelling of the file.
  private struct Stored: Decodable {
    var name, rope, vae: String?
    var height, width, fps, chunk_frames, window_frames, sink_frames, trained_frames, text_length: Int?
    var steps, steps_undistilled: [Double]?
    var shift, context_noise: Double?
    var distilled: Bool?
  }

  private static func explain(_ error: any Error) -> String {
    guard let error = error as? DecodingError else { return "\(error)" }
    switch error {
    case .typeMismatch(_, let context), .valueNotFound(_, let context), .keyNotFound(_, let context),
      .dataCorrupted(let context):
      let key = context.codingPath.map(\.stringValue).joined(separator: ".")
      return key.isEmpty ? context.debugDescription : "'\(key)': \(context.debugDescription)"
    @unknown default: return "\(error)"
    }
  }
}
