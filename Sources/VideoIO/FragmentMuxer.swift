import CLibAV

/// Turns frames into the boxes of a fragmented mp4 with H.264: first the header, then for each chunk its fragments, each
/// beginning with a key frame. Time stamps are exact: frame `n` is shown at `n / frameRate`. Equal frames and settings give
/// equal bytes.
///
/// The boxes go to whoever asks for them: ``MP4Writer`` puts them into one file, ``HLSWriter`` into one for each chunk.
final class FragmentMuxer {
  private(set) var frameCount: Int
  /// Fragments so far.
  private(set) var fragments: Int
  private let path: String
  private let settings: OutputSettings
  private let fail: (String) -> VideoIOError
  private var encoder: H264Encoder?
  private var format: UnsafeMutablePointer<AVFormatContext>?
  private var stream: UnsafeMutablePointer<AVStream>?
  private var packetCount: Int

  /// Opens the encoder, so that everything that can fail without a file fails here.
  ///
  /// - Parameters:
  ///   - path: what errors call the output.
  ///   - start: where an unfinished video of equal settings stands, to go on after it.
  ///   - fail: makes an error of a reason.
  /// - Throws: `VideoIOError.unsupportedSize` (odd sides), `.invalidSetting`, `.encoderMissing`.
  init(
    path: String, settings: OutputSettings, encoderName: String, continuing start: SinkPosition,
    fail: @escaping (String) -> VideoIOError
  ) throws {
    try settings.validate(for: .mp4)
    self.path = path
    self.settings = settings
    self.fail = fail
    encoder = try H264Encoder(
      path: path, settings: settings, encoderName: encoderName, isFirstChunk: start.fragments == 0)
    (frameCount, packetCount, fragments) = (start.frames, start.frames, start.fragments)
  }

  deinit { close() }

  var isOpen: Bool { encoder != nil && format != nil }

  /// Frees everything.
  func close() {
    encoder = nil
    stream = nil
    guard let format else { return }
    longtake_avio_free(format.pointee.pb)
    format.pointee.pb = nil
    avformat_free_context(format)
    self.format = nil
  }

  /// Makes the header, and gives it to `put`.
  func begin(_ put: (UnsafeRawBufferPointer) throws -> Void) throws {
    guard let encoder else { throw VideoIOError.closed(path: path) }
    var allocated: UnsafeMutablePointer<AVFormatContext>?
    try check(avformat_alloc_output_context2(&allocated, nil, "mp4", nil))
    guard let format = allocated else { throw fail("no mp4 muxer") }
    self.format = format
    guard let io = longtake_avio_open() else { throw fail("no memory") }
    format.pointee.pb = io
    // No version of the library in the file: the same frames are the same bytes.
    format.pointee.flags |= AVFMT_FLAG_BITEXACT | AVFMT_FLAG_CUSTOM_IO
    guard let stream = avformat_new_stream(format, nil) else { throw fail("no memory") }
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
    if fragments > 0 {
      flags += "+frag_discont"
      try check(av_dict_set(&options, "fragment_index", "\(fragments + 1)", 0))
    }
    try check(av_dict_set(&options, "movflags", flags, 0))
    try check(avformat_write_header(format, &options))
    try flush(put)
  }

  /// Encodes a frame; `put` gets the boxes that are complete.
  func encode(_ frame: RGBFrame, _ put: (UnsafeRawBufferPointer) throws -> Void) throws {
    guard let encoder, isOpen else { throw VideoIOError.closed(path: path) }
    guard frame.width == settings.width, frame.height == settings.height else {
      throw VideoIOError.sizeChanged(
        path: path, expected: [settings.width, settings.height], found: [frame.width, frame.height])
    }
    try encoder.encode(frame, index: frameCount) { try mux($0, put) }
    frameCount += 1
  }

  /// Drains the encoder, and has the muxer close its fragment.
  func endChunk(_ put: (UnsafeRawBufferPointer) throws -> Void) throws {
    guard let encoder, let format else { throw VideoIOError.closed(path: path) }
    try encoder.endChunk { try mux($0, put) }
    try check(av_write_frame(format, nil))
    try flush(put)
  }

  /// Ends the last chunk and the stream.
  func finish(_ put: (UnsafeRawBufferPointer) throws -> Void) throws {
    try endChunk(put)
    try check(av_write_trailer(format))
    try flush(put)
    guard packetCount == frameCount else {
      throw VideoIOError.encodingFailed(path: path, reason: "\(packetCount) of \(frameCount) frames came out")
    }
    close()
  }

  /// Gives what the muxer has written. It keeps a fragment to itself until it is complete, so these are always whole boxes.
  private func flush(_ put: (UnsafeRawBufferPointer) throws -> Void) throws {
    guard let io = format?.pointee.pb, let pending = longtake_avio_pending(io) else { return }
    try check(io.pointee.error)
    if pending.pointee.count == 0 { return }
    let boxes = UnsafeRawBufferPointer(start: pending.pointee.bytes, count: pending.pointee.count)
    try put(boxes)
    fragments += FragmentMuxer.fragments(in: boxes)
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

  private func mux(
    _ packet: UnsafeMutablePointer<AVPacket>, _ put: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    guard let format, let encoder, let stream else { return }
    packet.pointee.stream_index = 0
    av_packet_rescale_ts(packet, encoder.timeBase, stream.pointee.time_base)
    try check(av_write_frame(format, packet))
    packetCount += 1
    try flush(put)
  }

  private func check(_ status: Int32) throws {
    if status < 0 { throw fail(reason(libav: status)) }
  }
}
