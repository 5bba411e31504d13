import Foundation
import Testing
import VideoIO

@Suite struct Y4MWriterTests {
  @Test("Frames come back within two levels at any size", arguments: [(64, 48), (33, 17)])
  func framesComeBackWithinTwoLevelsAt(width: Int, height: Int) throws {
    let scratch = try Scratch()
    let frames = movingFrames(0..<5, width: width, height: height)
    let sink = try FrameSinks.open(path: scratch.file("a.y4m"), settings: settings(width, height, fps: "30000/1001"))
    try sink.write(frames)
    #expect(try scratch.names() == ["a.part.y4m"])
    #expect(try sink.finish() == 5)
    #expect(try scratch.names() == ["a.y4m"])
    let bytes = try scratch.bytes("a.y4m")
    let header = "YUV4MPEG2 W\(width) H\(height) F30000:1001 Ip A1:1 C444 XYSCSS=444 XCOLORRANGE=LIMITED\n"
    #expect(bytes.starts(with: Array(header.utf8)))
    #expect(bytes.count == header.utf8.count + 5 * (6 + 3 * width * height))
    let reader = try VideoReader(path: scratch.file("a.y4m"))
    #expect(reader.info.frameRate == (try FrameRate(30000, 1001)))
    for frame in frames {
      let read = try #require(try reader.next())
      let worst = zip(read.pixels, frame.pixels).map { abs(Int($0) - Int($1)) }.max() ?? 255
      #expect(worst <= 2, "\(worst) levels off")
    }
    #expect(try reader.next() == nil)
  }

  @Test("Ffmpeg sees the same colours") func ffmpegSeesTheSameColours() throws {
    let scratch = try Scratch()
    let frame = RGBFrame(width: 32, height: 32, red: 220, green: 60, blue: 30)
    let sink = try FrameSinks.open(path: scratch.file("a.y4m"), settings: settings(32, 32))
    try sink.write([frame])
    try sink.finish()
    guard try run("ffmpeg", ["-v", "error", "-i", scratch.file("a.y4m"), scratch.file("a.png")]) != nil else { return }
    let read = try PNG.read(scratch.file("a.png"))
    let worst = zip(read.pixels, frame.pixels).map { abs(Int($0) - Int($1)) }.max() ?? 255
    #expect(worst <= 2, "\(read[16, 16])")
  }
}

@Suite struct PNGTests {
  @Test("Pictures come back exactly", arguments: [(1, 1), (33, 17), (64, 48), (7, 300)])
  func picturesComeBackExactly(width: Int, height: Int) throws {
    let scratch = try Scratch()
    let frame = movingFrames(3..<4, width: width, height: height)[0]
    try PNG.write(frame, to: scratch.file("a.png"))
    #expect(try PNG.read(scratch.file("a.png")) == frame)
    let grey = (0..<width * height).map { UInt8(truncatingIfNeeded: $0 * 7) }
    try PNG.write(grey: grey, width: width, height: height, to: scratch.file("a.png"))
    #expect(try PNG.read(scratch.file("a.png")).pixels == grey.flatMap { [$0, $0, $0] })
    #expect(try scratch.names() == ["a.png"])
  }

  @Test("Noise, which does not shrink, has room in the file") func noiseWhichDoesNotShrinkHasRoom() throws {
    let scratch = try Scratch()
    var generator = SystemRandomNumberGenerator()
    for size in [1, 2, 3, 100, 301] {
      let noise = RGBFrame(
        width: size, height: size,
        pixels: (0..<size * size * 3).map { _ in UInt8.random(in: 0...255, using: &generator) })
      try PNG.write(noise, to: scratch.file("a.png"))
      #expect(try PNG.read(scratch.file("a.png")) == noise)
    }
  }

  @Test("Broken and missing files are refused") func brokenAndMissingFilesAreRefused() throws {
    let scratch = try Scratch()
    try PNG.write(movingFrames(0..<1)[0], to: scratch.file("a.png"))
    let whole = try scratch.bytes("a.png")
    for cut in [0, 7, 30, whole.count / 2] {
      try whole.prefix(cut).write(to: URL(fileURLWithPath: scratch.file("cut.png")))
      #expect(throws: VideoIOError.self, "cut at \(cut)") { try PNG.read(scratch.file("cut.png")) }
    }
    #expect(throws: VideoIOError.self) { try PNG.read(scratch.file("missing.png")) }
  }

  @Test("A full disk is named and leaves nothing") func aFullDiskIsNamedAndLeaves() throws {
    let scratch = try Scratch()
    try FileManager.default.createSymbolicLink(atPath: scratch.file("a.png.part"), withDestinationPath: "/dev/full")
    let path = scratch.file("a.png")
    #expect(throws: VideoIOError.writeFailed(path: path, reason: reason(errno: ENOSPC))) {
      try PNG.write(movingFrames(0..<1)[0], to: path)
    }
    #expect(try scratch.names() == [])
  }
}

@Suite struct PNGSequenceTests {
  @Test(
    "A sequence gets its folder at the end",
    arguments: [
      ("shots/", "shots", "00000.png"), ("shots", "shots", "00000.png"), ("shots/f_%03d.png", "shots", "f_000.png"),
      ("shots/%d.png", "shots", "0.png"),
    ])
  func aSequenceGetsItsFolderAtThe(path: String, folder: String, first: String) throws {
    let scratch = try Scratch()
    if path == "shots" {
      try FileManager.default.createDirectory(atPath: scratch.file("shots"), withIntermediateDirectories: false)
    }
    let frames = movingFrames(0..<12, width: 21, height: 13)
    let sink = try FrameSinks.open(path: scratch.file(path), settings: settings(21, 13))
    try sink.write(frames)
    #expect(try scratch.names("shots.part").count == 12)
    #expect(try sink.finish() == 12)
    #expect(try scratch.names() == [folder])
    #expect(try scratch.names(folder).count == 12)
    #expect(try PNG.read(scratch.file("\(folder)/\(first)")) == frames[0])
  }

  @Test("An older sequence is replaced whole, anything else is left alone")
  func anOlderSequenceIsReplacedWholeAnything() throws {
    let scratch = try Scratch()
    for count in [9, 4] {
      let sink = try FrameSinks.open(path: scratch.file("shots/"), settings: settings())
      try sink.write(movingFrames(0..<count))
      try sink.finish()
      #expect(try scratch.names("shots").count == count)
    }
    try Data("mine".utf8).write(to: URL(fileURLWithPath: scratch.file("shots/notes.txt")))
    #expect(throws: VideoIOError.self) { try FrameSinks.open(path: scratch.file("shots/"), settings: settings()) }
    #expect(try scratch.names("shots").count == 5)
  }

  @Test("An abandoned sequence stays under its temporary name, and the next run starts over")
  func anAbandonedSequenceStaysUnderItsTemporary() throws {
    let scratch = try Scratch()
    let sink = try FrameSinks.open(path: scratch.file("shots/"), settings: settings())
    try sink.write(movingFrames(0..<9))
    sink.abandon()
    #expect(try scratch.names() == ["shots.part"])
    let next = try FrameSinks.open(path: scratch.file("shots/"), settings: settings())
    try next.write(movingFrames(0..<2))
    try next.finish()
    #expect(try scratch.names("shots") == ["00000.png", "00001.png"])
  }

  @Test(
    "Patterns that are none, and folders that are shared, are refused",
    arguments: ["%05d.png", "./%05d.png", "shots/%05d-%d.png", "shots/%s.png", "shots/%%.png", "/", "./", "../"])
  func patternsThatAreNoneAndFoldersThat(path: String) throws {
    #expect(throws: VideoIOError.self) { try FrameSinks.open(path: path, settings: settings()) }
  }
}
