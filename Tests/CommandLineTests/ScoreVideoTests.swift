import Foundation
import Tensors
import Testing
import VideoIO

/// `score-video` as a user runs it.
@Suite struct ScoreVideoTests {
  /// A folder with `run/`, a run directory of three chunks of 3 latent frames, 33 frames with a step of 24 levels at each
  /// border.
  private func scratchWithRun() throws -> Scratch {
    let scratch = try Scratch()
    try FileManager.default.createDirectory(atPath: scratch.file("run/chunks"), withIntermediateDirectories: true)
    let writer = try MP4Writer(
      path: scratch.file("run/video.mp4"),
      settings: OutputSettings(width: 64, height: 48, frameRate: FrameRate(16), crf: 4))
    for chunk in 0..<3 {
      let level = UInt8(90 + 24 * (chunk % 2))
      try writer.write((0..<(chunk == 0 ? 9 : 12)).map { _ in picture(level: level) })
      let latents = Tensor((0..<3 * 16 * 6 * 8).map { Float(($0 * 7 + chunk) % 13) / 6 - 1 }, shape: [3, 16, 6, 8])
      try SafetensorsWriter.write(
        [("latents", latents)], to: scratch.file("run/chunks/00000\(chunk).latent.safetensors"))
    }
    try writer.finish()
    return scratch
  }

  private func picture(level: UInt8) -> RGBFrame {
    var frame = RGBFrame(width: 64, height: 48, red: level, green: level, blue: level)
    for row in 12..<30 {
      for k in 60..<120 { frame.pixels[row * 192 + k] = level + UInt8(60 + (row / 6 + k / 18) % 2 * 40) }
    }
    return frame
  }

  private func score(_ arguments: String..., in scratch: Scratch) throws -> ProgramResult {
    try runProgram("score-video", arguments, in: scratch.path)
  }

  /// A member of nested JSON objects.
  private func member(_ path: String, of json: Data) throws -> Any? {
    var value: Any? = try JSONSerialization.jsonObject(with: json)
    for key in path.split(separator: ".") { value = (value as? [String: Any])?[String(key)] }
    return value
  }

  @Test("A run directory gives a report, JSON and a plot with its chunk borders") func aRunDirectoryGivesAReportJSON()
    throws
  {
    let scratch = try scratchWithRun()
    let text = try score("run", "--plot", "plot.png", in: scratch)
    #expect(text.status == 0 && text.error == "", "\(text)")
    for words in ["64x48, 16 fps, 33 frames", "2 chunk borders", "loop score, latents", "freeze rate", "seam error"] {
      #expect(text.text.contains(words), "no '\(words)' in \(text.text)")
    }
    let plot = try PNG.read(scratch.file("plot.png"))
    #expect(plot.width == 1240 && plot.height > 1000, "\(plot.width)x\(plot.height)")

    let result = try score("run/", "--json", in: scratch)
    #expect(result.status == 0 && result.error == "", "\(result)")
    #expect(try member("chunks.borders", of: result.output) as? [Int] == [9, 21], "\(result.text)")
    #expect(try member("chunks.source", of: result.output) as? String == "latents")
    #expect(try member("pixels.frames", of: result.output) as? Int == 33)
    #expect(try member("latents.frames", of: result.output) as? Int == 9)
    let error = try #require(try member("pixels.seams.error", of: result.output) as? Double)
    #expect(abs(error - 24) < 3, "\(error)")
    for key in [
      "pixels.loop.score", "pixels.loop.cycle", "pixels.loop.duplicates", "pixels.loop.periodicity",
      "pixels.loop.autocorrelation", "pixels.freeze.rate", "pixels.motion.dynamic_degree", "pixels.drift.colour",
      "pixels.drift.brightness.change", "pixels.drift.sharpness.is_drift", "pixels.flicker.local", "video.seconds",
    ] {
      let found = try member(key, of: result.output)
      #expect(found is NSNumber, "\(key): \(String(describing: found))")
    }
  }

  @Test("Borders of a lone video come from its record or from the flag") func bordersOfALoneVideoComeFrom() throws {
    let scratch = try scratchWithRun()
    try FileManager.default.copyItem(atPath: scratch.file("run/video.mp4"), toPath: scratch.file("a.mp4"))
    let unknown = try score("a.mp4", "--json", in: scratch)
    #expect(try member("chunks", of: unknown.output) == nil && unknown.text.contains("give --chunk-frames"))
    let flag = try score("a.mp4", "--json", "--chunk-frames", "4", in: scratch)
    #expect(try member("chunks.borders", of: flag.output) as? [Int] == [13, 29], "\(flag.text)")
    // A record of something else is none.
    try Data(#"{"engine":"other","settings":{"chunk_frames":2}}"#.utf8).write(
      to: URL(fileURLWithPath: scratch.file("a.json")))
    #expect(try member("chunks", of: score("a.mp4", "--json", in: scratch).output) == nil)
    try Data(#"{"engine":"longtake","settings":{"chunk_frames":3,"fps":"16"}}"#.utf8).write(
      to: URL(fileURLWithPath: scratch.file("a.json")))
    let record = try score("a.mp4", "--json", in: scratch)
    #expect(try member("chunks.borders", of: record.output) as? [Int] == [9, 21], "\(record.text)")
    #expect(try member("chunks.source", of: record.output) as? String == "manifest")
  }

  @Test("Latents alone and a video of one frame are measured as far as they go") func latentsAloneAndAVideoOfOne()
    throws
  {
    let scratch = try scratchWithRun()
    let latents = try score("run/chunks/000000.latent.safetensors", "--plot", "l.png", in: scratch)
    #expect(latents.status == 0 && latents.text.contains("latents only"), "\(latents)")
    #expect(scratch.exists("l.png"))
    let writer = try MP4Writer(
      path: scratch.file("one.mp4"), settings: OutputSettings(width: 64, height: 48, frameRate: FrameRate(16)))
    try writer.write([picture(level: 100)])
    try writer.finish()
    let one = try score("one.mp4", "--json", "--plot", "one.png", in: scratch)
    #expect(one.status == 0 && one.error == "", "\(one)")
    #expect(try member("pixels.loop.score", of: one.output) as? Double == 80)
    #expect(try member("pixels.freeze", of: one.output) == nil)
    #expect(try score("one.mp4", "--chunk-frames", "3", in: scratch).text.contains("too short"))
    try FileManager.default.removeItem(atPath: scratch.file("run/chunks"))
    #expect(try score("run", in: scratch).text.contains("the latents were not measured"))
  }

  @Test("A full disk behind standard output is one line") func aFullDiskBehindStandardOutputIs() throws {
    let scratch = try scratchWithRun()
    for arguments in [["run"], ["run", "--json"]] {
      let process = program("score-video", arguments, in: scratch.path)
      let log = Pipe()
      let full: FileHandle = try #require(FileHandle(forWritingAtPath: "/dev/full"))
      process.standardOutput = full
      process.standardError = log
      try process.run()
      let error = String(decoding: log.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      process.waitUntilExit()
      #expect(process.terminationStatus == 1, "\(error)")
      #expect(error.hasPrefix("score-video: writing 'standard output' failed: no space"), "\(error)")
      #expect(error.split(whereSeparator: \.isNewline).count == 1, "\(error)")
    }
  }

  @Test("Help teaches") func helpTeaches() throws {
    let help = try score("--help", in: Scratch())
    #expect(help.status == 0 && help.text.contains("EXAMPLES") && help.text.contains("--chunk-frames"), "\(help)")
  }

  @Test(
    "Nonsense is one line and the right status",
    arguments: [
      ([], 2, "input"), (["a.mp4", "--bogus"], 2, "--bogus"), (["a.mp4", "b.mp4"], 2, "b.mp4"),
      ([""], 2, "empty name"),
      (["run", "--chunk-frames", "0"], 2, "1 to"), (["run", "--chunk-frames", "-3"], 2, "1 to"),
      (["run", "--chunk-frames", "9223372036854775807"], 2, "1 to"), (["run", "--chunk-frames", "few"], 2, "few"),
      (["run", "--plot", "p.jpg"], 2, "no .png"), (["run", "--plot", ""], 2, "empty name"),
      (["nothing.mp4"], 1, "no such file"), (["text.mp4"], 1, "text.mp4"), (["empty.mp4"], 1, "empty"),
      (["text.safetensors"], 1, "text.safetensors"), (["nan.safetensors"], 1, "not finite"),
      (["."], 1, "several videos"), (["run/chunks"], 1, "no video"),
      (["run", "--plot", "missing/p.png"], 1, "missing"), (["hollow.y4m"], 1, "hollow.y4m"),
    ] as [([String], Int32, String)])
  func nonsenseIsOneLineAndTheRight(arguments: [String], status: Int32, words: String) throws {
    let scratch = try scratchWithRun()
    let text = Data("This is a text file, and no video at all.\n".utf8)
    for name in ["text.mp4", "text.safetensors"] { try text.write(to: URL(fileURLWithPath: scratch.file(name))) }
    try Data().write(to: URL(fileURLWithPath: scratch.file("empty.mp4")))
    try Data("YUV4MPEG2 W64 H48 F16:1 Ip A1:1 C444\n".utf8).write(to: URL(fileURLWithPath: scratch.file("hollow.y4m")))
    var numbers = [Float](repeating: 0.5, count: 12 * 16 * 4)
    numbers[100] = .nan
    try SafetensorsWriter.write(
      [("latents", Tensor(numbers, shape: [12, 16, 2, 2]))], to: scratch.file("nan.safetensors"))
    let before = try scratch.names()
    let result = try runProgram("score-video", arguments, in: scratch.path)
    #expect(result.status == status && result.text == "", "\(arguments): \(result)")
    let lines = result.error.split(whereSeparator: \.isNewline)
    #expect(lines.count == 1 && lines.first?.hasPrefix("score-video: ") == true, "\(result.error)")
    #expect(result.error.contains(words), "\(result.error)")
    #expect(try scratch.names() == before, "\(arguments) left something")
  }
}
