/// What a run tells while it goes.
public enum RunEvent: Sendable {
  /// Something that a user should know; the run goes on.
  case warning(String)
  /// How the run was understood: one line.
  case note(String)
  /// Everything is loaded; seconds since the process began.
  case ready(seconds: Double)
  /// A denoising step of a whole clip.
  case step(StepReport)
  /// A prompt took effect; told before its first chunk is.
  case prompt(PromptReport)
  case chunk(ChunkReport)
  case finished(RunSummary)
}

/// The receipt of a change of prompt.
public struct PromptReport: Encodable, Sendable {
  /// The prompt, from 0, and its text.
  public let index: Int
  public let text: String
  /// The first chunk under it, where that begins and where it was asked for, in seconds of video.
  public let appliedAtChunk: Int
  public let seconds: Double
  public let askedSeconds: Double
  public let hardCut: Bool
  public let onSwitch: String
  public let blend: Int
  public let blendMode: String
  /// Latent frames whose keys and values were computed anew, and the seconds that took; again at each chunk of a blend.
  public let recachedFrames: Int
  public let recacheSeconds: Double
}

/// One denoising step of a whole clip.
public struct StepReport: Encodable, Sendable {
  /// Steps taken, and all.
  public let step: Int
  public let steps: Int
  /// Seconds of the steps so far, and estimated to the last.
  public let seconds: Double
  public let remainingSeconds: Double
}

/// One finished chunk: denoised, decoded and written.
public struct ChunkReport: Encodable, Sendable {
  public let index: Int
  /// All chunks; nil without end.
  public let chunks: Int?
  /// Video frames written so far, and all; nil without end.
  public let frames: Int
  public let totalFrames: Int?
  /// Seconds of video written so far.
  public let videoSeconds: Double
  public let visibleFrames: Int
  /// The prompt in force, from 0, and its share; below 1 while it blends with the one before.
  public let prompt: Int
  public let promptShare: Double
  /// Share of the pages in memory that were read, as counted in the lists that the kernel was given: the mean of the layers,
  /// and each layer's.
  public let density: Double
  public let layerDensities: [Double]
  /// Seconds spent on this chunk.
  public let denoiseSeconds: Double
  public let sealSeconds: Double
  public let decodeSeconds: Double
  public let writeSeconds: Double
  /// Frames written per second since the process began.
  public let framesPerSecond: Double
  /// Estimated seconds to the end; nil without one.
  public let remainingSeconds: Double?
  public let kvBytes: Int
  public let residentBytes: Int
}

/// What a whole run took.
public struct RunSummary: Encodable, Sendable {
  /// Where the video is; `-` for standard output.
  public let output: String
  public let frames: Int
  public let videoSeconds: Double
  /// Seconds from the start of the process to the finished file.
  public let totalSeconds: Double
  /// Seconds from the start of the process to the first frame in the file.
  public let firstFrameSeconds: Double
  public let loadSeconds: Double
  public let denoiseSeconds: Double
  public let decodeSeconds: Double
  public let writeSeconds: Double
  /// Frames over the seconds from process start to finished file.
  public let endToEndFPS: Double
  /// Frames over the seconds of denoising and clean passes alone.
  public let denoiseFPS: Double
  public let kvBytes: Int
  public let peakBytes: Int
}
