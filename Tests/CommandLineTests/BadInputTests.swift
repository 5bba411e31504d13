import Foundation
import Tensors
import Testing

/// Every wrong input is one line on standard error that says what to do, with the right exit status and nothing left.
@Suite struct BadInputTests {
  private static let model = repository + "/weights/default"

  private func expectFailure(
    _ arguments: [String], status: Int32, saying text: String, in scratch: Scratch, leaving: [String] = []
  ) throws {
    let before = try scratch.names()
    let result = try runProgram("generate-video", arguments, in: scratch.path)
    #expect(result.status == status, "\(arguments): \(result)")
    #expect(result.text == "", "\(arguments)")
    let lines = result.error.split(whereSeparator: \.isNewline)
    #expect(lines.last?.hasPrefix("generate-video: ") == true && lines.last?.contains(text) == true, "\(result.error)")
    #expect(lines.count { $0.hasPrefix("generate-video: ") } == 1, "\(result.error)")
    #expect(try scratch.names() == (before + leaving).sorted(), "\(arguments) left something")
  }

  @Test(
    "Wrong usage is known before any work",
    arguments: [
      ([], "a prompt is missing"), (["--prompt", "  \n "], "the prompt is empty"),
      (["-p", "x", "y"], "give one prompt"), (["-p", "x", "--bogus"], "--bogus"),
      (["-p", "x", "--height", "161"], "the nearest are 160 or 176"),
      (["-p", "x", "--width", "8"], "the nearest are 16"),
      (["-p", "x", "--height", "-16"], "must be above 0"), (["-p", "x", "--height", "999999984"], "more than 16384"),
      (["-p", "x", "--size", "12by9"], "WIDTHxHEIGHT"),
      (["-p", "x", "--num-frames", "80"], "the nearest are 77 and 81"),
      (["-p", "x", "--num-frames", "0"], "--num-frames 0"),
      (["-p", "x", "--num-frames", "-3"], "--num-frames -3"),
      (["-p", "x", "--num-frames", "9223372036854775807"], "possible"),
      (["-p", "x", "--seconds", "0"], "must be above 0"), (["-p", "x", "--seconds", "nan"], "must be above 0"),
      (["-p", "x", "--seconds", "1e18"], "more than"),
      (["-p", "x", "--seconds", "2", "--num-frames", "9"], "not both"),
      (["-p", "x", "--fps", "0"], "--fps"), (["-p", "x", "--steps", "0"], "1 to 1000"),
      (["-p", "x", "--steps", "4", "--timesteps", "1000"], "not both"),
      (["-p", "x", "--timesteps", "500,750"], "must fall"),
      (["-p", "x", "--timesteps", "1000,,5"], "list of numbers"), (["-p", "x", "--flow-shift", "0"], "flow shift"),
      (["-p", "x", "--window", "2"], "cannot hold a chunk of 3"),
      (["-p", "x", "--window", "lots"], "neither a number"),
      (["-p", "x", "--sink", "20"], "the least is 23"), (["-p", "x", "--sink", "-1"], "must not be negative"),
      (["-p", "x", "--sparsity", "magic"], "there are dense, self-forcing"),
      (["-p", "x", "--memory", "ram"], "there are"),
      (["-p", "x", "--rope", "yarn"], "absolute, window"), (["-p", "x", "--tile", "7x7"], "a tile of 5x8 fits"),
      (["-p", "x", "--tile", "banana"], "RxC"), (["-p", "x", "--chunk-frames", "0"], "--chunk-frames 0"),
      (["-p", "x", "--threads", "0"], "--threads 0"),
      (["-p", "x", "--precision", "fp4"], "there are f32"), (["-p", "x", "--rng", "dice"], "there are counter, torch"),
      (["-p", "x", "--seed", "-5"], "neither a whole number"), (["-p", "x", "-o", "film.avi"], "no known format"),
      (["-p", "x", "--crf", "99"], "crf"), (["-p", "x", "--preset", "warp"], "preset"),
      (["-p", "x", "--json", "-o", "-"], "both want standard output"),
      (["-p", "x", "--forever", "--seconds", "3"], "--forever has no length"),
      (["-p", "x", "--forever", "--sparsity", "dense"], "needs a length"),
      (["-p", "x", "--forever", "--sparsity", "lvsa"], "reservoir for anchors"),
      (["-p", "x", "--mode", "clip", "--select", "topk"], "dense or lvsa; --select topk needs --mode chunks"),
      (["-p", "x", "--mode", "clip", "--sparsity", "longtake"], "dense or lvsa; longtake needs --mode chunks"),
      (["-p", "x", "--forever", "--mode", "clip"], "--forever needs --mode chunks"),
      (["-p", "x", "--forever", "--rng", "torch"], "--forever needs --rng counter"),
      (["-p", "x", "--context-noise", "1000"], "--context-noise 1000"),
      (["-p", "x", "--context-noise", "9", "--rng", "torch"], "--context-noise needs"),
      (["-p", "x", "--latent-clamp", "-1"], "--latent-clamp -1"),
      (["-p", "x", "--latent-clamp", "1", "--mode", "clip"], "--latent-clamp need --mode chunks"),
      (["-p", "x", "--run-dir", "r", "--checkpoint-every", "0"], "--checkpoint-every 0"),
      (["--prompt-file", "nowhere.txt"], "cannot be read"),
      (["plan", "--num-frames", "6"], "the nearest are 5 and 9"), (["plan", "--frobnicate"], "--frobnicate"),
    ] as [([String], String)])
  func wrongUsageIsKnownBeforeAnyWork(arguments: [String], text: String) throws {
    let scratch = try Scratch()
    let model =
      arguments.first == "plan"
      ? ["plan", "--model", Self.model] + arguments.dropFirst() : ["--model", Self.model] + arguments
    try expectFailure(model, status: 2, saying: text, in: scratch)
  }

  @Test("An unknown model folder says how to get one") func anUnknownModelFolderSaysHowTo() throws {
    try expectFailure(
      ["-p", "x", "--model", "nowhere"], status: 1, saying: "no such model folder", in: Scratch())
    try expectFailure(["info", "nowhere"], status: 1, saying: "no such model folder", in: Scratch())
  }

  @Test("An output that cannot be written is known before the weights are read") func anOutputThatCannotBeWrittenIs()
    throws
  {
    let scratch = try Scratch()
    let run = ["-p", "x", "--model", Self.model, "--num-frames", "9", "--steps", "1"]
    try expectFailure(run + ["-o", "missing/a.mp4"], status: 1, saying: "does not exist", in: scratch)
    try Data().write(to: URL(fileURLWithPath: scratch.file("taken")))
    try expectFailure(run + ["--run-dir", "taken"], status: 1, saying: "cannot be made", in: scratch)
  }

  @Test("A full disk stops the run with one line") func aFullDiskStopsTheRunWith() throws {
    let scratch = try Scratch()
    try FileManager.default.createSymbolicLink(atPath: scratch.file("a.part.mp4"), withDestinationPath: "/dev/full")
    try expectFailure(
      ["-p", "x", "--model", Self.model, "--num-frames", "9", "--steps", "1", "-o", "a.mp4"], status: 1,
      saying: "no space left", in: scratch)
  }

  /// A copy of the shipped model whose parts are links, but for those that a test damages.
  private func damagedModel(_ scratch: Scratch, _ damage: (String) throws -> Void) throws -> String {
    let folder = scratch.file("model")
    try FileManager.default.copyItem(atPath: Self.model, toPath: folder)
    try damage(folder)
    return folder
  }

  @Test(
    "Damaged files are named and nothing is left under the final name",
    arguments: [
      ("truncated", "tiny_vae/diffusion_pytorch_model.safetensors"),
      ("garbage", "tiny_vae/diffusion_pytorch_model.safetensors"),
      ("misshapen", "text_encoder/model.safetensors"), ("json", "transformer/config.json"), ("json", "longtake.json"),
      ("json", "tokenizer/tokenizer.json"),
      ("missing", "transformer/diffusion_pytorch_model-00002-of-00003.safetensors"),
    ])
  func damagedFilesAreNamedAndNothingIs(kind: String, file: String) throws {
    let scratch = try Scratch()
    let model = try damagedModel(scratch) { folder in
      let url = URL(fileURLWithPath: folder + "/" + file)
      switch kind {
      case "truncated": try Data(contentsOf: url).dropLast(1000).write(to: url)
      case "garbage": try Data((0..<5000).map { UInt8(truncatingIfNeeded: $0 &* 37) }).write(to: url)
      case "json": try Data("{ \"a\": ".utf8).write(to: url)
      case "missing": try FileManager.default.removeItem(at: url)
      default:
        let archive = try TensorArchive(path: url.path)
        var tensors = try archive.names.map { ($0, try archive.tensor($0)) }
        tensors[3].1 = Tensor([Float](repeating: 0, count: 6), shape: [2, 3])
        try SafetensorsWriter.write(tensors, metadata: [:], to: url.path + ".new")
        try FileManager.default.removeItem(at: url)
        try FileManager.default.moveItem(atPath: url.path + ".new", toPath: url.path)
      }
    }
    let result = try runProgram(
      "generate-video", ["-p", "x", "--model", model, "--num-frames", "9", "--steps", "1", "-o", "a.mp4"],
      in: scratch.path)
    let lines = result.error.split(whereSeparator: \.isNewline)
    let name = file.split(separator: "/").last.map(String.init) ?? file
    #expect(result.status == 1, "\(result)")
    #expect(lines.last?.hasPrefix("generate-video: ") == true && lines.last?.contains(name) == true, "\(result.error)")
    if kind == "misshapen" { #expect(result.error.contains("[2, 3]"), "\(result.error)") }
    #expect(!scratch.exists("a.mp4"))
  }

  @Test("Weights that give NaN stop the run and keep the final name free") func weightsThatGiveNaNStopTheRun() throws {
    let scratch = try Scratch()
    let model = try damagedModel(scratch) { folder in
      // The last shard holds the head; all of it becomes NaN.
      let archive = try TensorArchive(path: folder + "/transformer")
      for path in archive.paths where path.hasSuffix("00003-of-00003.safetensors") {
        let shard = try TensorArchive(path: path)
        let tensors = try shard.names.map { name in
          let shape = shard.shape(of: name) ?? []
          let nan = Tensor([Float](repeating: .nan, count: shape.reduce(1, *)), shape: shape)
          return (name, try shard.tensor(name).dtype == .bf16 ? nan.converted(to: .bf16) : nan)
        }
        try SafetensorsWriter.write(tensors, metadata: [:], to: path + ".new")
        try FileManager.default.removeItem(atPath: path)
        try FileManager.default.moveItem(atPath: path + ".new", toPath: path)
      }
    }
    let result = try runProgram(
      "generate-video", ["-p", "x", "--model", model, "--num-frames", "9", "--steps", "1", "-o", "a.mp4"],
      in: scratch.path)
    #expect(result.status == 1 && result.error.contains("NaN"), "\(result)")
    #expect(!scratch.exists("a.mp4"))
  }

  @Test("A prompt over the token limit runs, and says what was cut") func aPromptOverTheTokenLimitRuns() throws {
    let scratch = try Scratch()
    let long = Array(repeating: "purple hills", count: 400).joined(separator: " ")
    let result = try runProgram(
      "generate-video", ["-p", long, "--model", Self.model, "--num-frames", "1", "--steps", "1", "-o", "a.mp4"],
      in: scratch.path)
    #expect(
      result.status == 0 && result.error.contains("warning: the prompt has more than 512 tokens"), "\(result.error)")
  }
}
