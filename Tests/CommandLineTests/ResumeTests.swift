import Foundation
import Testing
import VideoIO

/// Runs that are killed, stopped, or run out of disk go on with the same bytes.
@Suite struct ResumeTests {
  private static let quick = [
    "-p", "a red ball", "--model", repository + "/weights/default", "--size", "64x64", "--steps", "1", "--quiet",
  ]
  private let scratch: Scratch
  init() throws { scratch = try Scratch() }

  private func run(_ arguments: [String]) throws -> ProgramResult {
    try runProgram("generate-video", arguments, in: scratch.path)
  }

  private func checkpoints(_ directory: String) -> [String] {
    ((try? scratch.names(directory + "/state")) ?? []).filter { $0.hasSuffix(".json") }
  }

  /// Starts a program and sends it a signal once it has saved some chunks.
  private func interrupt(_ arguments: [String], _ directory: String, after chunk: Int, with number: Int32) throws
    -> Int32
  {
    let process = program("generate-video", arguments, in: scratch.path)
    process.standardError = FileHandle.nullDevice
    try process.run()
    let last = "ckpt-" + String(repeating: "0", count: 6 - "\(chunk)".count) + "\(chunk).json"
    while process.isRunning, (checkpoints(directory).last ?? "") < last { usleep(2000) }
    usleep(UInt32.random(in: 0..<60000))
    kill(process.processIdentifier, number)
    process.waitUntilExit()
    return process.terminationStatus
  }

  /// Latents, video and preview.
  private func content(_ directory: String) throws -> [String: Data] {
    var files = [
      "video.mp4": scratch.file(directory + "/video.mp4"), "preview": scratch.file(directory + "/preview.png"),
    ]
    for name in try scratch.names(directory + "/chunks") { files[name] = scratch.file(directory + "/chunks/" + name) }
    return try files.mapValues { try Data(contentsOf: URL(fileURLWithPath: $0)) }
  }

  private func events(_ directory: String) throws -> [Int] {
    struct Line: Decodable { let index: Int }
    return try String(contentsOfFile: scratch.file(directory + "/events.jsonl"), encoding: .utf8).split(separator: "\n")
      .map { try JSONDecoder().decode(Line.self, from: Data($0.utf8)).index }
  }

  @Test(
    "A run that is killed twice ends with the bytes of an uninterrupted one",
    arguments: [
      ["--sparsity", "dense"], ["--sink", "3", "--window", "9"], ["--sparsity", "sparse-forcing"],
      ["--sparsity", "light-forcing"], ["--sparsity", "lvsa"], ["--sparsity", "longtake"], ["--guidance", "2"],
      ["--rng", "torch"], ["--checkpoint-every", "3"],
    ])
  func aRunThatIsKilledTwice(flags: [String]) throws {
    let arguments = Self.quick + ["--seconds", "9"] + flags
    #expect(try run(arguments + ["--run-dir", "whole"]).status == 0)
    #expect(try interrupt(arguments + ["--run-dir", "killed"], "killed", after: 3, with: SIGKILL) == SIGKILL)
    let kept = try #require(checkpoints("killed").last)
    #expect(try interrupt(["resume", "killed", "-q"], "killed", after: 8, with: SIGKILL) == SIGKILL)
    #expect(try #require(checkpoints("killed").last) >= kept && !scratch.exists("killed/video.mp4"))
    let end = try run(["resume", "killed", "--threads", "1", "--quiet"])
    #expect(end.status == 0, "\(end.error)")
    #expect(try content("killed") == content("whole"), "\(flags)")
    #expect(try events("killed") == events("whole"))
    // Two checkpoints of three files stay.
    #expect(try scratch.names("killed/state").count == 6)
  }

  @Test("A signal ends the run after its chunk with status 75 and the command that goes on")
  func aSignalEndsTheRunAfterItsChunk() throws {
    let arguments = Self.quick + ["--seconds", "6"]
    #expect(try run(arguments + ["--run-dir", "whole"]).status == 0)
    for (number, name) in [(SIGINT, "int"), (SIGTERM, "it's\na term")] {
      let flags = ["--run-dir", name, "--checkpoint-every", "100"]
      let process = program("generate-video", arguments + flags, in: scratch.path)
      let log = scratch.file("log")
      _ = FileManager.default.createFile(atPath: log, contents: nil)
      process.standardError = FileHandle(forWritingAtPath: log)
      try process.run()
      while process.isRunning, !scratch.exists(name + "/chunks/000001.latent.safetensors") { usleep(2000) }
      kill(process.processIdentifier, number)
      process.waitUntilExit()
      let said = try String(contentsOfFile: log, encoding: .utf8)
      #expect(process.terminationStatus == 75, "\(said)")
      #expect(said.contains("generate-video resume " + (name == "int" ? "int" : "'it'\\''s a term'")), "\(said)")
      #expect(checkpoints(name).count == 1)
      let end = try run(["resume", name, "-q"])
      #expect(end.status == 0, "\(end.error)")
      #expect(try content(name) == content("whole"))
    }
    // The second one is not waited for.
    let process = program("generate-video", arguments + ["--seconds", "60", "--run-dir", "twice"], in: scratch.path)
    process.standardError = FileHandle.nullDevice
    try process.run()
    while process.isRunning, !scratch.exists("twice/manifest.json") { usleep(2000) }
    for _ in 0..<2 {
      kill(process.processIdentifier, SIGINT)
      usleep(20000)
    }
    process.waitUntilExit()
    #expect(process.terminationReason == .uncaughtSignal || process.terminationStatus == 75)
  }

  @Test("An extended run equals a longer one, and its manifest says that it was extended") func anExtendedRun() throws {
    // Which positions a run has by default depends on its declared length, and an extension keeps them.
    let arguments = Self.quick + ["--rope", "window"]
    #expect(try run(arguments + ["--seconds", "6", "--run-dir", "whole"]).status == 0)
    #expect(try run(arguments + ["--num-frames", "17", "--run-dir", "short"]).status == 0)
    for until in ["3.5", "0h0m6s"] {
      let result = try run(["resume", "short", "--until", until, "-q"])
      #expect(result.status == 0, "\(result.error)")
    }
    #expect(try content("short") == content("whole"))
    let text = try String(contentsOfFile: scratch.file("short/manifest.json"), encoding: .utf8)
    #expect(text.components(separatedBy: "\"is_extension\" : true").count == 3 && text.contains("\"finished\""))
    let again = try run(["resume", "short"])
    #expect(again.status == 0 && again.error.contains("is finished"), "\(again)")
  }

  @Test("A run without end is stopped, gone on with, and ended; what it made is what a run with that end makes")
  func aRunWithoutEnd() throws {
    #expect(try run(Self.quick + ["--seconds", "9", "--run-dir", "whole"]).status == 0)
    let endless = Self.quick + ["--forever", "--run-dir", "endless"]
    #expect(try interrupt(endless, "endless", after: 2, with: SIGTERM) == 75)
    #expect(try interrupt(["resume", "endless", "-q"], "endless", after: 4, with: SIGKILL) == SIGKILL)
    let early = try run(["resume", "endless", "--until", "0.1"])
    #expect(early.status == 2 && early.error.contains("that the run has"), "\(early)")
    let end = try run(["resume", "endless", "--until", "9", "-q"])
    #expect(end.status == 0, "\(end.error)")
    #expect(try content("endless") == content("whole"))

    let process = program("generate-video", Self.quick + ["--forever", "-o", "a.mp4"], in: scratch.path)
    process.standardError = FileHandle.nullDevice
    try process.run()
    while process.isRunning, ((try? VideoReader.frameCount(of: scratch.file("a.part.mp4"))) ?? 0) < 21 { usleep(20000) }
    kill(process.processIdentifier, SIGINT)
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    let frames = try VideoReader.frameCount(of: scratch.file("a.mp4"))
    #expect(frames >= 21 && (frames - 9) % 12 == 0, "\(frames) frames")
  }

  @Test("A run that may write no more stops with the last good state, and goes on when there is room")
  func aRunThatMayWriteNoMore() throws {
    let arguments = Self.quick + ["--seconds", "6", "--window", "21"]
    #expect(try run(arguments + ["--run-dir", "whole"]).status == 0)
    // States of the first chunks have room, later ones have not.
    let sizes = try scratch.names("whole/state").filter { $0.contains("rollout") }.map {
      try FileManager.default.attributesOfItem(atPath: scratch.file("whole/state/" + $0))[.size] as? Int ?? 0
    }
    let limit = (sizes.max() ?? 0) / 1024 / 2
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.currentDirectoryURL = URL(fileURLWithPath: scratch.path)
    let log = scratch.file("log")
    _ = FileManager.default.createFile(atPath: log, contents: nil)
    process.standardError = FileHandle(forWritingAtPath: log)
    let command = programs.appendingPathComponent("generate-video").path
    process.arguments =
      ["-c", "ulimit -f $(( \(limit) * 1024 / 512 )) && exec \"$0\" \"$@\"", command] + arguments + [
        "--run-dir", "full",
      ]
    try process.run()
    process.waitUntilExit()
    let said = try String(contentsOfFile: log, encoding: .utf8)
    #expect(process.terminationStatus == 1 && said.contains("generate-video resume full"), "\(said)")
    #expect(said.split(separator: "\n").count { $0.hasPrefix("generate-video: ") } == 1, "\(said)")
    #expect(checkpoints("full").count == 2)
    let end = try run(["resume", "full", "-q"])
    #expect(end.status == 0, "\(end.error)")
    #expect(try content("full") == content("whole"))
  }

  @Test("What cannot be gone on from is refused with one line, and nothing is lost") func whatCannotBeGoneOnFrom()
    throws
  {
    #expect(try run(Self.quick + ["--num-frames", "41", "--run-dir", "good"]).status == 0)
    func damage(_ name: String, _ change: (String) throws -> Void) throws {
      try FileManager.default.copyItem(atPath: scratch.file("good"), toPath: scratch.file(name))
      try change(scratch.file(name))
    }
    func replace(_ file: String, _ old: String, _ new: String) throws {
      let text = try String(contentsOfFile: file, encoding: .utf8)
      #expect(text.contains(old), "\(file) has no \(old)")
      try text.replacingOccurrences(of: old, with: new).write(toFile: file, atomically: true, encoding: .utf8)
    }
    let state = "/state/ckpt-000003"
    try FileManager.default.createDirectory(atPath: scratch.file("empty"), withIntermediateDirectories: true)
    try damage("weights") { try replace($0 + "/manifest.json", "\"fingerprint\" : \"", "\"fingerprint\" : \"x") }
    try damage("version") { try replace($0 + state + ".json", "\"format\" : 2", "\"format\" : 1") }
    try damage("manifest") { try replace($0 + "/manifest.json", "\"format\" : 1", "\"format\" : 7") }
    try damage("torn") {
      try Data("{ \"engine\": \"longtake\", ".utf8).write(to: URL(fileURLWithPath: $0 + "/manifest.json"))
    }
    try damage("record") { try Data("{}".utf8).write(to: URL(fileURLWithPath: $0 + state + ".json")) }
    try damage("state") { try FileManager.default.removeItem(atPath: $0 + state + ".rollout.safetensors") }
    try damage("latents") { try FileManager.default.removeItem(atPath: $0 + "/chunks/000001.latent.safetensors") }
    try damage("video") { try FileManager.default.removeItem(atPath: $0 + "/video.mp4") }
    try damage("cut") {
      let url = URL(fileURLWithPath: $0 + state + ".rollout.safetensors")
      try Data(contentsOf: url).dropLast(1000).write(to: url)
    }
    let more = ["--until", "9"]
    for (arguments, status, text) in [
      (["nowhere"], 1, "there is no run directory"), (["empty"], 1, "no run was begun there"),
      (["weights"] + more, 1, "fingerprint"), (["version"] + more, 1, "checkpoint format 1; this version reads 2"),
      (["manifest"] + more, 1, "the format 7; this version reads 1"), (["torn"] + more, 1, "is no manifest"),
      (["record"] + more, 1, "go on from the checkpoint before"),
      (["state"] + more, 1, "rollout.safetensors is missing"),
      (["latents"] + more, 1, "000001.latent.safetensors is missing"),
      (["video"] + more, 1, "is there to go on from"), (["cut"] + more, 1, "rollout.safetensors"),
      (["good", "--until", "1"], 2, "--until"), (["good", "--until", "soon"], 2, "--until soon"),
      (["good", "--until", "9999999999h"], 2, "more than"), (["good", "--until", "-3"], 2, "--until"),
      (["good", "--model", "nowhere"] + more, 1, "no such model folder"), ([], 2, "Missing"),
      (["good", "--threads", "0"] + more, 2, "--threads 0"),
    ] as [([String], Int32, String)] {
      let before = (try? scratch.names(arguments.first ?? "")) ?? []
      let result = try run(["resume"] + arguments)
      #expect(result.status == status && result.error.contains(text), "\(arguments): \(result)")
      #expect(result.error.split(separator: "\n").count { $0.hasPrefix("generate-video: ") } == 1, "\(result.error)")
      #expect(((try? scratch.names(arguments.first ?? "")) ?? []) == before, "\(arguments)")
    }
    #expect(try run(["resume", "good", "-q"] + more).status == 0)
  }

  @Test("A run without end keeps the latents of its latest chunks, and goes on after a kill")
  func aRunWithoutEndKeepsTheLatest() throws {
    let arguments = Self.quick + ["--forever", "--keep", "4", "--record-attention", "--run-dir", "run"]
    #expect(try interrupt(arguments, "run", after: 9, with: SIGKILL) == SIGKILL)
    #expect(try interrupt(["resume", "run", "-q"], "run", after: 14, with: SIGTERM) == 75)
    func numbers(_ suffix: String) throws -> [Int] {
      try scratch.names("run/chunks").filter { $0.hasSuffix(suffix) }.compactMap { Int($0.prefix(6)) }
    }
    let latents = try numbers(".latent.safetensors")
    let last = try #require(latents.last)
    #expect(latents == Array(last - 3...last) && last >= 13, "\(latents)")
    #expect(try numbers(".attention.safetensors") == latents)
    // An end stops the pruning, and what is kept is enough to go on.
    let seconds = 0.75 * Double(last + 5)
    let result = try run(["resume", "run", "-q", "--until", "\(seconds)"])
    #expect(result.status == 0, "\(result)")
    let more = try numbers(".latent.safetensors")
    #expect(more == Array(last - 3...(more.last ?? 0)) && more.count > 4, "\(more)")
    #expect(try VideoReader.frameCount(of: scratch.file("run/video.mp4")) == 12 * (last + 5) + 1)
  }

  @Test("An extension without end keeps the latents of the declared length")
  func anExtensionKeepsTheDeclared() throws {
    #expect(try run(Self.quick + ["--seconds", "3", "--run-dir", "run"]).status == 0)
    let before = try scratch.names("run/chunks")
    #expect(try interrupt(["resume", "run", "-q", "--forever"], "run", after: 8, with: SIGTERM) == 75)
    #expect(try scratch.names("run/chunks").starts(with: before))
  }

  @Test("An extension past the trained window with positions from the beginning is a warning, others are none")
  func anExtensionPastTheTrainedWindow() throws {
    let warning = "counts positions from its beginning"
    for (flags, isWarned) in [
      (["--sparsity", "dense"], true), (["--sparsity", "longtake"], true), (["--sink", "0"], false),
      (["--sparsity", "longtake", "--rope", "window"], false),
    ] {
      let folder = "run" + flags.joined()
      let start = ["--seconds", "2", "--run-dir", folder] + flags
      #expect(try run(Self.quick + start).status == 0)
      let inside = try run(["resume", folder, "-q", "--until", "2.5"])
      #expect(inside.status == 0 && !inside.error.contains(warning), "\(flags): \(inside.error)")
      let outside = try run(["resume", folder, "-q", "--until", "6"])
      #expect(outside.status == 0 && outside.error.contains(warning) == isWarned, "\(flags): \(outside.error)")
    }
  }

  @Test("A new run does not destroy one that can go on") func aNewRunDoesNotDestroy() throws {
    let arguments = Self.quick + ["--seconds", "20", "--run-dir", "run"]
    #expect(try interrupt(arguments, "run", after: 1, with: SIGKILL) == SIGKILL)
    let result = try run(arguments)
    #expect(result.status == 1 && result.error.contains("generate-video resume run"), "\(result)")
    #expect(!checkpoints("run").isEmpty)
  }
}
