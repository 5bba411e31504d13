import ArgumentParser
import Production

struct Bench: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Time the operations of a rollout on this machine, at the model's sizes.",
    discussion: "Run it on a quiet machine; compare only figures of one call.")

  @Option(parsing: .unconditional, help: "Runs of each figure; the median counts (default: 7).")
  var repeats: Int?

  @Option(help: "Operations to time, of linear, passes, decode, separated by commas (default: all).")
  var only: String?

  @Option(
    help: "A JSON file of shares of the machine's peak that operations must reach; exit status 1 if one does not.")
  var check: String?

  @Flag(help: "One JSON object on standard output.")
  var json = false

  @OptionGroup(title: "Model") var model: ModelOptions
  @OptionGroup(title: "Size and length") var size: SizeOptions
  @OptionGroup(title: "Memory and attention") var memory: MemoryOptions
  @OptionGroup(title: "Sparsity") var sparsity: SparsityOptions
  @OptionGroup(title: "Computation") var compute: ComputeOptions

  func run() throws {
    if let repeats, !(1...1000).contains(repeats) {
      throw UsageError("--repeats \(repeats); 1 to 1000 are possible")
    }
    let thresholds = try check.map { try OperationBench.Thresholds(path: $0) }
    let parts = try only.map { list in
      try list.split(separator: ",").map { name in
        guard let part = OperationBench.Part(rawValue: String(name)) else {
          throw UsageError("--only \(name) is not known; there are linear, passes, decode")
        }
        return part
      }
    }
    var request = RunRequest()
    model.apply(to: &request)
    try size.apply(to: &request)
    try memory.apply(to: &request)
    sparsity.apply(to: &request)
    try compute.apply(to: &request)
    let bench = try OperationBench(
      RunSettings(request), parts: Set(parts ?? OperationBench.Part.allCases), repeats: repeats ?? 7)
    print(json ? try Terminal.json(bench, pretty: true) : bench.text)
    if let missed = thresholds.map(bench.shortfalls), !missed.isEmpty {
      throw RunError(missed.joined(separator: "; "))
    }
  }
}
