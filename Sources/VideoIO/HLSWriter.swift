import CLibAV
import Foundation

/// Writes HTTP live streaming: a playlist that grows, and beside it fragmented mp4 segments, one for each chunk, so that
/// `ffplay` and browsers follow a run while it goes on.
///
/// `live.m3u8` names `live-init.mp4` (the header) and `live-000000.m4s`, ... When `write` returns, a finished chunk is in the
/// playlist. Segments and playlist are written under other names and renamed: a reader never meets half of one. The end is
/// `#EXT-X-ENDLIST`. With ``OutputSettings/keptSegments`` the playlist is a window on the latest segments, and neither it
/// nor the folder grows.
///
/// The segments come from libavformat's mp4 muxer. Its HLS muxer is not used: it closes a segment when the next key frame
/// comes, so that every chunk would be seen one chunk late.
public final class HLSWriter: FrameSink {
  public var frameCount: Int { muxer.frameCount }
  public private(set) var position: SinkPosition
  private let path: String
  private let stem: String
  private let settings: OutputSettings
  private let muxer: FragmentMuxer
  private let lock: Int32
  private var boxes: [UInt8] = []
  /// Frames of each segment that the playlist names.
  private var segments: [Int] = []
  /// Segments that it does not name any more, and their frames.
  private var dropped = (segments: 0, frames: 0)
  private var isOpen = false

  /// Makes the folder if it is not there, the header, and an empty playlist.
  ///
  /// - Parameter position: where an unfinished stream of equal settings stands, to go on after it.
  /// - Throws: `VideoIOError`, as ``MP4Writer``; `.cannotRead` for a playlist that does not reach `position`.
  public init(path: String, settings: OutputSettings, continuing position: SinkPosition? = nil) throws {
    self.path = path
    self.settings = settings
    let start = position ?? SinkPosition()
    self.position = start
    stem = String(path.dropLast(".m3u8".count))
    muxer = try FragmentMuxer(path: path, settings: settings, encoderName: "libx264", continuing: start) {
      .writeFailed(path: path, reason: $0)
    }
    if let slash = path.lastIndex(of: "/"), slash > path.startIndex { try OutputFolder.make(String(path[..<slash])) }
    let header = stem + "-init.mp4"
    // Held as long as this lives: another run must not write the same stream.
    lock = open(header, O_WRONLY | O_CREAT | O_CLOEXEC, 0o666)
    if lock < 0 { throw VideoIOError.cannotCreate(path: header, reason: OutputFile.openingReason(header, errno)) }
    guard flock(lock, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK else {
      close(lock)
      throw VideoIOError.cannotCreate(path: path, reason: "another process is writing it; choose another output")
    }
    isOpen = true
    do {
      if start.frames > 0 {
        (dropped, segments) = try HLSWriter.segments(of: path, frames: start.frames, settings: settings)
        try muxer.begin { _ in }
      } else {
        try muxer.begin { boxes.append(contentsOf: $0) }
        guard ftruncate(lock, 0) == 0 else { throw failure(errno) }
        try HLSWriter.put(boxes, to: lock, path: header)
        boxes = []
      }
      removeSegments(from: dropped.segments + segments.count)
      try writePlaylist(isComplete: false)
    } catch {
      abandon()
      throw error
    }
  }

  deinit { abandon() }

  public func write(_ frames: [RGBFrame], endsChunk: Bool) throws {
    guard isOpen else { throw VideoIOError.closed(path: path) }
    do {
      for frame in frames { try muxer.encode(frame) { boxes.append(contentsOf: $0) } }
      if endsChunk {
        try muxer.endChunk { boxes.append(contentsOf: $0) }
        try writeSegment()
      }
    } catch {
      abandon()
      throw error
    }
  }

  @discardableResult public func finish() throws -> Int {
    guard isOpen else { throw VideoIOError.closed(path: path) }
    do {
      try muxer.finish { boxes.append(contentsOf: $0) }
      try writeSegment()
      try writePlaylist(isComplete: true)
    } catch {
      abandon()
      throw error
    }
    isOpen = false
    close(lock)
    return frameCount
  }

  /// Segments reach the disk as they are written.
  public func synchronize() throws {}

  public func abandon() {
    muxer.close()
    guard isOpen else { return }
    isOpen = false
    if frameCount == 0 {
      unlink(path)
      unlink(stem + "-init.mp4")
    }
    close(lock)
  }

  private func name(_ segment: Int) -> String {
    let number = String(segment)
    return stem + "-" + String(repeating: "0", count: max(0, 6 - number.count)) + number + ".m4s"
  }

  private func failure(_ code: Int32) -> VideoIOError { .writeFailed(path: path, reason: reason(errno: code)) }

  /// Puts the boxes of a chunk, if there are any, into a segment and that into the playlist.
  private func writeSegment() throws {
    let frames = frameCount - position.frames
    guard frames > 0 else { return }
    try HLSWriter.replace(name(dropped.segments + segments.count), with: boxes)
    boxes.removeAll(keepingCapacity: true)
    segments.append(frames)
    (position.frames, position.fragments) = (frameCount, muxer.fragments)
    if let kept = settings.keptSegments, segments.count > kept {
      dropped.frames += segments.removeFirst()
      dropped.segments += 1
    }
    try writePlaylist(isComplete: false)
    // A player may still be fetching what the playlist named a moment ago (RFC 8216, 6.2.2).
    if let kept = settings.keptSegments, dropped.segments > kept { unlink(name(dropped.segments - kept - 1)) }
  }

  private func writePlaylist(isComplete: Bool) throws {
    func seconds(_ frames: Int) -> Double {
      Double(frames) * Double(settings.frameRate.denominator) / Double(settings.frameRate.numerator)
    }
    let longest = max(settings.longestChunk, segments.map(seconds).max() ?? 0)
    let file = stem.split(separator: "/").last.map(String.init) ?? stem
    let type = settings.keptSegments == nil ? "#EXT-X-PLAYLIST-TYPE:EVENT\n" : ""
    // The target duration must not change: it is that of the longest chunk from the beginning.
    var text = """
      #EXTM3U
      #EXT-X-VERSION:7
      #EXT-X-TARGETDURATION:\(max(1, Int(longest.rounded(.up))))
      #EXT-X-MEDIA-SEQUENCE:\(dropped.segments)
      \(type)#EXT-X-INDEPENDENT-SEGMENTS
      #EXT-X-MAP:URI="\(file)-init.mp4"

      """
    if dropped.segments > 0 { text += "\(HLSWriter.framesBefore)\(dropped.frames)\n" }
    for (i, frames) in segments.enumerated() {
      let segment = name(dropped.segments + i).dropFirst(stem.count)
      text += "#EXTINF:\(String(format: "%.6f", seconds(frames))),\n\(file)\(segment)\n"
    }
    if isComplete { text += "#EXT-X-ENDLIST\n" }
    try HLSWriter.replace(path, with: Array(text.utf8))
  }

  /// A comment of the playlist: frames of the segments that it does not name any more.
  private static let framesBefore = "# frames before: "

  /// The frames of the segments that a playlist has up to `frames`, and what it has dropped before.
  private static func segments(of path: String, frames: Int, settings: OutputSettings) throws -> (
    dropped: (segments: Int, frames: Int), segments: [Int]
  ) {
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
      throw VideoIOError.cannotRead(path: path, reason: "the stream that was to go on is not there")
    }
    let rate = settings.frameRate.framesPerSecond
    func number(after mark: String) -> Int {
      text.split(separator: "\n").first { $0.hasPrefix(mark) }.flatMap { Int($0.dropFirst(mark.count)) } ?? 0
    }
    let dropped = (segments: number(after: "#EXT-X-MEDIA-SEQUENCE:"), frames: number(after: framesBefore))
    var (segments, total) = ([Int](), dropped.frames)
    for line in text.split(separator: "\n") where line.hasPrefix("#EXTINF:") && total < frames {
      guard let seconds = Double(line.dropFirst("#EXTINF:".count).prefix { $0 != "," }) else { break }
      segments.append(Int((seconds * rate).rounded()))
      total += segments[segments.count - 1]
    }
    guard total == frames else {
      throw VideoIOError.cannotRead(
        path: path, reason: "it has \(total) frames, not the \(frames) after which it was to go on")
    }
    return (dropped, segments)
  }

  /// Removes segments that an earlier run left, whose first ones it may have removed itself.
  private func removeSegments(from first: Int) {
    let parts = stem.split(separator: "/", omittingEmptySubsequences: false)
    let folder = parts.count > 1 ? parts.dropLast().joined(separator: "/") + "/" : "./"
    let prefix = (parts.last.map(String.init) ?? stem) + "-"
    for file in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [] {
      guard file.hasPrefix(prefix), file.hasSuffix(".m4s") else { continue }
      let digits = file.dropFirst(prefix.count).dropLast(".m4s".count)
      if digits.count >= 6, let segment = Int(digits), segment >= first { unlink(folder + file) }
    }
  }

  /// Writes a file under another name, brings it to the disk and renames it.
  private static func replace(_ path: String, with bytes: [UInt8]) throws {
    let temporary = OutputFile.temporaryName(of: path)
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
    if descriptor < 0 {
      throw VideoIOError.cannotCreate(path: temporary, reason: OutputFile.openingReason(temporary, errno))
    }
    defer { close(descriptor) }
    try put(bytes, to: descriptor, path: temporary)
    guard fsync(descriptor) == 0 || errno == EINVAL, rename(temporary, path) == 0 else {
      throw VideoIOError.writeFailed(path: path, reason: reason(errno: errno))
    }
  }

  private static func put(_ bytes: [UInt8], to descriptor: Int32, path: String) throws {
    let error = longtake_write_all(descriptor, bytes, bytes.count, -1)
    if error != 0 { throw VideoIOError.writeFailed(path: path, reason: reason(errno: error)) }
  }
}
