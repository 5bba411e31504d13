import Foundation
import Tensors

/// A run directory from which a run is to go on: all that was stored, checked before anything is loaded or written.
public struct ContinuedRun: Sendable {
  /// The settings of the run, its length the one that is wanted now.
  public let settings: RunSettings
  /// What a user should know.
  public let warnings: [String]
  /// Whether all frames are there already.
  public let isFinished: Bool
  let directory: RunDirectory
  let manifest: RunManifest
  /// nil if the run did not come as far as the first checkpoint, and begins anew.
  let checkpoint: Checkpoint?
  /// Its files, opened; nil with it.
  let rolloutState: SavedState?
  let decoderState: SavedState?

  /// The first chunk that is still to be made.
  public var nextChunk: Int { checkpoint?.nextChunk ?? 0 }

  /// - Parameters:
  ///   - path: The run directory.
  ///   - seconds: The wanted length, if it is not the declared one.
  ///   - isEndless: Whether it is to go on until it is stopped.
  ///   - model: The model folder, if it is not where it was.
  ///   - threads: Worker threads, if not as before; any number gives the same bytes.
  /// - Throws: ``RunError`` for a directory that cannot be gone on from, ``UsageError`` for an impossible length.
  public init(
    _ path: String, until seconds: Double? = nil, isEndless: Bool = false, model: String? = nil, threads: Int? = nil
  ) throws {
    directory = try RunDirectory(opening: path)
    manifest = try RunManifest(path: directory.manifestFile)
    var request = manifest.request
    request.runDirectory = path
    if let model { request.model = model }
    if let threads { request.threads = threads }
    let declared = try RunSettings(request)
    var warnings: [String] = []
    if manifest.version != Engine.version {
      warnings.append("the run was begun with version \(manifest.version); the same bytes are not promised")
    }
    if manifest.machine.processor != Host.processor {
      warnings.append("the run was begun on \(manifest.machine.processor); the same bytes are not promised")
    }
    try manifest.requireSameWeights(as: declared)
    guard seconds == nil || !isEndless else { throw UsageError("give --until or --forever, not both") }
    let reached = manifest.parts.last.map(\.frames) ?? declared.frameLimit
    // Without a wish for more, an extension that was cut off is finished as it was asked for.
    let before = try declared.extended(toFrames: reached)
    settings = try isEndless ? declared.extended(toFrames: nil) : seconds.map(declared.extended(to:)) ?? before
    // Where any part had no end, the latest chunks are all that is kept of it.
    let isPruned = manifest.parts.contains { $0.frames == nil }
    let kept = isPruned ? RunSettings.keptChunks(request).map { $0 + 1 - request.checkpointEvery } : nil
    let declaredChunks = declared.declaredChunks
    checkpoint = try directory.checkpoints.last.map { [directory] in
      try Checkpoint($0, in: directory, kept: kept, declared: declaredChunks)
    }
    rolloutState = try checkpoint.map { [directory] in
      try SavedState(path: directory.stateFile(.rollout, nextChunk: $0.nextChunk))
    }
    decoderState = try checkpoint.map { [directory] in
      try SavedState(path: directory.stateFile(.decoder, nextChunk: $0.nextChunk))
    }
    let least = reached ?? (checkpoint.map(\.video.frames) ?? 0)
    guard settings.frameLimit ?? .max >= least else {
      let known = Double(least) / before.frameRate.framesPerSecond
      throw UsageError(
        "--until \(seconds ?? 0) is less than the \(Format.time(known)) of video that the run "
          + (reached == nil ? "has" : "is to reach; interrupt it where it should end"))
    }
    if let warning = settings.extensionWarning(of: declared) { warnings.append(warning) }
    self.warnings = warnings
    isFinished = manifest.status == .finished && settings.frameLimit == reached
  }
}
