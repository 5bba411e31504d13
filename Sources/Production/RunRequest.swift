import VideoIO

/// What a user asks for; everything but the prompt has a default.
public struct RunRequest: Sendable {
  public var prompt = ""
  /// A model folder; nil for the shipped one.
  public var model: String?
  /// A safetensors file whose transformer replaces the folder's.
  public var checkpoint: String?
  /// `.mp4`, `.y4m`, a PNG pattern, or `-`; nil for `video.mp4`, in the run directory if there is one.
  public var output: String?
  /// Folder for latents, the record and the video; nil for none.
  public var runDirectory: String?
  public var seed: UInt64 = 0
  /// Length in seconds, rounded up to the next possible number of frames.
  public var seconds: Double?
  /// Length in frames, 4n + 1.
  public var frames: Int?
  /// Pixels; multiples of 16.
  public var height: Int?
  public var width: Int?
  public var frameRate: FrameRate?
  /// Number of denoising steps, evenly spaced before the warp.
  public var steps: Int?
  /// Nominal timesteps, warped by the flow shift.
  public var timesteps: [Double]?
  public var flowShift: Double?
  public var chunkFrames: Int?
  /// The name of a recipe; nil for the default.
  public var sparsity: String?
  /// Which pages stay: `all` or `window`; nil for the recipe's.
  public var memory: String?
  /// Latent frames that a chunk can see; nil for the model's.
  public var window: Window?
  public var sink: Int?
  /// `absolute` or `window`; nil to choose.
  public var positions: String?
  /// `RxC` or `FxRxC`; nil for the standard tile.
  public var tile: String?
  /// Worker threads; nil for the physical cores.
  public var threads: Int?
  public var rng = RandomSource.counter
  public var precision = Precision.f32
  /// Constant rate factor and preset of x264.
  public var crf = 18.0
  public var preset = "medium"

  public init() {}

  /// `--window`.
  public enum Window: Sendable, Equatable {
    case all
    case frames(Int)
  }

  /// `--rng`.
  public enum RandomSource: String, Sendable, CaseIterable {
    /// Philox, keyed by seed, chunk and step.
    case counter
    /// `torch.randn` on the CPU, in Self-Forcing's order.
    case torch
  }

  /// `--precision`.
  public enum Precision: String, Sendable, CaseIterable {
    case f32, bf16, int8
  }
}

/// A run that cannot be had as asked: known before any work, exit status 2.
public struct UsageError: Error, Equatable, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}
