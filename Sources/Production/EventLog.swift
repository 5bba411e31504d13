import Foundation
import VideoIO

/// `events.jsonl` of a run directory: one object per chunk, in order.
///
/// A log that has grown to 16 MiB becomes `events.1.jsonl`, whose place the next one takes: two files at
/// most, however long the run.
package struct EventLog {
  /// Times are in milliseconds, moments in seconds since 1970.
  package struct Entry: Encodable {
    let index, firstFrame, frames: Int
    let started, ended: Double
    let denoiseMs, cleanKvMs, decodeMs, encodeMs: Double
    /// Of the state of this chunk; nil if it was not saved.
    let checkpointMs: Double?
    let checkpointBytes: Int?
    let kvBytes, residentBytes, visibleFrames: Int
    /// Share of the pages in memory that was read.
    let density: Double
    /// Video frames so far.
    let videoFrames: Int
    /// The prompt in force, and its number from 0.
    let prompt: String
    let promptIndex: Int
    /// How it took effect, if it did with this chunk, or blended further.
    let promptChange: PromptReport?

    package init(
      index: Int, firstFrame: Int, frames: Int, started: Double, ended: Double, denoiseMs: Double, cleanKvMs: Double,
      decodeMs: Double, encodeMs: Double, checkpointMs: Double?, checkpointBytes: Int?, kvBytes: Int,
      residentBytes: Int,
      visibleFrames: Int, density: Double, videoFrames: Int, prompt: String, promptIndex: Int = 0,
      promptChange: PromptReport? = nil
    ) {
      (self.index, self.firstFrame, self.frames) = (index, firstFrame, frames)
      (self.started, self.ended) = (started, ended)
      (self.denoiseMs, self.cleanKvMs, self.decodeMs, self.encodeMs) = (denoiseMs, cleanKvMs, decodeMs, encodeMs)
      (self.checkpointMs, self.checkpointBytes) = (checkpointMs, checkpointBytes)
      (self.kvBytes, self.residentBytes, self.visibleFrames) = (kvBytes, residentBytes, visibleFrames)
      (self.density, self.videoFrames) = (density, videoFrames)
      (self.prompt, self.promptIndex, self.promptChange) = (prompt, promptIndex, promptChange)
    }
  }

  private let path: String
  private let limit: Int
  private let handle: FileHandle
  private var length: Int

  /// Opens the log and drops entries of chunks from `nextChunk` on, which are about to be made again, and a torn last line.
  /// - Throws: ``RunError``.
  package init(path: String, nextChunk: Int, limit: Int = 16 << 20) throws {
    struct Line: Decodable { let index: Int }
    let old = FileManager.default.contents(atPath: path) ?? Data()
    var kept = Data()
    for line in old.split(separator: UInt8(ascii: "\n")) {
      guard let entry = try? JSONDecoder().decode(Line.self, from: Data(line)), entry.index < nextChunk else {
        continue
      }
      kept += line + [UInt8(ascii: "\n")]
    }
    do {
      try kept.write(to: URL(fileURLWithPath: path), options: .atomic)
      handle = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
      try handle.seekToEnd()
    } catch { throw RunError("\(path): the log of events cannot be written: \(error.localizedDescription)") }
    self.path = path
    self.limit = limit
    length = kept.count
  }

  /// Whether another entry would make the file too long.
  var isFull: Bool { length >= limit }

  /// Starts the next file.
  func rotated() throws -> EventLog {
    try? handle.close()
    let old = (path as NSString).deletingPathExtension + ".1.jsonl"
    guard rename(path, old) == 0 else { throw RunError("\(old): the log of events cannot be written") }
    return try EventLog(path: path, nextChunk: 0, limit: limit)
  }

  /// Appends an entry and brings it to the disk.
  /// - Throws: ``RunError`` (full disk).
  package mutating func append(_ entry: Entry) throws {
    if isFull { self = try rotated() }
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    do {
      let line = try encoder.encode(entry) + [UInt8(ascii: "\n")]
      try handle.write(contentsOf: line)
      try handle.synchronize()
      length += line.count
    } catch { throw RunError("\(path): the log of events cannot be written: \(error.localizedDescription)") }
  }
}
