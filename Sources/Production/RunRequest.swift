import Compute
import Rollout
import VideoIO

/// What a user asks for; everything but the prompt has a default.
public struct RunRequest: Sendable, Codable {
  /// What the video shows, and from when on.
  public var timeline = PromptTimeline()
  /// A picture that the video begins with, or a video that it goes on from.
  public var image: String?
  public var video: String?
  /// Video to video: how much of the input is made anew, above 0 and at most 1; nil to keep it and go on.
  public var strength: Double?
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
  /// Until it is stopped.
  public var isEndless = false
  /// Without end: how many of the latest chunks keep their latents and live segments; nil for ``Kept/standard``.
  public var kept: Kept?
  /// Pixels; multiples of 16.
  public var height: Int?
  public var width: Int?
  public var frameRate: FrameRate?
  /// Chunk by chunk or the whole clip at once; nil for the model's.
  public var mode: Mode?
  /// Number of denoising steps, evenly spaced before the warp.
  public var steps: Int?
  /// Nominal timesteps, warped by the flow shift.
  public var timesteps: [Double]?
  public var flowShift: Double?
  /// `euler` or `unipc`, for whole clips; nil for `unipc`.
  public var sampler: String?
  /// Guidance scale, 1 for none; nil for the model's.
  public var guidance: Double?
  /// What guidance leads away from; nil for the model's.
  public var negativePrompt: String?
  public var chunkFrames: Int?
  /// Timestep at which a finished chunk is remembered, with noise of that level mixed in; nil for the model's timestep
  /// and no noise.
  public var contextNoise: Double?
  /// Limit of the latents' drift; nil for none.
  public var latentClamp: Double?
  /// The name of a recipe; nil for the default.
  public var sparsity: String?
  /// Which pages stay: `all`, `window`, `persistent` or `reservoir`; nil for the recipe's.
  public var memory: String?
  /// Frames' worth of pages kept beside the window (`persistent`), or middle frames kept (`reservoir`).
  public var memoryCapacity: Int?
  /// `persistent`: latent frames of the window, the chunk's own included.
  public var localWindow: Int?
  /// Which pages are read: `all`, `topk`, `hierarchical` or `anchors`; nil for the recipe's.
  public var select: String?
  /// Share of pages that is read, in (0, 1]; nil for the recipe's.
  public var density: Double?
  /// `topk`: every how many pages of the memory one is read by turns; 0 for none, nil for the recipe's.
  public var anchorStride: Int?
  /// `R0` to `R4`: what the offset of anchors follows; nil for R3.
  public var rotation: String?
  /// How often pages are selected: `every-pass` or `once-per-chunk`; nil for the former.
  public var replan: String?
  /// What becomes of skipped pages: `drop` or `centroid`; nil for the recipe's.
  public var tail: String?
  public var growth = Growth()
  public var hierarchy = Hierarchy()
  public var anchors = Anchors()
  /// Latent frames that a chunk can see; nil for the model's.
  public var window: Window?
  public var sink: Int?
  /// `absolute` or `window`; nil to choose.
  public var positions: String?
  /// `RxC` or `FxRxC`; nil for the standard tile.
  public var tile: String?
  /// With a run directory: chunks from one checkpoint of the state to the next.
  public var checkpointEvery = 1
  /// Worker threads; nil for the physical cores.
  public var threads: Int?
  public var rng = RandomSource.counter
  /// nil for ``Compute/Precision/standard``: bf16 where the processor has it.
  public var precision: Precision?
  /// Whether what the text encoder makes of a prompt is kept on disk for later runs.
  public var cachesText = true
  /// How keys and values are kept; nil to follow the precision.
  public var pages: PageFormat?
  /// Constant rate factor and preset of x264.
  public var crf = 18.0
  public var preset = "veryfast"
  /// What to note of the attention in the run directory; nil for nothing.
  public var recording: Recording?

  public init() {}

  /// The first prompt; setting it makes it the only one.
  public var prompt: String {
    get { timeline.segments.first?.text ?? "" }
    set { timeline = PromptTimeline(newValue) }
  }

  /// `--mode`.
  public enum Mode: String, Sendable, Codable, CaseIterable {
    case chunks, clip
  }

  /// Chunk-aware growth (`--cag-*`): target and base sparsity; nil for the published ones.
  public struct Growth: Sendable, Equatable, Codable {
    public var target: Double?
    public var base: Double?
    public init() {}
  }

  /// Hierarchical selection (`--hsa-*`): candidate past frames, of these sink and near ones; nil for the published ones.
  public struct Hierarchy: Sendable, Equatable, Codable {
    public var keep: Int?
    public var sink: Int?
    public var near: Int?
    public init() {}
  }

  /// Rotating anchors (`--lvsa-*`): half window, leading frames, stride, budget and its scale; nil for the published ones.
  public struct Anchors: Sendable, Equatable, Codable {
    public var window: Int?
    public var first: Int?
    public var stride: Int?
    public var budget: Int?
    public var scale: Double?
    public init() {}
  }

  /// Inspection (`--record-*`): lists of numbers and ranges such as `0,4-6`; nil for all chunks, three layers, all heads,
  /// the last step and the clean pass.
  public struct Recording: Sendable, Equatable, Codable {
    public var chunks: String?
    public var layers: String?
    public var heads: String?
    public var passes: String?
    public init() {}
  }

  /// `--keep`.
  public enum Kept: Sendable, Equatable, Codable {
    case all
    case chunks(Int)
    /// Three minutes of video in chunks of 3 latent frames at 16 frames a second.
    public static let standard = Kept.chunks(240)
  }

  /// `--window`.
  public enum Window: Sendable, Equatable, Codable {
    case all
    case frames(Int)
  }

  /// `--rng`.
  public enum RandomSource: String, Sendable, Codable, CaseIterable {
    /// Philox, keyed by seed, chunk and step.
    case counter
    /// `torch.randn` on the CPU, in Self-Forcing's order.
    case torch
  }

  /// `--kv`.
  public typealias PageFormat = Compute.PageFormat

  /// `--precision`.
  public typealias Precision = Compute.Precision
}

/// A run that cannot be had as asked: known before any work, exit status 2.
public struct UsageError: Error, Equatable, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}
