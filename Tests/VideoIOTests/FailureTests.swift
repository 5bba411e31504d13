import Foundation
import Testing
import VideoIO

/// What users meet when the world is against them: one clear line, and no half-written file under the final name.
@Suite struct FailureTests {
  private func message(_ body: () throws -> Void) -> String {
    do { try body() } catch { return "\(error)" }
    return "no error"
  }

  @Test("Odd sizes are refused with the nearest even ones") func oddSizesAreRefusedWithTheNearest() throws {
    let scratch = try Scratch()
    let text = message { _ = try MP4Writer(path: scratch.file("a.mp4"), settings: settings(63, 48)) }
    #expect(text.contains("63x48") && text.contains("64x48"), "\(text)")
    #expect(try scratch.names() == [])
  }

  @Test("An unknown name is refused with the known ones", arguments: ["a.avi", "a", "a.png", "a.mp4.txt"])
  func anUnknownNameIsRefusedWithThe(name: String) throws {
    let scratch = try Scratch()
    let text = message { _ = try FrameSinks.open(path: scratch.file(name), settings: settings()) }
    for known in [".mp4", ".y4m", "%05d.png"] { #expect(text.contains(known), "\(text)") }
    #expect(try scratch.names() == [])
  }

  @Test("A missing folder is named", arguments: ["a.mp4", "a.y4m", "frames/", "frames/%05d.png"])
  func aMissingFolderIsNamed(name: String) throws {
    let scratch = try Scratch()
    let text = message { _ = try FrameSinks.open(path: scratch.file("missing/\(name)"), settings: settings()) }
    #expect(text.contains("missing") && text.contains("does not exist"), "\(text)")
  }

  @Test("A full disk is an error of the write, and the writer survives it", arguments: ["a.mp4", "a.y4m"])
  func aFullDiskIsAnErrorOf(name: String) throws {
    let scratch = try Scratch()
    // The temporary file leads to the device that is always full.
    let part = OutputFile.temporaryName(of: scratch.file(name))
    try FileManager.default.createSymbolicLink(atPath: part, withDestinationPath: "/dev/full")
    let text = message {
      let sink = try FrameSinks.open(path: scratch.file(name), settings: settings())
      defer { sink.abandon() }
      try sink.write(movingFrames(0..<12))
      try sink.finish()
    }
    #expect(text.contains("no space left on device"), "\(text)")
    #expect(!scratch.exists(name))
  }

  @Test("After an error a sink is closed and its finished chunks stay readable", arguments: ["a.mp4", "a.y4m"])
  func afterAnErrorASinkIsClosed(name: String) throws {
    let scratch = try Scratch()
    let path = scratch.file(name)
    let sink = try FrameSinks.open(path: path, settings: settings())
    try sink.write(movingFrames(0..<12))
    #expect(throws: VideoIOError.self) { try sink.write([RGBFrame(width: 32, height: 32, red: 0, green: 0, blue: 0)]) }
    #expect(throws: VideoIOError.self) { try sink.write(movingFrames(12..<24)) }
    #expect(throws: VideoIOError.self) { try sink.finish() }
    sink.abandon()
    #expect(!scratch.exists(name))
    #expect(try VideoReader.frames(of: OutputFile.temporaryName(of: path)).count == 12)
  }

  @Test("A missing encoder says so and leaves no file") func aMissingEncoderSaysSoAndLeaves() throws {
    let scratch = try Scratch()
    let text = message {
      _ = try MP4Writer(path: scratch.file("a.mp4"), settings: settings(), encoderName: "libx264_of_nowhere")
    }
    #expect(text.contains("libx264_of_nowhere") && text.contains("install"), "\(text)")
    #expect(try scratch.names() == [])
  }

  @Test("Settings out of range name the range") func settingsOutOfRangeNameTheRange() throws {
    let scratch = try Scratch()
    var options = try settings()
    options.crf = 60
    #expect(message { _ = try MP4Writer(path: scratch.file("a.mp4"), settings: options) }.contains("51"))
    options.crf = 20
    options.preset = "warp"
    #expect(message { _ = try MP4Writer(path: scratch.file("a.mp4"), settings: options) }.contains("veryfast"))
  }

  @Test("A folder under the name of a video is refused") func aFolderUnderTheNameOfA() throws {
    let scratch = try Scratch()
    try FileManager.default.createDirectory(atPath: scratch.file("a.mp4"), withIntermediateDirectories: false)
    #expect(message { _ = try MP4Writer(path: scratch.file("a.mp4"), settings: settings()) }.contains("folder"))
  }

  @Test("What is no video is refused by the reader") func whatIsNoVideoIsRefusedBy() throws {
    let scratch = try Scratch()
    func make(_ name: String, _ data: Data) throws -> String {
      try data.write(to: URL(fileURLWithPath: scratch.file(name)))
      return scratch.file(name)
    }
    let files = [
      scratch.file("missing.mp4"), scratch.path, try make("empty.mp4", Data()),
      try make("noise.mp4", Data((0..<5000).map { UInt8(truncatingIfNeeded: $0 &* $0 &* 31 >> 3) })),
      try make("text.txt", Data("hello, world\n".utf8)), try make("text.mp4", Data("hello, world\n".utf8)),
      try make("list.m3u8", Data("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n".utf8)),
    ]
    for file in files {
      let text = message { _ = try VideoReader.frames(of: file) }
      #expect(text.hasPrefix("cannot read '\(file)'"), "\(text)")
      #expect(!text.contains("\n"))
    }
  }
}
