import ArgumentParser
import Foundation
import Production

struct Plan: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Say what a run would do: chunks, memory, operations, time. Reads no weights.",
    discussion:
      "Takes the flags of run, so that its command line can be asked about as it stands; needs no prompt. With --json, one object whose keys docs/formats.md describes."
  )

  @Flag(help: "One JSON object on standard output.")
  var json = false

  @Flag(help: "With --json: which latent frames each latent frame reads at each step.")
  var detail = false

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

  func run() throws {
    var request = RunRequest()
    if let timeline = try prompts.timeline() { request.timeline = timeline }
    (request.image, request.video, request.strength) = (prompts.image, prompts.video, prompts.strength)
    try job.apply(to: &request)
    model.apply(to: &request)
    try size.apply(to: &request)
    try schedule.apply(to: &request)
    try memory.apply(to: &request)
    sparsity.apply(to: &request)
    drift.apply(to: &request)
    try compute.apply(to: &request)
    try recording.apply(to: &request)
    let settings = try RunSettings(request)
    let plan = try RunPlan(settings, detail: detail)
    if json {
      print(try Terminal.json(plan, pretty: true))
    } else {
      print(plan.text)
      for note in settings.notes { print(note) }
    }
  }
}
