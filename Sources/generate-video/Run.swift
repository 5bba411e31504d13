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

  @Flag(help: "One JSON object per event on standard output.")
  var json = false

  @OptionGroup var prompts: PromptOptions
  @OptionGroup var job: JobOptions
  @OptionGroup(title: "Model") var model: ModelOptions
  @OptionGroup(title: "Size and length") var size: SizeOptions
  @OptionGroup(title: "Noise levels") var schedule: ScheduleOptions
  @OptionGroup(title: "Memory and attention") var memory: MemoryOptions
  @OptionGroup(title: "Sparsity") var sparsity: SparsityOptions
  @OptionGroup(title: "Against drift") var drift: DriftOptions
  @OptionGroup(title: "Computation") var compute: ComputeOptions
  @OptionGroup(title: "Inspection") var recording: RecordingOptions

  func run() async throws {
    let run = try VideoRun(RunSettings(request()))
    try await Run.perform(run, json: json, quiet: job.quiet, stopsBetweenChunks: job.runDir != nil || size.forever)
  }

  /// Runs it and shows its events.
  static func perform(_ run: VideoRun, json: Bool, quiet: Bool, stopsBetweenChunks: Bool) async throws {
    if json, run.output == "-" { throw UsageError("--json and -o - both want standard output; choose another output") }
    if stopsBetweenChunks { StopSignals.install() }
    let printer = ProgressPrinter(style: json ? .json : quiet ? .quiet : Terminal.isInteractive ? .live : .lines)
    if !quiet, !json { printer.introduce(run) }
    defer { printer.end() }
    try await run.run(stop: StopSignals.request) { printer.show($0) }
    if let failure = printer.failure { throw failure }
  }

  private func request() throws -> RunRequest {
    var request = RunRequest()
    guard let timeline = try prompts.timeline() else {
      throw UsageError("a prompt is missing; say what the video should show, as in --prompt \"a red ball\"")
    }
    request.timeline = timeline
    (request.image, request.video, request.strength) = (prompts.image, prompts.video, prompts.strength)
    try job.apply(to: &request)
    if job.drawsSeed, !job.quiet { Terminal.say("seed \(request.seed)") }
    model.apply(to: &request)
    try size.apply(to: &request)
    try schedule.apply(to: &request)
    try memory.apply(to: &request)
    sparsity.apply(to: &request)
    drift.apply(to: &request)
    try compute.apply(to: &request)
    try recording.apply(to: &request)
    return request
  }
}
