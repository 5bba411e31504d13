import Foundation
import Testing
import VideoIO

/// An output that another process goes on with has the bytes that it would have had in one go.
@Suite struct ContinuedOutputTests {
  private static let outputs = ["a.mp4", "a.y4m", "a/%03d.png"]

  private func write(_ sink: any FrameSink, _ chunks: [Range<Int>]) throws {
    for chunk in chunks { try sink.write(movingFrames(chunk)) }
  }

  private func content(_ scratch: Scratch, _ output: String) throws -> [Data] {
    guard output.contains("%") else { return [try scratch.bytes(output)] }
    return try scratch.names("a").map { try scratch.bytes("a/" + $0) }
  }

  @Test("A killed output goes on after any chunk", arguments: outputs)
  func aKilledOutputGoesOn(output: String) throws {
    let chunks = [0..<9, 9..<21, 21..<33, 33..<38]
    let whole = try Scratch()
    let sink = try FrameSinks.open(path: whole.file(output), settings: settings())
    try write(sink, chunks)
    #expect(try sink.finish() == 38)
    for cut in 1...3 {
      let scratch = try Scratch()
      let first = try FrameSinks.open(path: scratch.file(output), settings: settings())
      try write(first, Array(chunks[..<cut]))
      try first.synchronize()
      let position = first.position
      #expect(position.frames == chunks[cut].lowerBound)
      // What comes after the checkpoint is lost and made again.
      try write(first, [chunks[cut]])
      first.abandon()
      let stored = try JSONDecoder().decode(SinkPosition.self, from: JSONEncoder().encode(position))
      let second = try FrameSinks.open(path: scratch.file(output), settings: settings(), continuing: stored)
      #expect(second.position == position && second.frameCount == position.frames)
      try write(second, Array(chunks[cut...]))
      #expect(try second.finish() == 38)
      #expect(try content(scratch, output) == content(whole, output), "cut after \(cut)")
    }
  }

  @Test("A finished output is extended in a copy, and stays until that is finished", arguments: outputs)
  func aFinishedOutputIsExtended(output: String) throws {
    let scratch = try Scratch()
    let first = try FrameSinks.open(path: scratch.file(output), settings: settings())
    try write(first, [0..<9])
    let position = first.position
    try write(first, [9..<14])
    try first.finish()
    let before = try content(scratch, output)
    let second = try FrameSinks.open(path: scratch.file(output), settings: settings(), continuing: position)
    try write(second, [9..<21])
    #expect(try content(scratch, output) == before)
    #expect(try second.finish() == 21)
    if output.hasSuffix("mp4") { #expect(try VideoReader.frameCount(of: scratch.file(output)) == 21) }
  }

  @Test("An output that is too short or gone is named", arguments: outputs)
  func anOutputThatIsTooShort(output: String) throws {
    let scratch = try Scratch()
    var position = SinkPosition()
    (position.frames, position.bytes, position.fragments) = (9, 5000, 1)
    func refusal() -> String {
      do {
        _ = try FrameSinks.open(path: scratch.file(output), settings: settings(), continuing: position)
        return ""
      } catch { return "\(error)" }
    }
    #expect(refusal().contains("cannot create"), "\(refusal())")
    #expect(try scratch.names() == [])
    guard !output.contains("%") else { return }
    try Data(count: 100).write(to: URL(fileURLWithPath: scratch.file(output == "a.mp4" ? "a.part.mp4" : "a.part.y4m")))
    #expect(refusal().contains("it has 100 bytes, and 5000 are needed"))
  }

  @Test("An output that never got a frame leaves nothing", arguments: outputs)
  func anOutputWithoutFramesLeavesNothing(output: String) throws {
    let scratch = try Scratch()
    do { _ = try FrameSinks.open(path: scratch.file(output), settings: settings()) }
    #expect(try scratch.names() == [])
  }
}
