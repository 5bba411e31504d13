import ArgumentParser
import Foundation
import Production

struct Run: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make a video (the default).",
    discussion: """
      The video is written while it is made, as NAME.part.mp4, which plays at any moment, and gets its name at the end. \
      Beside it, NAME.json holds everything needed to repeat the run.
      """)

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
    help: "A folder for the latents of each chunk (on disk before their pixels are made), a manifest, and the video.")
  var runDir: String?

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

  @Flag(help: "One JSON object per event on standard output.")
  var json = false

  @Flag(name: [.long, .customShort("q")], help: "Say nothing but warnings and errors.")
  var quiet = false

  @OptionGroup(title: "Model") var model: ModelOptions
  @OptionGroup(title: "Size and length") var size: SizeOptions
  @OptionGroup(title: "Noise levels") var schedule: ScheduleOptions
  @OptionGroup(title: "Memory and attention") var memory: MemoryOptions
  @OptionGroup(title: "Sparsity") var sparsity: SparsityOptions
  @OptionGroup(title: "Computation") var compute: ComputeOptions

  func run() async throws {
    let run = try VideoRun(RunSettings(request()))
    if json, run.output == "-" { throw UsageError("--json and -o - both want standard output; choose another output") }
    let printer = ProgressPrinter(style: json ? .json : quiet ? .quiet : Terminal.isInteractive ? .live : .lines)
    if !quiet, !json { printer.introduce(run) }
    defer { printer.end() }
    try await run.run { printer.show($0) }
  }

  private func request() throws -> RunRequest {
    var request = RunRequest()
    request.prompt = try text()
    request.output = output
    request.runDirectory = runDir
    if seed == "random" || seed == "-1" {
      request.seed = UInt64(UInt32.random(in: 0...UInt32.max))
      if !quiet { Terminal.say("seed \(request.seed)") }
    } else if let number = UInt64(seed) {
      request.seed = number
    } else {
      throw UsageError("--seed \(seed) is neither a whole number from 0 nor random")
    }
    guard let rng = RunRequest.RandomSource(rawValue: rng) else {
      throw UsageError("--rng \(rng) is not known; there are counter, torch")
    }
    (request.rng, request.crf, request.preset) = (rng, crf, preset)
    model.apply(to: &request)
    try size.apply(to: &request)
    try schedule.apply(to: &request)
    try memory.apply(to: &request)
    sparsity.apply(to: &request)
    try compute.apply(to: &request)
    return request
  }

  private func text() throws -> String {
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
