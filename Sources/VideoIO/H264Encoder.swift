import CLibAV
import Foundation

/// Turns frames into H.264, chunk by chunk: libx264, yuv420p, BT.709 limited range, converted and tagged.
///
/// Each chunk has an encoder of its own, opened at its first frame and drained at its end. So a chunk starts with an IDR
/// frame, no frame waits in a lookahead when the chunk is over, and the bytes of a chunk depend on its frames alone: a
/// resumed run writes the same ones. Within the chunk x264 keeps its lookahead, which a zero-latency encoder would have
/// to give up. There are no B-frames: decoding order is display order, and time stamps start at zero.
/// Opening costs a few milliseconds, once per chunk.
final class H264Encoder {
  static let presets = [
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo",
  ]
  /// Presets that let a frame refer to one other only. x264 then makes every intra frame a key frame, as nothing behind it can
  /// refer to what is before it.
  private static let shortSighted = ["ultrafast", "superfast", "veryfast"]
  /// Part of the result, so the same everywhere: how many threads x264 uses decides which bytes it writes.
  private static let threads: Int32 = 4
  /// Key frames inside a long chunk, in seconds, so that a player can seek.
  private static let keyFrameSeconds = 4.0

  /// One frame lasts one unit.
  let timeBase: AVRational
  private let path: String
  private let settings: OutputSettings
  private let encoderName: String
  private let converter: ColourConverter
  private var context: UnsafeMutablePointer<AVCodecContext>?
  private var frame: UnsafeMutablePointer<AVFrame>?
  private var packet: UnsafeMutablePointer<AVPacket>?
  private var parameterSets: [UInt8] = []
  private var isFirstChunk: Bool
  private var isFirstPacketOfChunk = true

  /// Opens the encoder of the first chunk, so that everything that can fail fails here.
  ///
  /// - Parameter isFirstChunk: whether the video begins here, and not in the file that it continues.
  /// - Throws: `VideoIOError.encoderMissing`, `.encodingFailed`.
  init(path: String, settings: OutputSettings, encoderName: String = "libx264", isFirstChunk: Bool = true) throws {
    self.path = path
    self.isFirstChunk = isFirstChunk
    self.settings = settings
    self.encoderName = encoderName
    timeBase = AVRational(num: Int32(settings.frameRate.denominator), den: Int32(settings.frameRate.numerator))
    converter = try ColourConverter(
      toFormat: AV_PIX_FMT_YUV420P, matrix: AVCOL_SPC_BT709, width: settings.width, height: settings.height)
    frame = try newFrame(width: settings.width, height: settings.height, format: AV_PIX_FMT_YUV420P)
    packet = av_packet_alloc()
    try openContext()
  }

  deinit {
    avcodec_free_context(&context)
    av_frame_free(&frame)
    av_packet_free(&packet)
  }

  /// Describes the stream to a muxer; callable until the first chunk ends.
  func describe(to stream: UnsafeMutablePointer<AVStream>) throws {
    try check(avcodec_parameters_from_context(stream.pointee.codecpar, context))
    stream.pointee.time_base = timeBase
    stream.pointee.avg_frame_rate = AVRational(num: timeBase.den, den: timeBase.num)
    stream.pointee.sample_aspect_ratio = AVRational(num: 1, den: 1)
  }

  /// Encodes one frame.
  ///
  /// - Parameters:
  ///   - index: the frame's number in the video, which is its time stamp.
  ///   - emit: gets the packets that are ready, in `timeBase`.
  func encode(_ picture: RGBFrame, index: Int, emit: (UnsafeMutablePointer<AVPacket>) throws -> Void) throws {
    if context == nil { try openContext() }
    guard let frame else { return }
    try check(av_frame_make_writable(frame))
    converter.convert(picture, into: frame)
    frame.pointee.pts = Int64(index)
    try check(avcodec_send_frame(context, frame))
    try receive(emit)
  }

  /// Ends the chunk: emits every packet that is left.
  func endChunk(emit: (UnsafeMutablePointer<AVPacket>) throws -> Void) throws {
    if context == nil { return }
    try check(avcodec_send_frame(context, nil))
    try receive(emit)
    avcodec_free_context(&context)
    isFirstChunk = false
  }

  private func receive(_ emit: (UnsafeMutablePointer<AVPacket>) throws -> Void) throws {
    while let packet {
      let status = avcodec_receive_packet(context, packet)
      if status == longtake_error_again() || status == longtake_error_eof() { return }
      try check(status)
      defer { av_packet_unref(packet) }
      packet.pointee.duration = 1
      // x264 describes itself in the first packet of every encoder; once per video is enough.
      if isFirstPacketOfChunk && !isFirstChunk { H264Encoder.dropLeadingUserData(packet) }
      isFirstPacketOfChunk = false
      try emit(packet)
    }
  }

  private func openContext() throws {
    _ = LibAV.silenced
    guard let codec = avcodec_find_encoder_by_name(encoderName) else {
      throw VideoIOError.encoderMissing(name: encoderName)
    }
    guard let opened = avcodec_alloc_context3(codec) else {
      throw VideoIOError.encodingFailed(path: path, reason: "no memory for the encoder")
    }
    context = opened
    isFirstPacketOfChunk = true
    opened.pointee.width = Int32(settings.width)
    opened.pointee.height = Int32(settings.height)
    opened.pointee.pix_fmt = AV_PIX_FMT_YUV420P
    opened.pointee.time_base = timeBase
    opened.pointee.framerate = AVRational(num: timeBase.den, den: timeBase.num)
    opened.pointee.sample_aspect_ratio = AVRational(num: 1, den: 1)
    opened.pointee.color_primaries = AVCOL_PRI_BT709
    opened.pointee.color_trc = AVCOL_TRC_BT709
    opened.pointee.colorspace = AVCOL_SPC_BT709
    opened.pointee.color_range = AVCOL_RANGE_MPEG
    opened.pointee.chroma_sample_location = AVCHROMA_LOC_LEFT
    opened.pointee.max_b_frames = 0
    opened.pointee.gop_size = Int32(
      max(1, min(1000, (settings.frameRate.framesPerSecond * H264Encoder.keyFrameSeconds).rounded())))
    // A cut inside a chunk gets an intra frame, but no key frame: those mark chunks.
    opened.pointee.keyint_min = opened.pointee.gop_size
    if H264Encoder.shortSighted.contains(settings.preset) { opened.pointee.refs = 2 }
    opened.pointee.thread_count = H264Encoder.threads
    opened.pointee.flags |= AV_CODEC_FLAG_GLOBAL_HEADER | AV_CODEC_FLAG_BITEXACT
    try check(av_opt_set(opened.pointee.priv_data, "preset", settings.preset, 0))
    try check(av_opt_set(opened.pointee.priv_data, "crf", "\(settings.crf)", 0))
    // On a busy machine the macroblock tree gave one file in 50 other bytes for equal frames; without it, none in 5000
    // (docs/pitfalls.md).
    try check(av_opt_set(opened.pointee.priv_data, "mbtree", "0", 0))
    try check(avcodec_open2(opened, codec, nil))
    // One set of parameters in the file's header serves all chunks, so all encoders must agree on it.
    let sets = Array(UnsafeBufferPointer(start: opened.pointee.extradata, count: Int(opened.pointee.extradata_size)))
    if parameterSets.isEmpty { parameterSets = sets }
    if parameterSets != sets {
      throw VideoIOError.encodingFailed(path: path, reason: "the encoder changed its parameters between chunks")
    }
  }

  /// Moves the packet's start behind leading SEI units that hold user data.
  private static func dropLeadingUserData(_ packet: UnsafeMutablePointer<AVPacket>) {
    let bytes = UnsafeBufferPointer(start: packet.pointee.data, count: Int(packet.pointee.size))
    /// The length of a start code at `i`: 3, 4, or 0 for none.
    func startCode(_ i: Int) -> Int {
      guard i + 3 < bytes.count, bytes[i] == 0, bytes[i + 1] == 0 else { return 0 }
      if bytes[i + 2] == 1 { return 3 }
      return bytes[i + 2] == 0 && bytes[i + 3] == 1 ? 4 : 0
    }
    let userDataUnregistered = 5
    let code = startCode(0)
    guard code > 0, code + 1 < bytes.count, bytes[code] & 0x1F == 6, Int(bytes[code + 1]) == userDataUnregistered else {
      return
    }
    guard let next = (code..<bytes.count).first(where: { startCode($0) > 0 }) else { return }
    packet.pointee.data += next
    packet.pointee.size -= Int32(next)
  }

  private func check(_ status: Int32) throws {
    if status < 0 { throw VideoIOError.encodingFailed(path: path, reason: reason(libav: status)) }
  }
}
