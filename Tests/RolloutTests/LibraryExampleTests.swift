import Foundation
import Rollout
import Tensors
import Testing

/// The page `MakingAVideo` of the library's documentation.
@Suite struct LibraryExampleTests {
  private let folder = NSTemporaryDirectory() + "longtake-example-\(UUID().uuidString)"
  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }

  /// What a run showed of its chunks.
  private final class Shown: @unchecked Sendable {
    var chunks: [FinishedChunk] = []
    var pixels: [[Float]] = []
  }

  /// - Parameter last: After this chunk the reader cancels its own task.
  private func run(goingOn isContinued: Bool = false, cancelAfter last: Int? = nil) async throws -> (
    Shown, (any Error)?
  ) {
    let shown = Shown()
    let folder = folder
    let task = Task {
      try await makeVideo(model: ShippedModel.path, goingOn: isContinued, folder: folder) { chunk, pixels in
        shown.chunks.append(chunk)
        shown.pixels.append(pixels.floats())
        if chunk.index == last { withUnsafeCurrentTask { $0?.cancel() } }
      }
    }
    do { try await task.value } catch { return (shown, error) }
    return (shown, nil)
  }

  @Test("The example of the documentation is this file's, word for word")
  func pageAndFile() throws {
    let tests = URL(filePath: #filePath).deletingLastPathComponent()
    let code = try String(contentsOf: tests.appending(path: "LibraryExample.swift"), encoding: .utf8)
    let page = tests.deletingLastPathComponent().deletingLastPathComponent().appending(
      path: "Sources/Rollout/Rollout.docc/MakingAVideo.md")
    let text = try String(contentsOf: page, encoding: .utf8)
    let example = try #require(code.components(separatedBy: "// BEGIN\n").last?.components(separatedBy: "// END").first)
    #expect(text.components(separatedBy: "```swift\n")[1].components(separatedBy: "```")[0] == example)
  }

  @Test("It makes a video, cancelling stops it after the chunk, and another run goes on with the same bytes")
  func runs() async throws {
    let (whole, error) = try await run()
    #expect(error == nil)
    #expect(whole.chunks.map(\.index) == [0, 1, 2, 3])
    #expect(whole.pixels.map { $0.count / (64 * 128 * 3) } == [9, 12, 12, 12])
    #expect(whole.chunks.map(\.mix.prompt) == [0, 0, 1, 1])
    #expect(whole.chunks.map(\.recachedFrames) == [0, 0, 6, 0])
    let (part, stop) = try await run(cancelAfter: 1)
    #expect(stop is CancellationError)
    #expect(part.pixels == Array(whole.pixels[..<2]))
    let (rest, end) = try await run(goingOn: true)
    #expect(end == nil)
    #expect(rest.chunks.map(\.index) == [2, 3])
    #expect(rest.pixels == Array(whole.pixels[2...]))
  }
}
