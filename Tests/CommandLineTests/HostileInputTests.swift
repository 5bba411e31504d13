import Foundation
import Tensors
import Testing

/// What a careless or hostile world does to a run: nothing traps, nothing of the user's is lost, one line says why.
@Suite struct HostileInputTests {
  private static let model = repository + "/weights/default"
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  /// A short run of the shipped model, or of another.
  private func run(_ arguments: [String], model: String = Self.model) throws -> ProgramResult {
    try runProgram(
      "generate-video",
      ["-p", "x", "--model", model, "--size", "32x32", "--num-frames", "9", "--steps", "1"] + arguments,
      in: scratch.path)
  }

  private func expectFailure(
    _ result: ProgramResult, status: Int32, saying text: String, _ location: SourceLocation = #_sourceLocation
  ) {
    let errors = result.error.split(whereSeparator: \.isNewline).filter { $0.hasPrefix("generate-video: ") }
    #expect(result.status == status && errors.count == 1, "\(result)", sourceLocation: location)
    #expect(errors.first?.contains(text) == true, "\(result.error)", sourceLocation: location)
  }

  /// A shell command in which `generate-video` is the program.
  private func shell(_ command: String) throws -> ProgramResult {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/bash")
    process.arguments = ["-c", "generate-video() { '\(programs.path)/generate-video' \"$@\"; }; " + command]
    process.currentDirectoryURL = URL(fileURLWithPath: scratch.path)
    process.environment = ProcessInfo.processInfo.environment.merging(["LONGTAKE_MODEL": Self.model]) { $1 }
    let (output, error) = (Pipe(), Pipe())
    (process.standardOutput, process.standardError) = (output, error)
    try process.run()
    let text = output.fileHandleForReading.readDataToEndOfFile()
    let messages = error.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return ProgramResult(
      status: process.terminationStatus, output: text, error: String(decoding: messages, as: UTF8.self))
  }

  @Test(
    "Numbers at the end of their range are refused",
    arguments: [
      (["--sink", "9223372036854775807"], "--sink"),
      (["--window", "9223372036854775807", "--sink", "9223372036854775806"], "--sink"),
      (["--window", "-9223372036854775808"], "cannot hold"), (["--run-dir", ""], "names no folder"),
    ] as [([String], String)])
  func extremeNumbers(arguments: [String], text: String) throws {
    expectFailure(try run(arguments), status: 2, saying: text)
    #expect(try scratch.names() == [])
  }

  @Test("Plan takes the command line of a run as it stands, and refuses what the run would refuse")
  func planTakesTheFlagsOfRun() throws {
    let flags = ["-p", "x", "-o", "a.mp4", "--run-dir", "r", "--rng", "torch", "--crf", "20", "-q", "--size", "32x32"]
    let plan = ["plan", "--model", Self.model] + flags
    #expect(try runProgram("generate-video", plan + ["--seed", "7", "--json"], in: scratch.path).status == 0)
    expectFailure(
      try runProgram("generate-video", plan + ["--seed", "x"], in: scratch.path), status: 2, saying: "--seed x")
    #expect(try scratch.names() == [])
  }

  @Test("A run that needs more memory than the machine has says so before it takes any")
  func tooMuchMemory() throws {
    let result = try runProgram(
      "generate-video",
      ["-p", "x", "--model", Self.model, "--size", "4096x4096", "--num-frames", "400001", "--window", "all"],
      in: scratch.path)
    expectFailure(result, status: 1, saying: "choose a smaller")
  }

  @Test(
    "What longtake.json may not say is told by the file's name and the key",
    arguments: [
      ("\"height\": 161", "height"), ("\"width\": 99999", "width"), ("\"fps\": 5000", "fps"),
      ("\"chunk_frames\": 5000", "chunk_frames"), ("\"window_frames\": 1", "window of 1"),
      ("\"sink_frames\": 9223372036854775807", "sink"), ("\"steps\": [500, 1000]", "falling"),
      ("\"shift\": -1", "shift"), ("\"context_noise\": 5000", "context_noise"), ("\"rope\": \"yarn\"", "rope"),
      ("\"recipes\": [21]", "'recipes'"), ("\"recipes\": {\"lvsa\": {\"sink_frames\": \"all\"}}", "'lvsa'"),
      (
        "\"recipes\": {\"light-forcing\": {\"window_frames\": 5, \"sink_frames\": 3}}", "'light-forcing': a window of 5"
      ),
    ])
  func settingsOutOfRange(entry: String, text: String) throws {
    let folder = scratch.file("model")
    try FileManager.default.copyItem(atPath: Self.model, toPath: folder)
    try Data("{\(entry)}".utf8).write(to: URL(fileURLWithPath: folder + "/longtake.json"))
    let result = try run([], model: folder)
    expectFailure(result, status: 1, saying: "longtake.json: ")
    #expect(result.error.contains(text), "\(result.error)")
  }

  @Test("A recipe has the memory that the model says for it, others the model's own; a name that is none is told")
  func memoryOfARecipe() throws {
    let folder = scratch.file("model")
    try FileManager.default.copyItem(atPath: Self.model, toPath: folder)
    func plan(_ recipes: String, _ flags: [String]) throws -> (status: Int32, text: String) {
      try Data("{\"window_frames\": 9, \"recipes\": \(recipes)}".utf8).write(
        to: URL(fileURLWithPath: folder + "/longtake.json"))
      let result = try runProgram(
        "generate-video", ["plan", "--model", folder, "--size", "64x64"] + flags, in: scratch.path)
      return (result.status, result.text + result.error)
    }
    let memory = #"{"light-forcing": {"window_frames": 15, "sink_frames": 3}}"#
    for (flags, words) in [
      (["--sparsity", "light-forcing"], "window of 15 frames, sink 3"), ([], "window of 9 frames"),
      (["--sparsity", "light-forcing", "--window", "12", "--sink", "0"], "window of 12 frames"),
    ] {
      let answer = try plan(memory, flags)
      #expect(answer.status == 0 && answer.text.contains(words), "\(flags): \(answer.text)")
    }
    let wrong = try plan(#"{"light_forcing": {"window_frames": 15}}"#, [])
    #expect(wrong.status == 2 && wrong.text.contains("'light_forcing'; there are"), "\(wrong.text)")
  }

  /// The shipped model with every tensor of its decoder replaced.
  private func modelWithDecoder(_ change: (Tensor) -> Tensor) throws -> String {
    let folder = scratch.file("model")
    try FileManager.default.copyItem(atPath: Self.model, toPath: folder)
    let archive = try TensorArchive(path: folder + "/tiny_vae")
    let path = archive.paths[0]
    let tensors = try archive.names.map { ($0, change(try archive.tensor($0))) }
    try FileManager.default.removeItem(atPath: path)
    try SafetensorsWriter.write(tensors, to: path)
    return folder
  }

  @Test("A decoder that gives NaN stops the run instead of painting it white")
  func decoderGivesNaN() throws {
    let folder = try modelWithDecoder { Tensor([Float](repeating: .nan, count: $0.count), shape: $0.shape) }
    expectFailure(try run(["-o", "a.mp4"], model: folder), status: 1, saying: "the decoder gave NaN")
    #expect(!scratch.exists("a.mp4"))
  }

  @Test("Weights that are integers are refused by name")
  func integerWeights() throws {
    let folder = try modelWithDecoder { Tensor([Int32](repeating: 1, count: $0.count), shape: $0.shape) }
    expectFailure(try run([], model: folder), status: 1, saying: "found i32, wanted f32")
  }

  @Test("A pipe whose reader has gone ends the run with one line")
  func closedPipe() throws {
    let result = try shell(
      "generate-video -p x --size 64x64 --num-frames 81 --steps 1 -o - | head -c 1000 >/dev/null; exit ${PIPESTATUS[0]}"
    )
    expectFailure(result, status: 1, saying: "the reading program has ended")
  }

  @Test("Events that cannot be printed make the run fail, and the video is there")
  func fullEventLog() throws {
    let result = try shell("generate-video -p x --size 32x32 --num-frames 9 --steps 1 --json -o a.mp4 >/dev/full")
    expectFailure(result, status: 1, saying: "no space left")
    #expect(scratch.exists("a.mp4"))
  }

  @Test("Closed standard descriptors do not get into the video")
  func closedDescriptors() throws {
    let result = try shell(
      """
      run='-p x --size 32x32 --num-frames 9 --steps 1'
      generate-video $run -o a.mp4 2>/dev/null && generate-video $run -o b.mp4 <&- >&- 2>&- && cmp a.mp4 b.mp4
      """)
    #expect(result.status == 0, "\(result)")
  }

  @Test("A run directory in use, or a run that cannot start, keeps the latents that are there")
  func earlierLatentsStay() throws {
    #expect(try run(["--run-dir", "run"]).status == 0)
    let before = try scratch.names("run/chunks")
    expectFailure(try run(["--run-dir", "run", "-o", "missing/a.mp4"]), status: 1, saying: "does not exist")
    #expect(try scratch.names("run/chunks") == before)
    #expect(scratch.exists("run/manifest.json"))

    let lock = open(scratch.file("run/video.part.mp4"), O_WRONLY | O_CREAT, 0o666)
    defer { close(lock) }
    #expect(flock(lock, LOCK_EX | LOCK_NB) == 0)
    expectFailure(try run(["--run-dir", "run"]), status: 1, saying: "another process is writing it")
    #expect(try scratch.names("run/chunks") == before)
  }

  @Test("The record of a run replaces the record of an earlier run and nothing else")
  func sidecarInTheWay() throws {
    #expect(try run(["-o", "a.mp4"]).status == 0)
    #expect(try run(["-o", "a.mp4"]).status == 0)
    let notes = Data("{\"mine\": 1}".utf8)
    try notes.write(to: URL(fileURLWithPath: scratch.file("b.json")))
    expectFailure(try run(["-o", "b.mp4"]), status: 1, saying: "b.json is in the way")
    #expect(FileManager.default.contents(atPath: scratch.file("b.json")) == notes)
    #expect(!scratch.exists("b.mp4"))
  }
}
