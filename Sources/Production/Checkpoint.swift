import Compute
import Foundation
import Rollout
import Tensors
import VideoIO
import WanModel

/// The state of a run between two chunks, `state/ckpt-NNNNNN.json`: written last, it says that the files of its number are
/// whole. Whoever adds something that a run remembers puts it into one of them, or here if it is small.
struct Checkpoint: Codable {
  /// Of the files of a checkpoint and of what they hold; another one is refused. 2: a layer of the autoencoder has a list of
  /// maps.
  static let format = 2
  /// Checkpoints that stay. The older one is there for the case that the disk loses the newer.
  static let kept = 2

  var format = Checkpoint.format
  /// The first chunk that is not in it.
  let nextChunk: Int
  /// Where the video stands.
  let video: SinkPosition

  /// Reads a record.
  ///
  /// - Parameters:
  ///   - kept: How many of the latest chunks have their latents at least; nil for all.
  ///   - declared: Chunks of the declared length, which have theirs in any case.
  /// - Throws: ``RunError`` for one that is missing, damaged, or of another format.
  init(_ number: Int, in directory: RunDirectory, kept: Int? = nil, declared: Int = 0) throws {
    let path = directory.stateFile(.record, nextChunk: number)
    struct Mark: Decodable { let format: Int }
    guard let data = FileManager.default.contents(atPath: path),
      let mark = try? JSONDecoder().decode(Mark.self, from: data)
    else { throw RunError("\(path) cannot be read; remove it to go on from the checkpoint before") }
    guard mark.format == Checkpoint.format else {
      throw RunError("\(path) has the checkpoint format \(mark.format); this version reads \(Checkpoint.format)")
    }
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    guard let value = try? decoder.decode(Checkpoint.self, from: data), value.nextChunk == number else {
      throw RunError("\(path) is damaged; remove it to go on from the checkpoint before")
    }
    self = value
    for kind in RunDirectory.StateFile.allCases {
      try Checkpoint.require(directory.stateFile(kind, nextChunk: number))
    }
    // The chunk in flight may have taken the place of the oldest.
    let oldest = kept.map { number - $0 + 1 } ?? 0
    for chunk in 0..<number where chunk < declared || chunk >= oldest {
      try Checkpoint.require(directory.latentFile(chunk: chunk))
    }
  }

  private static func require(_ file: String) throws {
    guard FileManager.default.fileExists(atPath: file) else {
      throw RunError("\(file) is missing; the run cannot go on without it")
    }
  }

  /// Saves the state of a rollout, a decoder and a preview under the number of the next chunk, and removes older ones.
  ///
  /// - Parameter bytes: Of the keys and values, which were saved before (``saveRollout(_:in:)``).
  init(
    nextChunk: Int, decoder: any VideoDecoder, preview: PreviewSheet, video: SinkPosition, input: ClipEncoder?,
    in directory: RunDirectory, on backend: any Backend
  ) throws {
    (self.nextChunk, self.video) = (nextChunk, video)
    var state = StateBuilder()
    try decoder.state.save(to: &state, as: "decoder", on: backend)
    try input?.save(to: &state)
    try preview.save(to: &state)
    try state.write(to: directory.stateFile(.decoder, nextChunk: nextChunk))
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
    try DurableFile.write(encoder.encode(self), to: directory.stateFile(.record, nextChunk: nextChunk))
    directory.prune(keeping: Checkpoint.kept)
  }
}
