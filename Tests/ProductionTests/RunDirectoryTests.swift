import Foundation
import Production
import Tensors
import Testing
import VideoIO

/// What a run leaves beside its video.
@Suite struct RunDirectoryTests {
  private let folder = NSTemporaryDirectory() + "longtake-run-\(UUID().uuidString)"

  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }

  private func entry(_ index: Int) -> EventLog.Entry {
    EventLog.Entry(
      index: index, firstFrame: 3 * index, frames: 3, started: 1, ended: 2, denoiseMs: 1, cleanKvMs: 1, decodeMs: 1,
      encodeMs: 1, checkpointMs: nil, checkpointBytes: nil, kvBytes: 1, residentBytes: 1, visibleFrames: 3, density: 1,
      videoFrames: 9, prompt: "a \"red\" ball / über")
  }
  private func indices(_ name: String) throws -> [Int] {
    struct Line: Decodable { let index: Int }
    return try String(contentsOfFile: folder + "/" + name, encoding: .utf8).split(separator: "\n")
      .map { try JSONDecoder().decode(Line.self, from: Data($0.utf8)).index }
  }

  @Test("The log drops what is made again and a torn line, and never has more than two files")
  func theLogDropsWhatIsMadeAgain() throws {
    let path = folder + "/events.jsonl"
    var log = try EventLog(path: path, nextChunk: 0)
    for i in 0..<5 { try log.append(entry(i)) }
    let handle = try #require(FileHandle(forWritingAtPath: path))
    try handle.seekToEnd()
    try handle.write(contentsOf: Data("{\"index\":5,\"fir".utf8))
    log = try EventLog(path: path, nextChunk: 3)
    #expect(try indices("events.jsonl") == [0, 1, 2])
    for i in 3..<6 { try log.append(entry(i)) }
    #expect(try indices("events.jsonl") == [0, 1, 2, 3, 4, 5])

    log = try EventLog(path: path, nextChunk: 0, limit: 1000)
    for i in 0..<100 { try log.append(entry(i)) }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == ["events.1.jsonl", "events.jsonl"])
    let all = try indices("events.1.jsonl") + indices("events.jsonl")
    #expect(all == Array(100 - all.count..<100) && all.count < 12)
  }

  @Test("The preview is bounded, evenly spaced, and the same when it was stored on the way")
  func thePreviewIsBounded() throws {
    func picture(_ i: Int) -> RGBFrame {
      RGBFrame(width: 320, height: 200, red: UInt8(i % 256), green: UInt8(i / 256), blue: 7)
    }
    var (whole, resumed) = (PreviewSheet(), PreviewSheet())
    for i in 0..<700 {
      _ = whole.add(picture(i), frame: 12 * i, chunk: i)
      _ = resumed.add(picture(i), frame: 12 * i, chunk: i)
      if i % 97 == 5 {
        var state = StateBuilder()
        try resumed.save(to: &state)
        try state.write(to: folder + "/preview.state")
        #expect(state.byteCount <= PreviewSheet.most * 192 * 120 * 3)
        resumed = try PreviewSheet(from: SavedState(path: folder + "/preview.state"))
      }
    }
    try whole.write(to: folder + "/a.png")
    try resumed.write(to: folder + "/b.png")
    #expect(
      try Data(contentsOf: URL(fileURLWithPath: folder + "/a.png"))
        == Data(contentsOf: URL(fileURLWithPath: folder + "/b.png")))
    // 22 pictures, chunks 0, 32, ... 672.
    let sheet = try PNG.read(folder + "/a.png")
    #expect(sheet.width * sheet.height < 30 * 194 * 122)
  }

  @Test("A request survives its manifest") func aRequestSurvivesItsManifest() throws {
    var request = RunRequest()
    (request.prompt, request.model, request.checkpoint, request.output) = (
      "x \"y\"\n", "m", "c.safetensors", "o/%d.png"
    )
    (request.seed, request.seconds, request.height, request.width) = (.max, 1.0 / 3, 160, 256)
    request.frameRate = try FrameRate(24000, 1001)
    (request.mode, request.steps, request.timesteps, request.flowShift) = (.clip, 3, [900.1, 0.5], 2.5)
    (request.window, request.sink, request.positions, request.tile) = (.frames(12), 3, "window", "2x2")
    (request.growth.target, request.hierarchy.near, request.anchors.scale) = (0.5, 2, 1.5)
    (request.threads, request.rng, request.crf, request.checkpointEvery) = (3, .torch, 20, 4)
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.outputFormatting = [.sortedKeys]
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    let text = try encoder.encode(request)
    #expect(try encoder.encode(decoder.decode(RunRequest.self, from: text)) == text)
    let read = try decoder.decode(RunRequest.self, from: text)
    #expect(read.seed == .max && read.seconds == 1.0 / 3 && read.window == .frames(12))
    #expect(read.frameRate == request.frameRate && read.anchors == request.anchors)
  }

  @Test("A run directory belongs to one process at a time") func aRunDirectoryBelongsToOne() throws {
    let path = folder + "/run"
    do {
      let directory = try RunDirectory(creating: path)
      #expect(throws: RunError("another process is writing in the run directory \(path)")) {
        try RunDirectory(creating: path)
      }
      withExtendedLifetime(directory) {}
    }
    _ = try RunDirectory(opening: path)
  }
}
