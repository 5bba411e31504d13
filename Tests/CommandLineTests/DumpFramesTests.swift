import Foundation
import Testing
import VideoIO

/// Runs the built program as a user would.
@Suite struct DumpFramesTests {
  /// A run directory as a killed run leaves it: a video under its temporary name, and latents in two chunks.
  private final class Run {
    let path = NSTemporaryDirectory() + "longtake-dump-\(UUID().uuidString)"
    var run: String { path + "/run" }

    init() throws {
      try FileManager.default.createDirectory(atPath: run + "/chunks", withIntermediateDirectories: true)
      let settings = try OutputSettings(width: 32, height: 16, frameRate: FrameRate(16))
      let writer = try MP4Writer(path: run + "/video.mp4", settings: settings)
      for chunk in 0..<3 {
        try writer.write(
          (0..<7).map { RGBFrame(width: 32, height: 16, red: UInt8(60 + (chunk * 7 + $0) * 8), green: 90, blue: 40) })
      }
      writer.abandon()
      // Two chunks of [3, 16, 2, 4], all elements equal to the chunk's number.
      for chunk in 0..<2 {
        let header = Data(#"{"latents":{"dtype":"F32","shape":[3,16,2,4],"data_offsets":[0,1536]}}"#.utf8)
        var bytes = withUnsafeBytes(of: UInt64(header.count).littleEndian) { Data($0) } + header
        for _ in 0..<384 { withUnsafeBytes(of: Float(chunk)) { bytes.append(contentsOf: $0) } }
        try bytes.write(to: URL(fileURLWithPath: run + "/chunks/00000\(chunk).latent.safetensors"))
      }
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func names(_ folder: String) throws -> [String] {
      try FileManager.default.contentsOfDirectory(atPath: path + "/" + folder).sorted()
    }
    func exists(_ name: String) -> Bool { FileManager.default.fileExists(atPath: path + "/" + name) }
  }

  private func dumpFrames(_ arguments: String..., in run: Run) throws -> ProgramResult {
    try dumpFrames(arguments, in: run)
  }

  private func dumpFrames(_ arguments: [String], in run: Run) throws -> ProgramResult {
    try runProgram("dump-frames", arguments, in: run.path)
  }

  @Test("Chosen frames of a killed run become numbered pictures") func chosenFramesOfAKilledRunBecome() throws {
    let run = try Run()
    let result = try dumpFrames("run", "-o", "deep/out", "--frames", "0,10,19-", in: run)
    #expect(result.status == 0 && result.error == "", "\(result)")
    #expect(
      try run.names("deep/out")
        == ["frame-000000.png", "frame-000010.png", "frame-000019.png", "frame-000020.png"])
    let picture = try PNG.read(run.path + "/deep/out/frame-000010.png")
    #expect(abs(Int(picture[8, 8].red) - 140) <= 4, "\(picture[8, 8])")
  }

  @Test("Every n-th frame, all frames, and a sheet") func everyNThFrameAllFramesAnd() throws {
    let run = try Run()
    #expect(try dumpFrames("run/video.part.mp4", "-o", "a", "--every", "8", in: run).status == 0)
    #expect(try run.names("a") == ["frame-000000.png", "frame-000008.png", "frame-000016.png"])
    #expect(try dumpFrames("run/", "-o", "b", in: run).status == 0)
    #expect(try run.names("b").count == 21)
    #expect(try dumpFrames("run", "--sheet", "s.png", "--columns", "7", "--scale", "0.5", in: run).status == 0)
    let sheet = try PNG.read(run.path + "/s.png")
    #expect(sheet.width == 7 * 18 + 2 && sheet.height == 3 * 10 + 2)
  }

  @Test("Latents come as one file and in false colour") func latentsComeAsOneFileAndIn() throws {
    let run = try Run()
    let result = try dumpFrames("run", "-o", "out", "--latents", in: run)
    #expect(result.status == 0 && result.text.contains("[6, 16, 2, 4]"), "\(result)")
    #expect(try run.names("out") == ["latents.safetensors"])
    #expect(try dumpFrames("run", "-o", "seen", "--false-colour", "--frames", "2-3", in: run).status == 0)
    #expect(try run.names("seen") == ["latent-000002.png", "latent-000003.png"])
    let zero = try PNG.read(run.path + "/seen/latent-000002.png")
    #expect(zero[10, 10] == FalseColour.colour(0))
    let one = try PNG.read(run.path + "/seen/latent-000003.png")
    #expect(one[10, 10] == FalseColour.colour(1))
    // What was written is an input again.
    #expect(try dumpFrames("out/latents.safetensors", "--sheet", "l.png", "--false-colour", in: run).status == 0)
    #expect(run.exists("l.png"))
  }

  @Test(
    "Wrong usage is one line and status 2",
    arguments: [
      [], ["run"], ["run", "-o", "x", "--every", "0"], ["run", "-o", "x", "--frames", "3-1"], ["run", "-o", ""],
      ["run", "-o", "x", "--bogus"], ["run", "--sheet", "a.jpg"], ["run", "--sheet", "a.png", "--scale", "2"],
      ["run", "--sheet", "a.png", "--latents"], ["run", "-o", "x", "--columns", "3"],
      ["run", "-o", "x", "--times", "-1"],
      ["run", "-o", "x", "--times", "1e3"], ["run", "-o", "x", "--times", "2-1"], ["run", "-o", "x", "--times", ""],
      ["run", "-o", "x", "--times", "1", "--frames", "1"], ["run", "--difference", ""],
      ["run", "-o", "x", "--latents", "--difference", "run"],
    ])
  func wrongUsageIsOneLineAndStatus(arguments: [String]) throws {
    try expectFailure(arguments, status: 2)
  }

  @Test(
    "A failure is one line and status 1, and leaves nothing",
    arguments: [
      ["nothing.mp4", "-o", "x"], ["run", "-o", "x", "--frames", "21"], ["run/chunks", "-o", "x"],
      ["run/chunks/000000.latent.safetensors", "-o", "x"], ["run/video.part.mp4", "-o", "x", "--latents"],
      ["run", "--sheet", "missing/s.png"], ["/dev/null", "-o", "x"], ["run", "--difference", "nothing.mp4", "-o", "x"],
      ["run/chunks/000000.latent.safetensors", "-o", "x", "--false-colour", "--times", "1"],
      ["run", "--difference", "run/chunks/000000.latent.safetensors", "-o", "x"],
    ])
  func aFailureIsOneLineAndStatus(arguments: [String]) throws {
    try expectFailure(arguments, status: 1)
  }

  private func expectFailure(_ arguments: [String], status: Int32) throws {
    let run = try Run()
    let result = try dumpFrames(arguments, in: run)
    #expect(result.status == status, "\(result)")
    #expect(result.text == "")
    #expect(result.error.hasPrefix("dump-frames: ") && result.error.filter(\.isNewline).count == 1, "\(result.error)")
    #expect(!run.exists("x"))
  }

  @Test("Frames can be chosen by time, single and in stretches") func framesCanBeChosenByTime() throws {
    let run = try Run()
    #expect(try dumpFrames("run", "-o", "t", "--times", "0.5,1.1-1.2", in: run).status == 0)
    #expect(try run.names("t") == ["frame-000008.png", "frame-000017.png", "frame-000018.png", "frame-000019.png"])
    #expect(try dumpFrames("run", "-o", "u", "--times", "1-", "--every", "3", in: run).status == 0)
    #expect(try run.names("u") == ["frame-000016.png", "frame-000019.png"])
    // Latent frame 2 holds the video's frames 5 to 8.
    #expect(try dumpFrames("run", "-o", "l", "--false-colour", "--times", "0.5", in: run).status == 0)
    #expect(try run.names("l") == ["latent-000002.png"])
    let late = try dumpFrames("run", "-o", "v", "--times", "60", in: run)
    #expect(late.status == 1 && late.error.contains("it has 0 to 20") && !run.exists("v"), "\(late)")
  }

  @Test("Two runs are compared frame by frame") func twoRunsAreCompared() throws {
    let run = try Run()
    let settings = try OutputSettings(width: 32, height: 16, frameRate: FrameRate(16))
    let writer = try MP4Writer(path: run.path + "/b.mp4", settings: settings)
    // The first chunk as in the run, the second lighter, and no third one.
    for chunk in 0..<2 {
      try writer.write(
        (0..<7).map {
          RGBFrame(width: 32, height: 16, red: UInt8(60 + (chunk * 7 + $0) * 8 + chunk * 20), green: 90, blue: 40)
        })
    }
    try writer.finish()
    let result = try dumpFrames("run", "--difference", "b.mp4", in: run)
    #expect(result.status == 0 && result.error == "", "\(result)")
    let lines = result.text.split(separator: "\n")
    #expect(
      lines.count == 16 && lines[14].hasPrefix("14 frames") && lines[15].contains("has 21 frames"), "\(result.text)")
    let (one, two) = try (
      VideoReader.frames(of: run.run + "/video.part.mp4"), VideoReader.frames(of: run.path + "/b.mp4")
    )
    for i in 0..<14 {
      let decibels = one[i].psnr(to: two[i])
      let words = decibels == .infinity ? "equal" : String(format: "%.2f dB", decibels)
      #expect(lines[i] == "frame \(i): \(words)", "\(lines[i])")
    }
    #expect(try dumpFrames("run", "--difference", "run", in: run).text.contains("all equal"))
    // Pictures, a table and a sheet; the sign of the difference stays.
    let drawn = try dumpFrames("run", "--difference", "b.mp4", "-o", "d", "--frames", "13", "--sheet", "d.png", in: run)
    #expect(drawn.status == 0 && run.exists("d.png"), "\(drawn)")
    #expect(try run.names("d") == ["difference-000013.png", "difference.csv"])
    let table = try String(contentsOfFile: run.path + "/d/difference.csv", encoding: .utf8)
    #expect(table == "index,db\n13,\(String(format: "%.4f", one[13].psnr(to: two[13])))\n", "\(table)")
    let picture = try PNG.read(run.path + "/d/difference-000013.png")
    let wanted = max(0, 128 + 4 * (Int(one[13][8, 8].red) - Int(two[13][8, 8].red)))
    #expect(wanted < 128 && Int(picture[8, 8].red) == wanted, "\(picture[8, 8])")
  }

  @Test("Latents of two runs are compared as they are") func latentsOfTwoRunsAreCompared() throws {
    let run = try Run()
    #expect(try dumpFrames("run", "-o", "out", "--latents", in: run).status == 0)
    let same = try dumpFrames("run", "--difference", "out/latents.safetensors", "--false-colour", in: run)
    #expect(same.status == 0 && same.text.contains("6 latent frames, signal to difference: all equal"), "\(same)")
    // Ones against zeros: as much difference as signal.
    let other = try dumpFrames(
      "run/chunks/000001.latent.safetensors", "--difference", "run/chunks/000000.latent.safetensors", "--false-colour",
      "-o", "d", in: run)
    #expect(other.status == 0 && other.text.contains("latent frame 0: 0.00 dB"), "\(other)")
    #expect(try run.names("d").contains("latent-difference.csv"))
    #expect(try PNG.read(run.path + "/d/latent-difference-000002.png")[10, 10] == FalseColour.colour(1))
  }

  @Test("A run without end is shown from the oldest chunk that it kept") func aRunWithoutEndIsShown() throws {
    let run = try Run()
    let (old, new) = (run.run + "/chunks/000000.latent.safetensors", run.run + "/chunks/000007.latent.safetensors")
    try FileManager.default.moveItem(atPath: old, toPath: new)
    let later = run.run + "/chunks/000006.latent.safetensors"
    try FileManager.default.moveItem(atPath: run.run + "/chunks/000001.latent.safetensors", toPath: later)
    #expect(try dumpFrames("run", "-o", "x", "--latents", in: run).error.contains("chunk 0 are missing"))
    try Data(#"{"parts":[{"first_chunk":0}]}"#.utf8).write(to: URL(fileURLWithPath: run.run + "/manifest.json"))
    let result = try dumpFrames("run", "-o", "x", "--latents", in: run)
    #expect(result.status == 0 && result.text.contains("[6, 16, 2, 4], from chunk 6 on"), "\(result)")
  }

  @Test("A missing chunk is named") func aMissingChunkIsNamed() throws {
    let run = try Run()
    try FileManager.default.removeItem(atPath: run.run + "/chunks/000000.latent.safetensors")
    let result = try dumpFrames("run", "-o", "x", "--latents", in: run)
    #expect(result.status == 1 && result.error.contains("chunk 0"), "\(result)")
  }

  @Test("The help teaches by example") func theHelpTeachesByExample() throws {
    let run = try Run()
    let result = try dumpFrames("--help", in: run)
    #expect(result.status == 0 && result.error == "")
    for text in ["EXAMPLES", "--frames 0,10,20-30", "--false-colour", "EXIT STATUS"] {
      #expect(result.text.contains(text), "\(text)")
    }
  }
}
