import ArgumentParser
import Production

struct Bench: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Time the operations of a rollout on this machine, at the model's sizes.",
    discussion: "Run it on a quiet machine; compare only figures of one call.")

  @Flag(help: "One JSON object on standard output.")
  var json = false

  @OptionGroup(title: "Model") var model: ModelOptions
  @OptionGroup(title: "Size and length") var size: SizeOptions
  @OptionGroup(title: "Memory and attention") var memory: MemoryOptions
  @OptionGroup(title: "Sparsity") var sparsity: SparsityOptions
  @OptionGroup(title: "Computation") var compute: ComputeOptions

  func run() throws {
    var request = RunRequest()
    model.apply(to: &request)
    try size.apply(to: &request)
    try memory.apply(to: &request)
    sparsity.apply(to: &request)
    try compute.apply(to: &request)
    let bench = try OperationBench(RunSettings(request))
    print(json ? try Terminal.json(bench, pretty: true) : bench.text)
  }
}
