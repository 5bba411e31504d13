import Foundation
import Testing
import VideoIO

/// Output that others follow while it grows.
@Suite struct LiveOutputTests {
  private static let run = [
    "--model", repository + "/weights/default", "-p", "a red star", "--size", "64x64", "--steps", "4", "--num-frames",
    "81",
    "--quiet",
  ]
  private let scratch: Scratch
  init() throws { scratch = try Scratch() }

  /// Frames of the playlist's chunks so far, and whether it has ended.
  private func playlist() -> (segments: Int, seconds: Double, isComplete: Bool)? {
    guard let text = try? String(contentsOfFile: scratch.file("live/live.m3u8"), encoding: .utf8) else { return nil }
    let lines = text.split(separator: "\n")
    let times = lines.filter { $0.hasPrefix("#EXTINF:") }.compactMap { Double($0.dropFirst(8).dropLast()) }
    return (times.count, times.reduce(0, +), lines.last == "#EXT-X-ENDLIST")
  }

  @Test("A playlist grows chunk by chunk, can be read at any moment, and has the frames of the file")
  func hls() throws {
    #expect(try runProgram("generate-video", Self.run + ["-o", "whole.mp4"], in: scratch.path).status == 0)
    let wanted = try VideoReader.frames(of: scratch.file("whole.mp4"))
    let process = program("generate-video", Self.run + ["-o", "live/live.m3u8"], in: scratch.path)
    try process.run()
    var seen: [Int] = []
    while process.isRunning {
      do {
        // Held while it is looked at: on a busy machine a small run ends within one look.
        kill(process.processIdentifier, SIGSTOP)
        defer { kill(process.processIdentifier, SIGCONT) }
        if let found = playlist(), found.segments > 0, seen.last != found.segments, !found.isComplete {
          // Segment after segment behind the header is what a player reads: all of it must be whole.
          var bytes = try Data(contentsOf: URL(fileURLWithPath: scratch.file("live/live-init.mp4")))
          for i in 0..<found.segments {
            bytes += try Data(contentsOf: URL(fileURLWithPath: scratch.file(String(format: "live/live-%06d.m4s", i))))
          }
          try bytes.write(to: URL(fileURLWithPath: scratch.file("so-far.mp4")))
          let frames = try VideoReader.frameCount(of: scratch.file("so-far.mp4"))
          #expect(frames == 12 * found.segments - 3 && abs(found.seconds * 16 - Double(frames)) < 1e-3)
          seen.append(found.segments)
        }
      }
      usleep(1000)
    }
    #expect(process.terminationStatus == 0)
    // It was met while it grew, and more than once.
    #expect(seen.count >= 2, "\(seen)")
    let end = try #require(playlist())
    #expect(end.segments == 7 && end.isComplete)
    // libavformat's own HLS reader finds the same frames as in the mp4.
    #expect(try VideoReader.frames(of: scratch.file("live/live.m3u8")) == wanted)
    #expect(try scratch.names("live").count == 10)  // playlist, header, record, 7 segments
    // A shorter run in the same place leaves nothing of the longer one.
    let short = try runProgram(
      "generate-video", Self.run.map { $0 == "81" ? "21" : $0 } + ["-o", "live/live.m3u8"], in: scratch.path)
    #expect(short.status == 0, "\(short.error)")
    #expect(try VideoReader.frameCount(of: scratch.file("live/live.m3u8")) == 21)
    #expect(try scratch.names("live").filter { $0.hasSuffix(".m4s") }.count == 2)
  }

  @Test("A stream without end is a window on its latest segments, also after a kill, and does not grow")
  func hlsWithoutEnd() throws {
    let flags = Self.run.filter { !["--num-frames", "81"].contains($0) }.map { $0 == "4" ? "1" : $0 }
    let live = flags + ["--forever", "--keep", "3", "-o", "live/live.m3u8", "--run-dir", "r"]
    func go(_ arguments: [String], to chunk: Int, with number: Int32) throws -> Int32 {
      let process = program("generate-video", arguments, in: scratch.path)
      process.standardError = FileHandle.nullDevice
      try process.run()
      let least = String(format: "ckpt-%06d.json", chunk)
      // Only the newest two are there at a time.
      while process.isRunning, !((try? scratch.names("r/state")) ?? []).contains(where: { $0 >= least }) { usleep(500) }
      kill(process.processIdentifier, number)
      process.waitUntilExit()
      return process.terminationStatus
    }
    #expect(try go(live, to: 8, with: SIGKILL) == SIGKILL)
    #expect(try go(["resume", "r", "-q"], to: 20, with: SIGTERM) == 75)
    let text = try String(contentsOfFile: scratch.file("live/live.m3u8"), encoding: .utf8)
    let names = text.split(separator: "\n").filter { $0.hasSuffix(".m4s") }.map(String.init)
    let first = try #require(names.first.flatMap { Int($0.dropFirst(5).prefix(6)) })
    #expect(first >= 17 && names == (first..<first + 3).map { String(format: "live-%06d.m4s", $0) }, "\(text)")
    #expect(text.contains("#EXT-X-MEDIA-SEQUENCE:\(first)\n") && !text.contains("EVENT") && !text.contains("ENDLIST"))
    #expect(text.contains("# frames before: \(12 * first - 3)\n"), "\(text)")
    #expect(names.allSatisfy { scratch.exists("live/" + $0) })
    // Beside those, as many older ones, which a player may still be fetching.
    #expect(try scratch.names("live").filter { $0.hasSuffix(".m4s") }.count == 6)
    // A reader of a playlist without an end asks for more again and again, for minutes.
    try (text + "#EXT-X-ENDLIST\n").write(toFile: scratch.file("live/ended.m3u8"), atomically: true, encoding: .utf8)
    #expect(try VideoReader.frameCount(of: scratch.file("live/ended.m3u8")) == 36)
    // Another run in the same place leaves nothing of it.
    let short = Self.run.map { $0 == "81" ? "9" : $0 } + ["-o", "live/live.m3u8"]
    #expect(try runProgram("generate-video", short, in: scratch.path).status == 0)
    #expect(try scratch.names("live").filter { $0.hasSuffix(".m4s") } == ["live-000000.m4s"])
  }

  @Test(
    "ffmpeg's own player shows each chunk of a growing playlist when it is there",
    .enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/ffmpeg")))
  func ffmpegFollows() throws {
    let process = program("generate-video", Self.run + ["-o", "live/live.m3u8"], in: scratch.path)
    try process.run()
    while process.isRunning, (playlist()?.segments ?? 0) < 2 { usleep(1000) }
    // However busy the machine is, the run cannot end before the player showed what is there.
    kill(process.processIdentifier, SIGSTOP)
    defer { kill(process.processIdentifier, SIGCONT) }
    try #require(playlist()?.isComplete == false)
    let player = Process()
    player.executableURL = URL(fileURLWithPath: "/usr/bin/ffmpeg")
    player.currentDirectoryURL = URL(fileURLWithPath: scratch.path)
    player.arguments = [
      "-v", "error", "-live_start_index", "0", "-i", "live/live.m3u8", "-f", "framemd5", "-flush_packets", "1", "-",
    ]
    let pipe = Pipe()
    player.standardOutput = pipe
    player.standardInput = FileHandle.nullDevice
    try player.run()
    defer { player.terminate() }
    var text = ""
    var count: Int { text.split(separator: "\n").count { $0.hasPrefix("0,") } }
    var ready = pollfd(fd: pipe.fileHandleForReading.fileDescriptor, events: Int16(POLLIN), revents: 0)
    while count < 9, poll(&ready, 1, 60_000) > 0 {
      let part = pipe.fileHandleForReading.availableData
      if part.isEmpty { break }
      text += String(decoding: part, as: UTF8.self)
    }
    #expect(count >= 9, "the first chunk is not shown while the second is the newest")
    kill(process.processIdentifier, SIGCONT)
    text += String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    player.waitUntilExit()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0 && player.terminationStatus == 0)
    #expect(count == 81, "\(text)")
  }

  @Test("A killed stream goes on in its playlist with the same bytes")
  func hlsResumed() throws {
    let flags = Self.run + ["--checkpoint-every", "1"]
    #expect(
      try runProgram("generate-video", flags + ["-o", "live/live.m3u8", "--run-dir", "a"], in: scratch.path).status == 0
    )
    let names = try scratch.names("live").filter { !$0.hasSuffix(".json") }
    let wanted = names.map { FileManager.default.contents(atPath: scratch.file("live/" + $0)) }
    try FileManager.default.removeItem(atPath: scratch.file("live"))
    let process = program("generate-video", flags + ["-o", "live/live.m3u8", "--run-dir", "b"], in: scratch.path)
    try process.run()
    while process.isRunning, !scratch.exists("b/state/ckpt-000003.json") { usleep(1000) }
    kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
    let result = try runProgram("generate-video", ["resume", "b"], in: scratch.path)
    #expect(result.status == 0, "\(result.error)")
    #expect(try scratch.names("live").filter { !$0.hasSuffix(".json") } == names)
    #expect(names.map { FileManager.default.contents(atPath: scratch.file("live/" + $0)) } == wanted)
  }

  @Test("Standard output gives whole chunks while the run goes on")
  func standardOutput() throws {
    // Of a size at which a chunk takes much longer than the pause that marks its end below.
    let run = Self.run.map { $0 == "64x64" ? "256x160" : $0 }
    let process = program("generate-video", run + ["-o", "-"], in: scratch.path)
    let pipe = Pipe()
    process.standardOutput = pipe
    // A short pipe: the run cannot end, however busy the machine is, before what it wrote was read.
    let setPipeSize: Int32 = 1031  // F_SETPIPE_SZ of Linux, which the C library's module leaves out
    #expect(fcntl(pipe.fileHandleForWriting.fileDescriptor, setPipeSize, 4096) > 0)
    try process.run()
    var bytes = Data()
    var counts: [Int] = []
    while true {
      let part = pipe.fileHandleForReading.availableData
      if part.isEmpty { break }
      bytes += part
      // A chunk may be more than a pipe holds: what follows at once belongs to it.
      var ready = pollfd(fd: pipe.fileHandleForReading.fileDescriptor, events: Int16(POLLIN), revents: 0)
      while poll(&ready, 1, 50) > 0 {
        let more = pipe.fileHandleForReading.availableData
        if more.isEmpty { break }
        bytes += more
      }
      guard process.isRunning else { continue }
      try bytes.write(to: URL(fileURLWithPath: scratch.file("so-far.mp4")))
      if let frames = try? VideoReader.frameCount(of: scratch.file("so-far.mp4")), frames > 0, counts.last != frames {
        counts.append(frames)
      }
    }
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    #expect(counts.count >= 2 && counts.allSatisfy { ($0 + 3) % 12 == 0 }, "\(counts)")
    #expect(try runProgram("generate-video", run + ["-o", "whole.mp4"], in: scratch.path).status == 0)
    #expect(FileManager.default.contents(atPath: scratch.file("whole.mp4")) == bytes)
  }
}
