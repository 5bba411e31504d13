import ArgumentParser
import Production

/// What a run notes of its attention.
struct RecordingOptions: ParsableArguments {
  @Flag(
    help: """
      With --run-dir: note which pages each chunk kept and read and what attention they got, for dump-frames --attention.
      """)
  var recordAttention = false

  @Option(help: "Of these chunks, as 0,4-6 or 8- (default: all).")
  var recordChunks: String?

  @Option(help: "Of these transformer layers (default: the first, the middle and the last).")
  var recordLayers: String?

  @Option(help: "Of these heads (default: all).")
  var recordHeads: String?

  @Option(help: "Of these passes: denoising steps from 0, last, clean (default: last,clean).")
  var recordPasses: String?

  func apply(to request: inout RunRequest) throws {
    var recording = RunRequest.Recording()
    (recording.chunks, recording.layers, recording.heads) = (recordChunks, recordLayers, recordHeads)
    recording.passes = recordPasses
    guard recordAttention || recording == .init() else {
      throw UsageError("--record-chunks, -layers, -heads and -passes belong to --record-attention; add it")
    }
    request.recording = recordAttention ? recording : nil
  }
}
