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
    ])
  func wrongUsageIsOneLineAndStatus(arguments: [String]) throws {
    try expectFailure(arguments, status: 2)
  }

  @Test(
    "A failure is one line and status 1, and leaves nothing",
    arguments: [
      ["nothing.mp4", "-o", "x"], ["run", "-o", "x", "--frames", "21"], ["run/chunks", "-o", "x"],
      ["run/chunks/000000.latent.safetensors", "-o", "x"], ["run/video.part.mp4", "-o", "x", "--latents"],
      ["run", "--sheet", "missing/s.png"], ["/dev/null", "-o", "x"],
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
