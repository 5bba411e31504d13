import ArgumentParser
import Foundation
import Production

/// What to show, and where it goes.
struct JobOptions: ParsableArguments {
  @Argument(help: "The prompt; the same as --prompt.")
  var words: [String] = []

  @Option(name: [.long, .customShort("p")], help: "What the video shows.")
  var prompt: String?

  @Option(help: "A file that holds the prompt.")
  var promptFile: String?

  @Option(
    name: [.long, .customShort("o"), .customLong("save-file"), .customLong("output-path")],
    help: "NAME.mp4, NAME.y4m, folder/%05d.png, or - for mp4 on standard output (default: video.mp4).")
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
  var preset = "medium"

  @Flag(name: [.long, .customShort("q")], help: "Say nothing but warnings and errors.")
  var quiet = false

  /// Whether the seed is to be drawn.
  var drawsSeed: Bool { seed == "random" || seed == "-1" }

  /// Everything but the prompt, which `plan` can do without.
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

  /// The one prompt that was given.
  func text() throws -> String {
    let given = [prompt != nil, promptFile != nil, !words.isEmpty].count { $0 }
    guard given <= 1 else { throw UsageError("give one prompt: --prompt, --prompt-file, or the words themselves") }
    if let promptFile {
      do { return try String(contentsOfFile: promptFile, encoding: .utf8) } catch {
        throw UsageError("--prompt-file \(promptFile) cannot be read as UTF-8 text")
      }
    }
    guard given == 1 else {
      throw UsageError("a prompt is missing; say what the video should show, as in --prompt \"a red ball\"")
    }
    return prompt ?? words.joined(separator: " ")
  }
}
