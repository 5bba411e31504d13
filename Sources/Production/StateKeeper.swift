import Compute
import Foundation
import Rollout
import Tensors
import VideoIO
import WanModel

/// Keeps a run directory up to date while a run goes on: events, preview, checkpoints.
///
/// A checkpoint comes about in this order, so that a kill at any moment leaves the one before or the new one, whole:
/// ``SavedRollout``, the video brought to the disk, ``log(_:firstFrame:frames:saved:)``, ``commit(_:nextChunk:video:)``.
struct StateKeeper {
  private let directory: RunDirectory
  private let prompts: [String]
  private let backend: any Backend
  private var events: EventLog
  private var preview: PreviewSheet
  private var chunkStart = Date()

  /// Gives the decoder the state that it had, if the run goes on.
  init(
    _ directory: RunDirectory, prompts: [String], decoder: any VideoDecoder, from earlier: ContinuedRun?,
    on backend: any Backend
  ) throws {
    self.directory = directory
    self.prompts = prompts
    self.backend = backend
    events = try EventLog(path: directory.eventsFile, nextChunk: earlier?.nextChunk ?? 0)
    if let state = earlier?.decoderState {
      decoder.state = try VideoStreamState(from: state, as: "decoder", on: backend)
      preview = try PreviewSheet(from: state)
    } else {
      preview = PreviewSheet()
    }
  }

  /// Shows the first frame of a chunk in the preview.
  mutating func show(_ picture: RGBFrame, frame: Int, chunk: Int) throws {
    if preview.add(picture, frame: frame, chunk: chunk) { try preview.write(to: directory.previewFile) }
  }

  /// Writes a chunk's entry of the log.
  mutating func log(
    _ chunk: ChunkReport, firstFrame: Int, frames: Int, change: PromptReport? = nil, saved: SavedRollout?
  ) throws {
    let end = Date()
    try events.append(
      EventLog.Entry(
        index: chunk.index, firstFrame: firstFrame, frames: frames, started: chunkStart.timeIntervalSince1970,
        ended: end.timeIntervalSince1970, denoiseMs: chunk.denoiseSeconds * 1000, cleanKvMs: chunk.sealSeconds * 1000,
        decodeMs: chunk.decodeSeconds * 1000, encodeMs: chunk.writeSeconds * 1000,
        checkpointMs: saved.map { $0.seconds * 1000 }, checkpointBytes: saved?.bytes, kvBytes: chunk.kvBytes,
        residentBytes: chunk.residentBytes, visibleFrames: chunk.visibleFrames, density: chunk.density,
        videoFrames: chunk.frames, prompt: prompts[chunk.prompt],
        promptIndex: chunk.prompt, promptChange: change))
    chunkStart = end
  }

  /// Completes a checkpoint.
  ///
  /// - Parameter input: nil without one, and once it has been read.
  func commit(_ decoder: any VideoDecoder, nextChunk: Int, video: SinkPosition, input: ClipEncoder? = nil) throws {
    _ = try Checkpoint(
      nextChunk: nextChunk, decoder: decoder, preview: preview, video: video, input: input, in: directory, on: backend)
  }
}

/// What the next chunk depends on, written between two chunks: the first part of a checkpoint.
struct SavedRollout: Sendable {
  let seconds: Double
  let bytes: Int

  /// Saves a rollout whose next chunk has not begun.
  init(_ rollout: Rollout, nextChunk: Int, in directory: RunDirectory) async throws {
    let start = Date()
    bytes = try await rollout.save(to: directory.stateFile(.rollout, nextChunk: nextChunk))
    seconds = Date().timeIntervalSince(start)
  }
}
