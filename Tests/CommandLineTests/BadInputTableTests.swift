import Foundation
import Testing

/// One table of what people do wrong. Each row: a single line on standard error that names what is meant, the right exit
/// status, nothing on standard output, and every file as it was.
@Suite struct BadInputTableTests {
  /// A case of the table.
  struct Row: Sendable, CustomTestStringConvertible {
    let arguments: [String]
    let status: Int32
    /// What the line must say: the field, and what is wrong with it.
    let words: [String]
    let prepare: @Sendable (Scratch) throws -> Void
    var testDescription: String { arguments.joined(separator: " ") + " says " + words.joined(separator: ", ") }

    init(
      _ arguments: [String], _ status: Int32, _ words: String...,
      prepare: @escaping @Sendable (Scratch) throws -> Void = { _ in }
    ) {
      (self.arguments, self.status, self.words, self.prepare) = (arguments, status, words, prepare)
    }
  }

  private static let model = repository + "/weights/default"
  private static let clip = repository + "/samples/red_star.mp4"

  /// Text into a file of the scratch folder.
  private static func file(_ name: String, _ text: String) -> @Sendable (Scratch) throws -> Void {
    { try Data(text.utf8).write(to: URL(fileURLWithPath: $0.file(name))) }
  }

  /// The first bytes of a picture.
  private static func half(_ name: String) -> @Sendable (Scratch) throws -> Void {
    { scratch in
      let whole = try Data(contentsOf: URL(fileURLWithPath: repository + "/samples/contact_sheet.png"))
      try whole.prefix(3000).write(to: URL(fileURLWithPath: scratch.file(name)))
    }
  }

  /// A wave file without a sample.
  private static func sound(_ name: String) -> @Sendable (Scratch) throws -> Void {
    { scratch in
      let header: [UInt8] = [16, 0, 0, 0, 1, 0, 1, 0, 0x40, 0x1f, 0, 0, 0x80, 0x3e, 0, 0, 2, 0, 16, 0]
      let bytes = Data("RIFF".utf8) + Data([36, 0, 0, 0]) + Data("WAVEfmt ".utf8) + Data(header) + Data("data".utf8)
      try (bytes + Data([0, 0, 0, 0])).write(to: URL(fileURLWithPath: scratch.file(name)))
    }
  }

  /// A run of two chunks in `r`, made once; then something happens to it.
  private static let made: Scratch? = try? {
    let scratch = try Scratch()
    let result = try runProgram(
      "generate-video",
      ["-p", "x", "--model", model, "--size", "32x32", "--seconds", "2", "--steps", "1", "-q", "--run-dir", "r"],
      in: scratch.path)
    atexit { try? BadInputTableTests.made.map { try FileManager.default.removeItem(atPath: $0.path) } }
    return result.status == 0 ? scratch : nil
  }()

  private static func run(_ damage: @escaping @Sendable (Scratch) throws -> Void) -> @Sendable (Scratch) throws -> Void
  {
    { scratch in
      let made = try #require(made)
      try FileManager.default.copyItem(atPath: made.file("r"), toPath: scratch.file("r"))
      try damage(scratch)
    }
  }

  /// A run in one of whose files a text is replaced.
  private static func run(_ name: String, _ old: String, _ new: String) -> @Sendable (Scratch) throws -> Void {
    run { scratch in
      let text = try String(contentsOfFile: scratch.file(name), encoding: .utf8)
      try #require(text.contains(old))
      try Data(text.replacingOccurrences(of: old, with: new).utf8).write(to: URL(fileURLWithPath: scratch.file(name)))
    }
  }

  /// A run that lacks a file.
  private static func run(without name: String) -> @Sendable (Scratch) throws -> Void {
    run { try FileManager.default.removeItem(atPath: $0.file(name)) }
  }

  /// A run one of whose files was cut.
  private static func run(cutting name: String, to length: UInt64) -> @Sendable (Scratch) throws -> Void {
    run { scratch in
      let handle = try #require(FileHandle(forWritingAtPath: scratch.file(name)))
      try handle.truncate(atOffset: length)
    }
  }

  private static let grammar: [Row] = [
    Row(["-p", "a[5s | b"], 2, "prompt, character 5", "no duration"),
    Row(["-p", "a[0s] | b"], 2, "\"[0s]\" is no duration"), Row(["-p", "a[xs] | b"], 2, "\"[xs]\" is no duration"),
    Row(["-p", "a[5s] | b[-2s]"], 2, "character 10", "\"[-2s]\""), Row(["-p", "a[5s] |"], 2, "segment 2 is empty"),
    Row(["-p", ""], 2, "the prompt is empty"), Row([], 2, "a prompt is missing"),
    Row(["-p", "a", "--prompt-file", "b"], 2, "give one prompt"),
    Row(["--prompt-file", "none.txt"], 2, "--prompt-file none.txt"),
  ]

  private static let times: [Row] = [
    Row(["-p", "a", "-p", "b"], 2, "2 prompts and 0 times", "--at"),
    Row(["-p", "a", "-p", "b", "-p", "c", "--at", "5", "--at", "3"], 2, "prompt 3 begins at 3.0 s", "times must rise"),
    Row(["-p", "a", "-p", "b", "--at", "-1"], 2, "prompt 2 begins at -1.0 s"),
    Row(["-p", "a", "-p", "b", "--at", "nan"], 2, "prompt 2 begins at nan s"),
    Row(["-p", "a", "-p", "b", "--at", "50", "--seconds", "5"], 2, "prompt 2 begins at 50 s", "ends before"),
    Row(["-p", "a", "-p", "b", "--at", "3", "--on-switch", "never"], 2, "--on-switch never", "recache, flush, keep"),
    Row(["-p", "a", "-p", "b", "--at", "3", "--blend", "-1"], 2, "--blend -1"),
    Row(["-p", "a", "-p", "b", "--at", "3", "--blend-mode", "cubic"], 2, "--blend-mode cubic"),
    Row(
      ["-p", "a", "-p", "b", "-p", "c", "--at", "3", "--at", "4", "--blend", "9"], 2, "prompt 2 blends over 9 chunks"),
  ]

  private static let storyboards: [Row] = [
    Row(["--storyboard", "none.yaml"], 2, "--storyboard none.yaml cannot be read"),
    Row(["--storyboard", "s.yaml"], 2, "s.yaml: it is no YAML", prepare: file("s.yaml", "prompts: [a, {")),
    Row(["--storyboard", "s.json"], 2, "s.json: it is no JSON", prepare: file("s.json", "{\"prompts\": [\"a\",")),
    Row(["--storyboard", "s.yaml"], 2, "'prompts' is missing", prepare: file("s.yaml", "prompts: []")),
    Row(
      ["--storyboard", "s.yaml"], 2, "prompt 1 has the unknown key 'colour'",
      prepare: file("s.yaml", "prompts:\n - {text: a, colour: red}")),
    Row(
      ["--storyboard", "s.yaml"], 2, "prompt 3 begins at 3.0 s", "times must rise",
      prepare: file("s.yaml", "prompts:\n - a\n - {text: b, at: 5}\n - {text: c, at: 3}")),
    Row(
      ["--storyboard", "s.yaml"], 2, "prompt 1: 'weight' is 2.0",
      prepare: file("s.yaml", "prompts:\n - {text: a, weight: 2}")),
  ]

  private static let inputs: [Row] = [
    Row(["-p", "x", "--image", "none.png"], 1, "--image", "none.png", "no such file"),
    Row(["-p", "x", "--image", "t.png"], 1, "--image", "t.png", "no picture", prepare: file("t.png", "hello")),
    Row(["-p", "x", "--image", "t.txt"], 1, "--image", "t.txt", "no picture", prepare: file("t.txt", "hello\nyou\n")),
    Row(["-p", "x", "--image", "half.png"], 1, "--image", "half.png", "no picture", prepare: half("half.png")),
    Row(["-p", "x", "--image", "."], 1, "--image", "a folder, not a picture"),
    Row(
      ["-p", "x", "--image", "t.ppm"], 1, "--image", "4x4 pixels are too few",
      prepare: file("t.ppm", "P6 4 4 255\n" + String(repeating: "\0", count: 48))),
    Row(["-p", "x", "--video", "none.mp4"], 1, "--video", "none.mp4", "no such file"),
    Row(["-p", "x", "--video", "t.mp4"], 1, "--video", "t.mp4", "no video", prepare: file("t.mp4", "hello")),
    Row(["-p", "x", "--video", "e.mp4"], 1, "--video", "e.mp4", "empty", prepare: file("e.mp4", "")),
    Row(["-p", "x", "--video", "s.wav"], 1, "--video", "s.wav", "no video", prepare: sound("s.wav")),
    Row(["-p", "x", "--video", clip, "--seconds", "1"], 2, "--seconds", "17 frames are not more than"),
    Row(["-p", "x", "--image", "a", "--video", "b"], 2, "give --image or --video"),
    Row(["-p", "x", "--strength", "0.5"], 2, "--strength 0.5 without"),
    Row(["-p", "x", "--video", clip, "--strength", "nan"], 2, "--strength nan"),
  ]

  private static let sizes: [Row] = [
    Row(["-p", "x", "--height", "161"], 2, "--height 161", "160 or 176"),
    Row(["-p", "x", "--width", "8"], 2, "--width 8"), Row(["-p", "x", "--size", "12by9"], 2, "--size 12by9"),
    Row(["-p", "x", "--num-frames", "80"], 2, "--num-frames 80", "77 and 81"),
    Row(["-p", "x", "--seconds", "-1"], 2, "--seconds -1.0"), Row(["-p", "x", "--fps", "0"], 2, "--fps"),
    Row(["-p", "x", "--forever", "--seconds", "3"], 2, "--forever has no length"),
    Row(["-p", "x", "--keep", "5"], 2, "--keep belongs to --forever"),
    Row(["-p", "x", "--forever", "--keep", "0"], 2, "--keep 0"),
    Row(["-p", "x", "--forever", "--keep", "few"], 2, "--keep few"),
    Row(["-p", "x", "--forever", "--keep", "5", "--checkpoint-every", "9"], 2, "--keep 5", "the least is 10"),
    Row(["-p", "x", "--threads", "0"], 2, "--threads 0"),
    Row(["-p", "x", "--sparsity", "magic"], 2, "--sparsity magic"),
    Row(["-p", "x", "-o", "film.avi"], 2, "film.avi", "no known format"),
    Row(["-p", "x", "-o", "missing/a.mp4"], 1, "missing/a.part.mp4", "does not exist"),
    Row(["-p", "x", "--run-dir", ""], 2, "--run-dir ''"),
    Row(["-p", "x", "--run-dir", "mine.mp4"], 1, "run directory mine.mp4 cannot be made"),
    Row(["-p", "x", "--model", "nowhere"], 1, "nowhere", "no such model folder"),
    Row(
      ["-p", "x", "-o", "a.mp4", "--checkpoint", "c.safetensors"], 1, "c.safetensors", "5 bytes",
      prepare: file("c.safetensors", "hello")),
  ]

  private static let more = ["resume", "r", "--until", "5"]
  private static let resumes: [Row] = [
    Row(["resume", "none"], 1, "no run directory none"),
    Row(["resume", "."], 1, "manifest.json is missing"),
    Row(["resume", "r", "--until", "soon"], 2, "--until soon", prepare: run { _ in }),
    Row(["resume", "r", "--until", "1"], 2, "--until 1.0 is less than the 2.1 s", prepare: run { _ in }),
    Row(["resume", "r", "--until", "5", "--forever"], 2, "--until or --forever", prepare: run { _ in }),
    Row(more, 1, "r/manifest.json is no manifest", prepare: run(cutting: "r/manifest.json", to: 40)),
    Row(
      more, 1, "r/manifest.json has the format 9", prepare: run("r/manifest.json", "\"format\" : 1", "\"format\" : 9")),
    Row(more, 1, "r/manifest.json is damaged: 'parts'", prepare: run("r/manifest.json", "\"parts\"", "\"pieces\"")),
    Row(
      more, 1, "ckpt-000002.json has the checkpoint format 9",
      prepare: run("r/state/ckpt-000002.json", "\"format\" : 2", "\"format\" : 9")),
    Row(more, 1, "ckpt-000002.json cannot be read", prepare: run(cutting: "r/state/ckpt-000002.json", to: 3)),
    Row(
      more, 1, "ckpt-000002.rollout.safetensors is missing",
      prepare: run(without: "r/state/ckpt-000002.rollout.safetensors")),
    Row(
      more, 1, "ckpt-000002.rollout.safetensors", "a file of 1000",
      prepare: run(cutting: "r/state/ckpt-000002.rollout.safetensors", to: 1000)),
    Row(more, 1, "000000.latent.safetensors is missing", prepare: run(without: "r/chunks/000000.latent.safetensors")),
    Row(more, 1, "r/video.part.mp4", "to go on from", prepare: run(without: "r/video.mp4")),
    Row(more, 1, "r/video.mp4", "it has 500 bytes", prepare: run(cutting: "r/video.mp4", to: 500)),
    Row(
      more, 1, "weights of transformer", "wanted 0",
      prepare: run("r/manifest.json", "\"fingerprint\" : \"", "\"fingerprint\" : \"0")),
    Row(more + ["--model", "nowhere"], 1, "nowhere", "no such model folder", prepare: run { _ in }),
    Row(
      ["-p", "x", "--run-dir", "r", "--seconds", "2"], 1, "r holds a run that is not finished",
      prepare: run("r/manifest.json", "\"status\" : \"finished\"", "\"status\" : \"running\"")),
  ]

  static let table = grammar + times + storyboards + inputs + sizes + resumes

  /// Every file under a folder with its content; folders without.
  private func content(_ folder: String) throws -> [String: Data?] {
    var found: [String: Data?] = [:]
    for case let name as String in try #require(FileManager.default.enumerator(atPath: folder)) {
      found[name] = .some(FileManager.default.contents(atPath: folder + "/" + name))
    }
    return found
  }

  @Test("The table has at least forty rows, all different") func theTableIsLong() {
    #expect(Self.table.count >= 40)
    #expect(Set(Self.table.map(\.testDescription)).count == Self.table.count)
  }

  @Test("Bad input is one line that names the field, and nothing is lost", arguments: table)
  func badInputIsOneLine(row: Row) throws {
    let scratch = try Scratch()
    // What a user has already, at the places where output would go.
    for name in ["video.mp4", "video.json", "mine.mp4"] { try Self.file(name, "mine")(scratch) }
    try row.prepare(scratch)
    let before = try content(scratch.path)
    let arguments = row.arguments.first == "resume" ? row.arguments : ["run"] + row.arguments
    let result = try runProgram(
      "generate-video", arguments + ["-q"], in: scratch.path, environment: ["LONGTAKE_MODEL": Self.model])
    #expect(result.status == row.status, "\(result)")
    #expect(result.output.isEmpty, "\(result.text)")
    let lines = result.error.split(separator: "\n", omittingEmptySubsequences: false)
    #expect(lines.count == 2 && lines[0].hasPrefix("generate-video: ") && lines[1] == "", "\(result.error)")
    for words in row.words { #expect(result.error.contains(words), "\(result.error)") }
    let after = try content(scratch.path)
    #expect(Set(after.keys) == Set(before.keys), "\(Set(after.keys).symmetricDifference(before.keys))")
    #expect(before.allSatisfy { after[$0.key] == $0.value }, "a file has changed")
  }
}
