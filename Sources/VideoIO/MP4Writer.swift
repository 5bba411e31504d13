import CLibAV

/// Writes a fragmented mp4 with H.264: playable while it grows, and after the process was killed.
///
/// Each chunk starts with a key frame and is a fragment of its own, which has reached the file or the pipe when `write`
/// returns; a process that is killed at any moment leaves whole fragments. Time stamps are exact: frame `n` is shown at `n / frameRate`. Equal frames and settings give equal bytes,
/// in a file and in a pipe.
public final class MP4Writer: FrameSink {
  public private(set) var frameCount: Int
  private let settings: OutputSettings
  private let file: OutputFile
  private var encoder: H264Encoder?
  private var format: UnsafeMutablePointer<AVFormatContext>?
  private var stream: UnsafeMutablePointer<AVStream>?
  private var packetCount: Int
  public private(set) var position: SinkPosition
  /// Whether the header is in the file already.
  private let continuesFile: Bool

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
    try settings.validate(for: .mp4)
    self.settings = settings
    // The encoder first: without it there should be no file.
    let start = position ?? SinkPosition()
    let encoder = try H264Encoder(
      path: path, settings: settings, encoderName: encoderName, isFirstChunk: start.bytes == 0)
    self.encoder = encoder
    file = try OutputFile(path: path, keeping: start.bytes)
    self.position = start
    (frameCount, packetCount) = (start.frames, start.frames)
    continuesFile = file.length > 0
    do { try writeHeader(encoder) } catch {
      close()
      throw error
    }
  }

  deinit { abandon() }

  public func write(_ frames: [RGBFrame], endsChunk: Bool) throws {
    guard let encoder else { throw VideoIOError.closed(path: file.path) }
    do {
      for frame in frames {
        guard frame.width == settings.width, frame.height == settings.height else {
          throw VideoIOError.sizeChanged(
            path: file.path, expected: [settings.width, settings.height], found: [frame.width, frame.height])
        }
        try encoder.encode(frame, index: frameCount, emit: mux)
        frameCount += 1
      }
      if endsChunk { try endChunk(encoder) }
    } catch {
      abandon()
      throw error
    }
  }

  @discardableResult public func finish() throws -> Int {
    guard let encoder, let format else { throw VideoIOError.closed(path: file.path) }
    do {
      try endChunk(encoder)
      try check(av_write_trailer(format))
      try flush()
      guard packetCount == frameCount else {
        throw VideoIOError.encodingFailed(path: file.path, reason: "\(packetCount) of \(frameCount) frames came out")
      }
      close()
      try file.commit()
    } catch {
      abandon()
      throw error
    }
    return frameCount
  }

  public func abandon() {
    close()
    file.abandon(discarding: frameCount == 0)
  }

  /// Frees everything but the file, which keeps what was written to it.
  private func close() {
    encoder = nil
    stream = nil
    guard let format else { return }
    longtake_avio_free(format.pointee.pb)
    format.pointee.pb = nil
    avformat_free_context(format)
    self.format = nil
  }

  private func writeHeader(_ encoder: H264Encoder) throws {
    var allocated: UnsafeMutablePointer<AVFormatContext>?
    try check(avformat_alloc_output_context2(&allocated, nil, "mp4", nil))
    guard let format = allocated else { throw file.failure("no mp4 muxer") }
    self.format = format
    guard let io = longtake_avio_open() else { throw file.failure("no memory") }
    format.pointee.pb = io
    // No version of the library in the file: the same frames are the same bytes.
    format.pointee.flags |= AVFMT_FLAG_BITEXACT | AVFMT_FLAG_CUSTOM_IO
    guard let stream = avformat_new_stream(format, nil) else { throw file.failure("no memory") }
    self.stream = stream
    try encoder.describe(to: stream)
    for (key, value) in settings.metadata.sorted(by: { $0.key < $1.key }) {
      try check(av_dict_set(&format.pointee.metadata, key, value, 0))
    }
    var options: OpaquePointer?
    defer { av_dict_free(&options) }
    // Time stamps as they are: the muxer would shift those of a resumed file to zero.
    format.pointee.avoid_negative_ts = 0
    try check(av_dict_set(&options, "use_editlist", "0", 0))
    // No index at the end: it would grow with the video, and a file that was resumed would have another one.
    var flags = "frag_keyframe+empty_moov+default_base_moof+skip_trailer"
    if position.fragments > 0 {
      flags += "+frag_discont"
      try check(av_dict_set(&options, "fragment_index", "\(position.fragments + 1)", 0))
    }
    try check(av_dict_set(&options, "movflags", flags, 0))
    try check(avformat_write_header(format, &options))
    if continuesFile { longtake_avio_pending(io)?.pointee.count = 0 }
    try flush()
    if !continuesFile { position.bytes = file.length }
  }

  /// Drains the encoder, and has the muxer close its fragment.
  private func endChunk(_ encoder: H264Encoder) throws {
    guard let format else { return }
    try encoder.endChunk(emit: mux)
    try check(av_write_frame(format, nil))
    try flush()
    position.frames = frameCount
    position.bytes = file.length
  }

  public func synchronize() throws { try file.synchronize() }

  /// Moves what the muxer has written into the file. The muxer keeps a fragment to itself until it is complete, so these are
  /// always whole boxes.
  private func flush() throws {
    guard let io = format?.pointee.pb, let pending = longtake_avio_pending(io) else { return }
    try check(io.pointee.error)
    if pending.pointee.count == 0 { return }
    let boxes = UnsafeRawBufferPointer(start: pending.pointee.bytes, count: pending.pointee.count)
    try file.writeBoxes(boxes)
    position.fragments += MP4Writer.fragments(in: boxes)
    pending.pointee.count = 0
  }

  /// The number of `moof` boxes.
  private static func fragments(in boxes: UnsafeRawBufferPointer) -> Int {
    var (at, count) = (0, 0)
    while at + 8 <= boxes.count {
      let size = Int(UInt32(bigEndian: boxes.loadUnaligned(fromByteOffset: at, as: UInt32.self)))
      if boxes[at + 4..<at + 8].elementsEqual("moof".utf8) { count += 1 }
      // A box of more than 4 GB says so in another place; a chunk never has one.
      guard size >= 8 else { break }
      at += size
    }
    return count
  }

  private func mux(_ packet: UnsafeMutablePointer<AVPacket>) throws {
    guard let format, let encoder, let stream else { return }
    packet.pointee.stream_index = 0
    av_packet_rescale_ts(packet, encoder.timeBase, stream.pointee.time_base)
    try check(av_write_frame(format, packet))
    packetCount += 1
    try flush()
  }

  private func check(_ status: Int32) throws {
    if status < 0 { throw file.failure(reason(libav: status)) }
  }
}
