import Foundation
import Testing
import VideoIO

@Suite struct MP4WriterTests {
  @Test("What is written is read back: count, rate, size, tags and pictures") func whatIsWrittenIsReadBackCount() throws
  {
    let scratch = try Scratch()
    let frames = movingFrames(0..<21)
    let writer = try MP4Writer(path: scratch.file("a.mp4"), settings: settings(fps: "24000/1001"))
    try writer.write(Array(frames[..<9]))
    try writer.write(Array(frames[9...]))
    #expect(try writer.finish() == 21)

    let reader = try VideoReader(path: scratch.file("a.mp4"))
    #expect(reader.info.width == 64 && reader.info.height == 48)
    #expect(reader.info.frameRate == (try FrameRate(24000, 1001)))
    #expect(reader.info.codec == "h264")
    #expect(reader.info.pixelFormat == "yuv420p")
    #expect(reader.info.matrix == "bt709")
    #expect(reader.info.primaries == "bt709")
    #expect(reader.info.transfer == "bt709")
    #expect(reader.info.range == "tv")
    #expect(try VideoReader.frameCount(of: scratch.file("a.mp4")) == 21)
    let read = try VideoReader.frames(of: scratch.file("a.mp4"))
    #expect(read.count == 21)
    for (index, (a, b)) in zip(frames, read).enumerated() {
      // The edge of the disc costs the most: yuv420p halves the resolution of colour.
      #expect(a.psnr(to: b) > 30, "frame \(index): \(a.psnr(to: b)) dB")
    }
  }

  @Test("Smooth pictures come back with at least 42 dB") func smoothPicturesComeBackWithAtLeast() throws {
    let scratch = try Scratch()
    let frames = (0..<12).map { t in
      var pixels = [UInt8]()
      for y in 0..<96 {
        for x in 0..<128 { pixels += [UInt8(30 + x + t), UInt8(40 + 2 * y), UInt8(200 - x / 2 - y)] }
      }
      return RGBFrame(width: 128, height: 96, pixels: pixels)
    }
    let writer = try MP4Writer(path: scratch.file("a.mp4"), settings: settings(128, 96))
    try writer.write(frames)
    try writer.finish()
    for (a, b) in zip(frames, try VideoReader.frames(of: scratch.file("a.mp4"))) {
      #expect(a.psnr(to: b) > 42, "\(a.psnr(to: b)) dB")
    }
  }

  @Test(
    "Ffprobe sees h264, the exact rate and count, BT.709 and the texts",
    arguments: [("16", "16/1"), ("23.976", "24000/1001"), ("12.5", "25/2"), ("30000/1001", "30000/1001")])
  func ffprobeSeesH264TheExactRateAnd(fps: String, expected: String) throws {
    let scratch = try Scratch()
    var options = try settings(fps: fps)
    options.metadata = ["comment": "seed=7", "description": "a red ball; \"quoted\" = ünïcode"]
    let writer = try MP4Writer(path: scratch.file("a.mp4"), settings: options)
    for start in stride(from: 0, to: 36, by: 12) { try writer.write(movingFrames(start..<start + 12)) }
    try writer.write(movingFrames(36..<37))
    try writer.finish()
    guard let probe = try probe(scratch.file("a.mp4")) else { return }
    #expect(probe["codec_name"] == "h264")
    #expect(probe["pix_fmt"] == "yuv420p")
    #expect(probe["nb_read_frames"] == "37")
    #expect(probe["r_frame_rate"] == expected)
    #expect(probe["avg_frame_rate"] == expected)
    #expect(probe["color_space"] == "bt709")
    #expect(probe["color_primaries"] == "bt709")
    #expect(probe["color_transfer"] == "bt709")
    #expect(probe["color_range"] == "tv")
    #expect(probe["start_pts"] == "0")
    #expect(probe["sample_aspect_ratio"] == "1:1")
    #expect(probe["TAG:comment"] == "seed=7")
    #expect(probe["TAG:description"] == "a red ball; \"quoted\" = ünïcode")
  }

  @Test("Time stamps are evenly spaced across chunks") func timeStampsAreEvenlySpacedAcrossChunks() throws {
    let scratch = try Scratch()
    let writer = try MP4Writer(path: scratch.file("a.mp4"), settings: settings())
    for range in [0..<1, 1..<2, 2..<14, 14..<16, 16..<17] { try writer.write(movingFrames(range)) }
    try writer.finish()
    let arguments = [
      "-v", "error", "-show_entries", "packet=pts_time,dts_time", "-of", "csv=p=0", scratch.file("a.mp4"),
    ]
    guard let result = try run("ffprobe", arguments) else { return }
    let times = result.output.split(separator: "\n").map { $0.split(separator: ",").compactMap { Double($0) } }
    #expect(times.count == 17)
    for (index, pair) in times.enumerated() {
      #expect(pair.count == 2 && pair.allSatisfy { abs($0 - Double(index) / 16) < 1e-5 }, "frame \(index): \(pair)")
    }
  }

  @Test("Every chunk starts with a key frame, and no other frame of a short one does")
  func everyChunkStartsWithAKeyFrame() throws {
    let scratch = try Scratch()
    let writer = try MP4Writer(path: scratch.file("a.mp4"), settings: settings())
    try writer.write(movingFrames(0..<9))
    // A chunk may come in parts.
    try writer.write(movingFrames(9..<13), endsChunk: false)
    try writer.write(movingFrames(13..<21), endsChunk: true)
    try writer.write(movingFrames(21..<33))
    try writer.finish()
    let keys = try VideoReader.keyFrames(of: scratch.file("a.mp4"))
    #expect(keys.indices.filter { keys[$0] } == [0, 9, 21])
  }

  @Test("A copy taken while the writer runs holds all frames of the finished chunks")
  func aCopyTakenWhileTheWriterRuns() throws {
    let scratch = try Scratch()
    let writer = try MP4Writer(path: scratch.file("a.mp4"), settings: settings())
    for chunk in 0..<4 {
      try writer.write(movingFrames(chunk * 12..<chunk * 12 + 12))
      if chunk == 2 { try writer.write(movingFrames(36..<40), endsChunk: false) }
      let copy = scratch.file("copy-\(chunk).mp4")
      try FileManager.default.copyItem(atPath: scratch.file("a.part.mp4"), toPath: copy)
      #expect(try VideoReader.frames(of: copy).count == chunk * 12 + 12)
      if let probe = try probe(copy) { #expect(probe["nb_read_frames"] == "\(chunk * 12 + 12)") }
      #expect(!scratch.exists("a.mp4"))
      if chunk == 2 { break }
    }
    writer.abandon()
    #expect(try scratch.names().contains("a.part.mp4"))
    #expect(!scratch.exists("a.mp4"))
  }

  @Test("A file cut off inside a fragment's samples reads up to the cut") func aFileCutOffInsideAFragments() throws {
    let scratch = try Scratch()
    let writer = try MP4Writer(path: scratch.file("a.mp4"), settings: settings())
    try writer.write(movingFrames(0..<12))
    let first = try scratch.bytes("a.part.mp4").count
    try writer.write(movingFrames(12..<24))
    let both = try scratch.bytes("a.part.mp4")
    writer.abandon()
    let moof = Int(both[first + 3]) + Int(both[first + 2]) << 8
    #expect(both[first + 4..<first + 8] == Data("moof".utf8))
    for cut in [first] + stride(from: first + moof + 8, to: both.count, by: 97) {
      try both.prefix(cut).write(to: URL(fileURLWithPath: scratch.file("cut.mp4")))
      let count = try VideoReader.frames(of: scratch.file("cut.mp4")).count
      #expect((12...24).contains(count), "cut at \(cut) of \(both.count): \(count) frames")
      #expect(try VideoReader.frameCount(of: scratch.file("cut.mp4")) == count)
    }
  }

  @Test("A process killed at any byte of a fragment leaves the chunks before it") func aProcessKilledAtAnyByteOf()
    throws
  {
    let scratch = try Scratch()
    let writer = try MP4Writer(path: scratch.file("a.mp4"), settings: settings())
    try writer.write(movingFrames(0..<12))
    let before = try scratch.bytes("a.part.mp4")
    try writer.write(movingFrames(12..<24))
    let fragment = try scratch.bytes("a.part.mp4").suffix(from: before.count)
    writer.abandon()
    // The states that `OutputFile.writeBoxes` goes through: the head says `free` until all else is there.
    let size = UInt32(fragment.count).bigEndian
    let disguised = withUnsafeBytes(of: size) { Data($0) } + Data("free".utf8) + fragment.dropFirst(8)
    for cut in [0, 3, 8, 9, 40, 100, 200, fragment.count / 2, fragment.count] {
      try (before + disguised.prefix(cut)).write(to: URL(fileURLWithPath: scratch.file("cut.mp4")))
      #expect(try VideoReader.frames(of: scratch.file("cut.mp4")).count == 12, "cut at \(cut)")
      if let probe = try probe(scratch.file("cut.mp4")) { #expect(probe["nb_read_frames"] == "12", "cut at \(cut)") }
    }
  }

  @Test("Equal frames give equal bytes, and the bytes of a chunk depend on that chunk alone")
  func equalFramesGiveEqualBytesAndThe() throws {
    let scratch = try Scratch()
    for name in ["a.mp4", "b.mp4"] {
      let writer = try MP4Writer(path: scratch.file(name), settings: settings())
      for start in stride(from: 0, to: 36, by: 12) { try writer.write(movingFrames(start..<start + 12)) }
      try writer.finish()
    }
    #expect(try scratch.bytes("a.mp4") == scratch.bytes("b.mp4"))
    #expect(try scratch.bytes("a.mp4").count > 2000)
  }

  @Test("Chunks in parts are the same bytes as whole chunks") func chunksInPartsAreTheSameBytes() throws {
    let scratch = try Scratch()
    for (name, step) in [("a.mp4", 12), ("b.mp4", 4)] {
      let writer = try MP4Writer(path: scratch.file(name), settings: settings())
      for start in stride(from: 0, to: 24, by: step) {
        try writer.write(movingFrames(start..<start + step), endsChunk: (start + step) % 12 == 0)
      }
      try writer.finish()
    }
    #expect(try scratch.bytes("a.mp4") == scratch.bytes("b.mp4"))
  }

  @Test(
    "Pure colours come back within three levels",
    arguments: [
      (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128), (200, 120, 40), (20, 90, 160),
    ])
  func pureColoursComeBackWithinThreeLevels(red: Int, green: Int, blue: Int) throws {
    let scratch = try Scratch()
    let frame = RGBFrame(width: 32, height: 32, red: UInt8(red), green: UInt8(green), blue: UInt8(blue))
    let writer = try MP4Writer(path: scratch.file("a.mp4"), settings: settings(32, 32))
    try writer.write([frame, frame])
    try writer.finish()
    let read = try #require(try VideoReader.frames(of: scratch.file("a.mp4")).last)
    let worst = zip(read.pixels, frame.pixels).map { abs(Int($0) - Int($1)) }.max() ?? 255
    #expect(worst <= 3, "\(read[16, 16]) for \(frame[16, 16])")
  }

  @Test("The samples are BT.709 limited, by the formula") func theSamplesAreBT709LimitedBy() throws {
    let scratch = try Scratch()
    let writer = try MP4Writer(path: scratch.file("a.mp4"), settings: settings(32, 32))
    try writer.write([RGBFrame(width: 32, height: 32, red: 220, green: 60, blue: 30)])
    try writer.finish()
    guard
      let result = try run(
        "ffmpeg", ["-v", "error", "-i", scratch.file("a.mp4"), "-f", "rawvideo", scratch.file("yuv")])
    else { return }
    #expect(result.status == 0)
    let samples = try scratch.bytes("yuv")
    let (r, g, b) = (220.0 / 255, 60.0 / 255, 30.0 / 255)
    let y = 0.2126 * r + 0.7152 * g + 0.0722 * b
    let expected = [16 + 219 * y, 128 + 224 * (b - y) / 1.8556, 128 + 224 * (r - y) / 1.5748]
    for (plane, offset) in [0, 1024, 1280].enumerated() {
      #expect(abs(Double(samples[offset]) - expected[plane]) < 1.5, "plane \(plane): \(samples[offset])")
    }
  }

  @Test("An older file is replaced only at the end") func anOlderFileIsReplacedOnlyAt() throws {
    let scratch = try Scratch()
    let old = Data("old".utf8)
    try old.write(to: URL(fileURLWithPath: scratch.file("a.mp4")))
    let writer = try MP4Writer(path: scratch.file("a.mp4"), settings: settings())
    try writer.write(movingFrames(0..<5))
    #expect(try scratch.bytes("a.mp4") == old)
    try writer.finish()
    #expect(try scratch.bytes("a.mp4") != old)
    #expect(try scratch.names() == ["a.mp4"])
  }

  @Test("Two writers of one output do not mix") func twoWritersOfOneOutputDoNot() throws {
    let scratch = try Scratch()
    let writer = try MP4Writer(path: scratch.file("a.mp4"), settings: settings())
    #expect(throws: VideoIOError.self) { try MP4Writer(path: scratch.file("a.mp4"), settings: settings()) }
    try writer.write(movingFrames(0..<5))
    try writer.finish()
    #expect(try VideoReader.frames(of: scratch.file("a.mp4")).count == 5)
  }

  @Test("A video without frames and one with a single frame can be finished") func aVideoWithoutFramesAndOneWith()
    throws
  {
    let scratch = try Scratch()
    let empty = try MP4Writer(path: scratch.file("empty.mp4"), settings: settings())
    #expect(try empty.finish() == 0)
    let single = try MP4Writer(path: scratch.file("single.mp4"), settings: settings())
    try single.write(movingFrames(0..<1))
    #expect(try single.finish() == 1)
    #expect(try VideoReader.frames(of: scratch.file("single.mp4")).count == 1)
  }
}
