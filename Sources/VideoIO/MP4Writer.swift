/// Writes a fragmented mp4 with H.264: playable while it grows, and after the process was killed.
///
/// Each chunk starts with a key frame and is a fragment of its own, which has reached the file or the pipe when `write`
/// returns; a process that is killed at any moment leaves whole fragments. Equal frames and settings give equal bytes, in a
/// file and in a pipe.
public final class MP4Writer: FrameSink {
  public var frameCount: Int { muxer.frameCount }
  public private(set) var position: SinkPosition
  private let file: OutputFile
  private let muxer: FragmentMuxer

  /// Opens the output and writes the file's header.
  ///
  /// - Parameters:
  ///   - path: a name, or `-` for standard output.
  ///   - position: where an unfinished file of equal settings stands, to go on after it.
  /// - Throws: `VideoIOError.unsupportedSize` (odd sides), `.invalidSetting`, `.encoderMissing`, `.cannotCreate`,
  ///   `.writeFailed`.
  public convenience init(path: String, settings: OutputSettings, continuing position: SinkPosition? = nil) throws {
    try self.init(path: path, settings: settings, encoderName: "libx264", continuing: position)
  }

  package init(path: String, settings: OutputSettings, encoderName: String, continuing position: SinkPosition? = nil)
    throws
  {
    // The encoder first: without it there should be no file.
    let start = position ?? SinkPosition()
    var opened: OutputFile?
    muxer = try FragmentMuxer(path: path, settings: settings, encoderName: encoderName, continuing: start) {
      opened?.failure($0) ?? .writeFailed(path: path, reason: $0)
    }
    let file = try OutputFile(path: path, keeping: start.bytes)
    self.file = file
    opened = file
    self.position = start
    // A file that goes on has its header.
    let continuesFile = file.length > 0
    try muxer.begin { if !continuesFile { try file.writeBoxes($0) } }
    if !continuesFile { self.position.bytes = file.length }
  }

  deinit { abandon() }

  public func write(_ frames: [RGBFrame], endsChunk: Bool) throws {
    do {
      for frame in frames { try muxer.encode(frame, file.writeBoxes) }
      if endsChunk {
        try muxer.endChunk(file.writeBoxes)
        notePosition()
      }
    } catch {
      abandon()
      throw error
    }
  }

  @discardableResult public func finish() throws -> Int {
    do {
      try muxer.finish(file.writeBoxes)
      notePosition()
      try file.commit()
    } catch {
      abandon()
      throw error
    }
    return frameCount
  }

  public func synchronize() throws { try file.synchronize() }

  public func abandon() {
    muxer.close()
    file.abandon(discarding: frameCount == 0)
  }

  private func notePosition() {
    (position.frames, position.bytes, position.fragments) = (frameCount, file.length, muxer.fragments)
  }
}
