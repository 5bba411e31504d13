import Foundation
import SparseAttention
import Testing
import VideoIO

/// From a run that notes its attention to maps that a person can look at.
@Suite struct DumpAttentionTests {
  private static let model = repository + "/weights/default"

  /// 21 grey frames of 64x32 and the records of two chunks: of chunk 1, head 2 of layers 0 and 3.
  ///
  /// Frames are 2 x 2 pages. In chunk 1 one page of frame 0 persists, frame 2 is in the window.
  private func makeRun(in scratch: Scratch) throws {
    try FileManager.default.createDirectory(
      atPath: scratch.file("run/chunks"), withIntermediateDirectories: true)
    let writer = try MP4Writer(
      path: scratch.file("run/video.mp4"), settings: OutputSettings(width: 64, height: 32, frameRate: FrameRate(16)))
    try writer.write((0..<21).map { _ in RGBFrame(width: 64, height: 32, red: 150, green: 150, blue: 150) })
    _ = try writer.finish()
    let geometry = try PageGeometry(rows: 2, columns: 4, tile: PageTile(rows: 1, columns: 2))
    for chunk in 0..<2 {
      let own = geometry.pageIDs(firstFrame: 3 * chunk, frames: 3)
      let old = chunk == 0 ? [] : [PageID(frame: 0, tile: 1)] + (0..<4).map { PageID(frame: 2, tile: $0) }
      let pages = old + own
      // Every tile reads the oldest page and its own.
      let reads = (0..<12).map { tile in pages.indices.map { $0 == 0 || $0 == old.count + tile } }
      let reading = AttentionRecord.Reading(
        reads: reads, mass: pages.indices.map { $0 == 0 ? 6 : 6 / Float(pages.count - 1) })
      let heads = [0, 3].map { layer in
        AttentionRecord.Head(
          layer: layer, head: 2, pages: pages, persistent: chunk, passes: [.step(1): reading, .clean: reading])
      }
      try AttentionRecord(
        chunk: chunk, firstFrame: 3 * chunk, frames: 3, geometry: geometry, recipe: "sparse-forcing", heads: heads
      ).write(to: scratch.file("run/chunks/00000\(chunk).attention.safetensors"))
    }
  }

  private func dump(_ arguments: String..., in scratch: Scratch) throws -> ProgramResult {
    try runProgram("dump-frames", arguments, in: scratch.path)
  }

  @Test("Kept pages are bright and framed in the colour of their kind, all else is dim")
  func keptPagesAreBrightAndFramedIn() throws {
    let scratch = try Scratch()
    try makeRun(in: scratch)
    let result = try dump("run", "--attention", "-o", "maps", in: scratch)
    #expect(result.status == 0 && result.error == "", "\(result)")
    #expect(
      try scratch.names("maps") == [
        "attention-000000.safetensors", "attention-000001.safetensors", "attention-layer00-head02.png",
        "attention-layer03-head02.png",
      ])
    let map = try PNG.read(scratch.file("maps/attention-layer03-head02.png"))
    // The same layout: two bands of three lines, a column for each of the 6 frames.
    var layout = TileSheet(title: "", subtitle: "", legend: [], cellWidth: 64, cellHeight: 32, columns: 24)
    let lines = Array(repeating: TileSheet.Line(name: "", cells: []), count: 3)
    let heads = Array(repeating: (text: "", ink: Ink.white), count: 6)
    layout.bands = Array(repeating: TileSheet.Band(title: "", heads: heads, lines: lines), count: 2)
    #expect(map.height == layout.height)
    /// Between a tile's border and the number in its middle, and its corner.
    func pixels(line: Int, frame: Int, tile: Int) -> (inside: [Int], corner: [Int]) {
      let (x, y) = layout.origin(band: 1, line: line, cell: frame)
      let (left, top) = (x + tile % 2 * 32, y + tile / 2 * 16)
      let (inside, corner) = (map[top + 3, left + 3], map[top, left])
      return (
        [inside.red, inside.green, inside.blue].map(Int.init), [corner.red, corner.green, corner.blue].map(Int.init)
      )
    }
    let kept = pixels(line: 0, frame: 0, tile: 1)
    #expect(kept.corner == [255, 190, 46] && kept.inside.allSatisfy { abs($0 - 150) <= 4 }, "\(kept)")
    for (frame, tile) in [(0, 0), (0, 3), (1, 2)] {
      let gone = pixels(line: 0, frame: frame, tile: tile)
      #expect(gone.inside.allSatisfy { abs($0 - 45) <= 4 } && gone.corner == gone.inside, "\(frame), \(tile): \(gone)")
    }
    #expect(pixels(line: 0, frame: 2, tile: 0).corner == [92, 178, 255])
    #expect(pixels(line: 0, frame: 5, tile: 0).corner == [112, 226, 128])
    // The persistent page is read by all (white), an unread page of the window is dark, the others are read by one of 12.
    let (read, unread) = (pixels(line: 1, frame: 0, tile: 1).inside, pixels(line: 1, frame: 2, tile: 0).inside)
    #expect(read.allSatisfy { $0 > 190 } && unread.allSatisfy { $0 < 70 }, "\(read), \(unread)")
    // 17 pages, of which the first has half of all mass: 8.5 times an equal share, the end of the scale.
    let hot = pixels(line: 2, frame: 0, tile: 1).inside
    let cool = pixels(line: 2, frame: 2, tile: 0).inside
    #expect(hot[0] > 190 && hot[1] > 190, "\(hot)")
    #expect(cool[0] > cool[1] && cool[1] < 120, "\(cool)")
    // The numbers beside the maps are those of the run.
    let copy = try AttentionRecord(path: scratch.file("maps/attention-000001.safetensors"))
    #expect(copy == (try AttentionRecord(path: scratch.file("run/chunks/000001.attention.safetensors"))))
  }

  @Test("Chunks, layers, heads and a pass can be chosen, and a video elsewhere named") func chunksLayersHeadsAndAPass()
    throws
  {
    let scratch = try Scratch()
    try makeRun(in: scratch)
    #expect(
      try dump(
        "run", "--attention", "-o", "a", "--chunks", "1-", "--layers", "2-5", "--heads", "2", "--pass", "1", "--scale",
        "0.5", in: scratch
      ).status == 0)
    #expect(try scratch.names("a") == ["attention-000001.safetensors", "attention-layer03-head02.png"])
    #expect(try AttentionRecord(path: scratch.file("a/attention-000001.safetensors")).passes == [.step(1)])
    try FileManager.default.moveItem(atPath: scratch.file("run/video.mp4"), toPath: scratch.file("v.mp4"))
    let grey = try dump("run", "--attention", "-o", "b", in: scratch)
    #expect(grey.status == 0 && grey.text.contains("no video"), "\(grey)")
    let named = try dump("run", "--attention", "-o", "c", "--video", "v.mp4", in: scratch)
    #expect(named.status == 0 && !named.text.contains("no video"), "\(named)")
  }

  @Test("What is missing is said in one line") func whatIsMissingIsSaidInOneLine() throws {
    let scratch = try Scratch()
    try makeRun(in: scratch)
    try FileManager.default.createDirectory(atPath: scratch.file("empty/chunks"), withIntermediateDirectories: true)
    for (arguments, words) in [
      (["empty", "--attention", "-o", "x"], "recorded no attention; make it with generate-video --run-dir DIR"),
      (["run/video.mp4", "--attention", "-o", "x"], "records of attention are in run directories"),
      (["run", "--attention", "-o", "x", "--chunks", "7"], "no such chunk was recorded; there are 0, 1"),
      (["run", "--attention", "-o", "x", "--layers", "1"], "no such layer was recorded; there are 0, 3"),
      (["run", "--attention", "-o", "x", "--heads", "0"], "no such head was recorded; there are 2"),
      (["run", "--attention", "-o", "x", "--pass", "3"], "pass 3 was not recorded; there are 1, clean"),
    ] {
      let result = try runProgram("dump-frames", arguments, in: scratch.path)
      #expect(result.status == 1 && result.error.contains(words), "\(result)")
      #expect(result.error.filter(\.isNewline).count == 1 && !scratch.exists("x"))
    }
    for arguments in [
      ["run", "--attention"], ["run", "--attention", "-o", "x", "--frames", "3"], ["run", "-o", "x", "--chunks", "1"],
      ["run", "--attention", "-o", "x", "--pass", "noisy"], ["run", "--attention", "-o", "x", "--layers", "3-1"],
    ] {
      let result = try runProgram("dump-frames", arguments, in: scratch.path)
      #expect(result.status == 2 && result.error.filter(\.isNewline).count == 1, "\(arguments): \(result)")
    }
  }

  @Test("A run notes what was asked for and nothing else, and makes the same video")
  func aRunNotesWhatWasAskedFor() throws {
    let scratch = try Scratch()
    let quick = [
      "-p", "a red star over purple hills", "--model", Self.model, "--steps", "2", "--num-frames", "33", "--sparsity",
      "sparse-forcing", "-q",
    ]
    func generate(_ arguments: String...) throws -> ProgramResult {
      try runProgram("generate-video", quick + arguments, in: scratch.path)
    }
    #expect(try generate("--run-dir", "plain").status == 0)
    let result = try generate(
      "--run-dir", "run", "--record-attention", "--record-chunks", "1-", "--record-layers", "0,5", "--record-heads",
      "1-2", "--record-passes", "0,clean")
    #expect(result.status == 0, "\(result.error)")
    #expect(
      try scratch.names("run/chunks") == [
        "000000.latent.safetensors", "000001.attention.safetensors", "000001.latent.safetensors",
        "000002.attention.safetensors", "000002.latent.safetensors",
      ])
    func bytes(_ name: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: scratch.file(name))) }
    #expect(try bytes("run/video.mp4") == bytes("plain/video.mp4"))
    let record = try AttentionRecord(path: scratch.file("run/chunks/000001.attention.safetensors"))
    #expect(record.layerNumbers == [0, 5] && record.headNumbers == [1, 2] && record.passes == [.step(0), .clean])
    #expect(record.recipe == "sparse-forcing" && record.firstFrame == 3 && record.geometry.tilesPerFrame == 4)
    // The last chunk has no clean pass.
    let last = try AttentionRecord(path: scratch.file("run/chunks/000002.attention.safetensors"))
    #expect(last.passes == [.step(0)] && last.heads[0].persistent == 12 && last.heads[0].pages.count == 36)
    #expect(last.heads[0].passes[.step(0)]?.reads?.allSatisfy { $0.count { $0 } == 12 + 6 } == true)
    #expect(try dump("run", "--attention", "-o", "maps", "--layers", "5", in: scratch).status == 0)
    #expect(
      try scratch.names("maps").filter { $0.hasSuffix("png") }
        == ["attention-layer05-head01.png", "attention-layer05-head02.png"])
    // A later run without the flag leaves no record of this one.
    #expect(try generate("--run-dir", "run").status == 0)
    #expect(try scratch.names("run/chunks").allSatisfy { $0.hasSuffix(".latent.safetensors") })
  }

  @Test(
    "Recordings that cannot be had are refused before any work",
    arguments: [
      ["--record-attention"], ["--run-dir", "r", "--record-layers", "1"],
      ["--run-dir", "r", "--record-attention", "--record-layers", "6"],
      ["--run-dir", "r", "--record-attention", "--record-heads", "3"],
      ["--run-dir", "r", "--record-attention", "--record-chunks", "7"],
      ["--run-dir", "r", "--record-attention", "--record-passes", "4"],
      ["--run-dir", "r", "--record-attention", "--record-passes", ""],
      ["--run-dir", "r", "--record-attention", "--mode", "clip", "--record-passes", "clean"],
    ])
  func recordingsThatCannotBeHadAreRefused(arguments: [String]) throws {
    let scratch = try Scratch()
    let result = try runProgram(
      "generate-video", ["-p", "a", "--model", Self.model] + arguments, in: scratch.path)
    #expect(result.status == 2 && result.error.filter(\.isNewline).count == 1, "\(arguments): \(result)")
    #expect(try scratch.names().isEmpty)
  }
}
