import ArgumentParser
import Foundation
import Production
import VideoIO

/// Which weights.
struct ModelOptions: ParsableArguments {
  @Option(
    name: [.long, .customShort("m"), .customLong("model-path"), .customLong("ckpt-dir")],
    help: "A model folder in the diffusers layout (default: the shipped model).")
  var model: String?

  @Option(
    name: [.long, .customLong("checkpoint-path")],
    help: "A .safetensors file whose transformer replaces the folder's, under original or diffusers names.")
  var checkpoint: String?

  func apply(to request: inout RunRequest) {
    request.model = model
    request.checkpoint = checkpoint
  }
}

/// How large and how long.
struct SizeOptions: ParsableArguments {
  @Option(
    name: [.long, .customLong("duration")], parsing: .unconditional,
    help: "Length in seconds, rounded up to 4n + 1 frames (default: 5).")
  var seconds: Double?

  @Option(
    name: [.long, .customLong("frames"), .customLong("video-frames"), .customLong("frame-num")],
    parsing: .unconditional,
    help: "Length in frames, 4n + 1: a latent frame is 4 frames, the first 1; a chunk of 3 is 12, the first 9.")
  var numFrames: Int?

  @Flag(help: "Go on until stopped (Ctrl-C): memory, open files, logs and latents do not grow; see --keep.")
  var forever = false

  @Option(
    parsing: .unconditional,
    help: """
      With --forever: of how many of the latest chunks the latents and the HLS segments stay, or all (default: 240, three \
      minutes; a video in one file grows).
      """)
  var keep: String?

  @Option(
    name: [.long, .customShort("H")], parsing: .unconditional, help: "Pixels, a multiple of 16 (default: the model's).")
  var height: Int?

  @Option(
    name: [.long, .customShort("W")], parsing: .unconditional, help: "Pixels, a multiple of 16 (default: the model's).")
  var width: Int?

  @Option(help: "Width and height at once, as 832x480.")
  var size: String?

  @Option(help: "Frames per second, exact: 16, 23.976 or 24000/1001 (default: the model's).")
  var fps: String?

  func apply(to request: inout RunRequest) throws {
    (request.seconds, request.frames, request.height, request.width) = (seconds, numFrames, height, width)
    request.isEndless = forever
    if let keep {
      guard keep == "all" || Int(keep) != nil else {
        throw UsageError("--keep \(keep) is neither a number of chunks nor all")
      }
      request.kept = Int(keep).map { .chunks($0) } ?? .all
    }
    if let size {
      guard height == nil, width == nil else { throw UsageError("give --size, or --height and --width, not both") }
      let sides = size.lowercased().split(whereSeparator: { $0 == "x" || $0 == "*" }).map { Int($0) }
      guard sides.count == 2, let width = sides[0], let height = sides[1] else {
        throw UsageError("--size \(size) is not WIDTHxHEIGHT, such as 832x480")
      }
      (request.width, request.height) = (width, height)
    }
    if let fps {
      do { request.frameRate = try FrameRate(parsing: fps) } catch { throw UsageError("--fps: \(error)") }
    }
  }
}

/// Which noise levels.
struct ScheduleOptions: ParsableArguments {
  @Option(
    help: "chunks (chunk by chunk) or clip (the whole clip at once, for bidirectional models) (default: the model's).")
  var mode: String?

  @Option(
    name: [.long, .customLong("num-inference-steps"), .customLong("sample-steps")], parsing: .unconditional,
    help: "Denoising steps per chunk, evenly spaced and then warped (default: the model's list).")
  var steps: Int?

  @Option(
    name: [.long, .customLong("denoising-step-list")],
    help: "Nominal timesteps, warped by --flow-shift, as 1000,750,500,250.")
  var timesteps: String?

  @Option(
    name: [.long, .customLong("sample-shift")], parsing: .unconditional,
    help: "Flow shift S: t = 1000 S u / (1 + (S - 1) u) (default: the model's, 5 for Self-Forcing).")
  var flowShift: Double?

  @Option(
    name: [.long, .customLong("sample-solver")], help: "With --mode clip: euler or unipc (default: unipc).")
  var sampler: String?

  @Option(
    name: [.long, .customLong("guidance-scale"), .customLong("sample-guide-scale")], parsing: .unconditional,
    help: "Classifier-free guidance; 1 is none and half the work (default: the model's; 1, in clip mode 5).")
  var guidance: Double?

  @Option(help: "What guidance leads away from (default: the model's).")
  var negativePrompt: String?

  func apply(to request: inout RunRequest) throws {
    (request.steps, request.flowShift) = (steps, flowShift)
    (request.sampler, request.guidance, request.negativePrompt) = (sampler, guidance, negativePrompt)
    if let mode {
      guard let known = RunRequest.Mode(rawValue: mode) else {
        throw UsageError("--mode \(mode) is not known; there are chunks, clip")
      }
      request.mode = known
    }
    if let timesteps {
      let list = timesteps.split(separator: ",", omittingEmptySubsequences: false)
        .map { Double($0.trimmingCharacters(in: .whitespaces)) }
      guard list.allSatisfy({ $0 != nil }) else {
        throw UsageError("--timesteps \(timesteps) is not a list of numbers such as 1000,750,500,250")
      }
      request.timesteps = list.compactMap { $0 }
    }
  }
}

/// What stays in memory and what is read.
struct MemoryOptions: ParsableArguments {
  @Option(
    help: """
      Recipe: dense (keep and read every frame), self-forcing (a sliding window), sparse-forcing (persistent pages), \
      light-forcing (growing sparsity), lvsa (rotating anchors and a window), longtake (persistent pages, growing sparsity, \
      anchors and a tail) (default: self-forcing; dense in clip mode).
      """)
  var sparsity: String?

  @Option(help: "Which frames stay: all, window, persistent, reservoir (default: the recipe's).")
  var memory: String?

  @Option(
    name: [.long, .customLong("local-attn-size")], parsing: .unconditional,
    help: "Latent frames that a chunk can see, its own included, or all (default: the model's, 21).")
  var window: String?

  @Option(
    name: [.long, .customLong("sink-size")], parsing: .unconditional,
    help: "Leading latent frames that always stay (default: the model's, 0).")
  var sink: Int?

  @Option(parsing: .unconditional, help: "Latent frames of a chunk (default: the model's, 3).")
  var chunkFrames: Int?

  @Option(
    help: """
      Positions of keys: absolute (frame number) or window (rank in memory) (default: window once a run outlives the \
      trained window beside a sink).
      """)
  var rope: String?

  @Option(
    help: "Shape of a page, RxC or FxRxC tokens, at most 64 (default: the squarest large one that divides a frame).")
  var tile: String?

  func apply(to request: inout RunRequest) throws {
    (request.sparsity, request.memory, request.sink) = (sparsity, memory, sink)
    (request.chunkFrames, request.positions, request.tile) = (chunkFrames, rope, tile)
    if let window {
      if window == "all" {
        request.window = .all
      } else if let frames = Int(window) {
        // -1 is how Self-Forcing's configurations say "everything".
        request.window = frames == -1 ? .all : .frames(frames)
      } else {
        throw UsageError("--window \(window) is neither a number of latent frames nor all")
      }
    }
  }
}

/// What is done against drift; nothing by default.
struct DriftOptions: ParsableArguments {
  @Option(
    parsing: .unconditional,
    help: "Timestep at which finished chunks are remembered, with noise of that level mixed in (default: 0, exact).")
  var contextNoise: Double?

  @Option(
    parsing: .unconditional,
    help: """
      How far mean and deviation of each latent channel may leave those of the first 4 chunks, in deviations (default: no \
      limit, exact).
      """)
  var latentClamp: Double?

  func apply(to request: inout RunRequest) {
    (request.contextNoise, request.latentClamp) = (contextNoise, latentClamp)
  }
}

/// How to compute.
struct ComputeOptions: ParsableArguments {
  @Option(
    name: [.long, .customShort("t")], parsing: .unconditional,
    help: "Worker threads; any number gives the same bytes (default: physical cores)."
  )
  var threads: Int?

  @Option(
    help: """
      Arithmetic of matrix products: f32, bf16, or int8 (fastest; blocks of the transformer in bytes, the rest in bf16) \
      (default: bf16 where the processor has it).
      """)
  var precision: String?

  @Option(help: "How keys and values are kept: f32, bf16 or int8 (default: as the precision).")
  var kv: String?

  @Flag(
    inversion: .prefixedNo,
    help: "Keep what the text encoder makes of a prompt in ~/.cache/longtake for later runs (not the prompt itself).")
  var textCache = true

  func apply(to request: inout RunRequest) throws {
    request.threads = threads
    request.cachesText = textCache
    if let precision {
      guard let known = RunRequest.Precision(rawValue: precision) else {
        throw UsageError("--precision \(precision) is not known; there are f32, bf16, int8")
      }
      request.precision = known
    }
    if let kv {
      guard let pages = RunRequest.PageFormat(rawValue: kv) else {
        throw UsageError("--kv \(kv) is not known; there are f32, bf16, int8")
      }
      request.pages = pages
    }
  }
}
