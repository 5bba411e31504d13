import ArgumentParser
import Foundation
import Production

/// Where the video goes, its seed and its encoding.
struct JobOptions: ParsableArguments {
  @Option(
    name: [.long, .customShort("o"), .customLong("save-file"), .customLong("output-path")],
    help:
      "NAME.mp4, folder/live.m3u8 (HLS that players follow), NAME.y4m, folder/%05d.png, or - for mp4 on standard output (default: video.mp4)."
  )
  var output: String?

  @Option(
    help: """
      A folder for the video, the latents of each chunk (on disk before their pixels are made), events, a preview, and the \
      state from which generate-video resume goes on.
      """)
  var runDir: String?

  @Option(
    parsing: .unconditional, help: "With --run-dir: save the state after every so many chunks, and when stopped.")
  var checkpointEvery = 1

  @Option(
    name: [.long, .customShort("s"), .customLong("base-seed")], parsing: .unconditional,
    help: "Same seed, same video; -1 or random draws one.")
  var seed = "0"

  @Option(
    help:
      "Noise: counter (Philox, keyed by seed, chunk and step) or torch (torch.randn on the CPU, in Self-Forcing's order)."
  )
  var rng = "counter"

  @Option(parsing: .unconditional, help: "Constant rate factor of x264: less is better and larger.")
  var crf = 18.0

  @Option(help: "Preset of x264, ultrafast to veryslow.")
  var preset = "veryfast"

  @Flag(name: [.long, .customShort("q")], help: "Say nothing but warnings and errors.")
  var quiet = false

  /// Whether the seed is to be drawn.
  var drawsSeed: Bool { seed == "random" || seed == "-1" }

  func apply(to request: inout RunRequest) throws {
    request.output = output
    request.runDirectory = runDir
    request.checkpointEvery = checkpointEvery
    if drawsSeed {
      request.seed = UInt64(UInt32.random(in: 0...UInt32.max))
    } else if let number = UInt64(seed) {
      request.seed = number
    } else {
      throw UsageError("--seed \(seed) is neither a whole number from 0 nor random")
    }
    guard let rng = RunRequest.RandomSource(rawValue: rng) else {
      throw UsageError("--rng \(rng) is not known; there are counter, torch")
    }
    (request.rng, request.crf, request.preset) = (rng, crf, preset)
  }
}
