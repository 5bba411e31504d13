import ArgumentParser
import Production

struct Bench: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Time a rollout's operations and each recipe on this machine.",
    discussion: """
      Four parts: clip (whole runs of the program with the flags given, from its start to a playable file, and the time of \
      each chunk's phases), operations (linear layers, attention, passes and decoding at the model's sizes), shipped (each recipe \
      against dense with the model, one pass of the last of 7 chunks: choosing pages, reading them, and the rest) and wan \
      (the same for two blocks of Wan 2.1 1.3B at 832x480 with random weights; minutes). Run it on a quiet machine; compare \
      only figures of one call.
      """)

  enum Part: String, CaseIterable, ExpressibleByArgument, Encodable { case clip, operations, shipped, wan }

  @Argument(help: "Parts to run: clip, operations, shipped, wan (default: all).")
  var parts: [Part] = []

  @Option(parsing: .unconditional, help: "Runs of each figure; the median counts (default: 7, for clip 5, for wan 3).")
  var repeats: Int?

  @Option(help: "Of operations, those to time: linear, passes, decode, separated by commas (default: all).")
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

  private struct Answer: Encodable {
    var clip: ClipBench?
    var operations: OperationBench?
    var shipped: RecipeBench?
    var wan: RecipeBench?
  }

  func run() throws {
    if let repeats, !(1...1000).contains(repeats) {
      throw UsageError("--repeats \(repeats); 1 to 1000 are possible")
    }
    let thresholds = try check.map { try OperationBench.Thresholds(path: $0) }
    let operations = try only.map { list in
      try list.split(separator: ",").map { name in
        guard let part = OperationBench.Part(rawValue: String(name)) else {
          throw UsageError("--only \(name) is not known; there are linear, passes, decode, start")
        }
        return part
      }
    }
    let wanted = parts.isEmpty ? (only == nil && check == nil ? Part.allCases : [.operations]) : parts
    var answer = Answer()
    var missed: [String] = []
    if wanted.contains(.clip) {
      _ = try RunSettings(request())  // What cannot be had is said before anything runs.
      let bench = try ClipBench(clipArguments, repeats: repeats ?? 5)
      answer.clip = bench
      show(bench.text)
    }
    if wanted.contains(.operations) {
      let bench = try OperationBench(
        RunSettings(request()), parts: Set(operations ?? OperationBench.Part.allCases), repeats: repeats ?? 7)
      answer.operations = bench
      show(bench.text)
      missed = thresholds.map(bench.shortfalls) ?? []
    }
    if wanted.contains(.shipped) {
      let bench = try RecipeBench(recipes(), repeats: repeats ?? 7)
      answer.shipped = bench
      show(bench.text)
    }
    if wanted.contains(.wan) {
      let bench = try RecipeBench(wan: recipes(), repeats: repeats ?? 3)
      answer.wan = bench
      show(bench.text)
    }
    if json { print(try Terminal.json(answer, pretty: true)) }
    if !missed.isEmpty { throw RunError(missed.joined(separator: "; ")) }
  }

  /// The flags of this command that a run understands too: all but those of the bench itself.
  private var clipArguments: [String] {
    var arguments = Array(CommandLine.arguments.dropFirst())
    if arguments.first == "bench" { arguments.removeFirst() }
    var (kept, index) = ([String](), 0)
    while index < arguments.count {
      let argument = arguments[index]
      index += 1
      if argument == "--json" || ["--repeats=", "--only=", "--check="].contains(where: argument.hasPrefix) { continue }
      if ["--repeats", "--only", "--check"].contains(argument) {
        index += 1
        continue
      }
      // A value that is called like a part stands behind its flag.
      if Part(rawValue: argument) != nil, kept.last?.hasPrefix("--") != true { continue }
      kept.append(argument)
    }
    return kept
  }

  private func show(_ text: String) { if !json { print(text + "\n") } }

  private func request() throws -> RunRequest {
    var request = RunRequest()
    model.apply(to: &request)
    try size.apply(to: &request)
    try memory.apply(to: &request)
    sparsity.apply(to: &request)
    try compute.apply(to: &request)
    return request
  }

  /// Dense and every recipe, or dense and the one that the flags name.
  private func recipes() throws -> [RunSettings] {
    var plain = RunRequest()
    model.apply(to: &plain)
    try size.apply(to: &plain)
    try compute.apply(to: &plain)
    plain.frames = plain.frames ?? 81
    var asked = try request()
    asked.frames = asked.frames ?? 81
    return try RecipeBench.settings(asked, plain: plain)
  }
}
