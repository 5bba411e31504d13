import CLibAV

/// What a video file says about itself.
public struct VideoInfo: Sendable, Hashable {
  /// Pixels.
  public var width: Int
  /// Pixels.
  public var height: Int
  /// Exact; `nil` where the file does not say.
  public var frameRate: FrameRate?
  /// libavcodec's name, such as `h264`.
  public var codec: String
  /// libavutil's name, such as `yuv420p`.
  public var pixelFormat: String
  /// YCbCr matrix, such as `bt709`; `unknown` without a tag.
  public var matrix: String
  /// Colour primaries, such as `bt709`.
  public var primaries: String
  /// Transfer function, such as `bt709`.
  public var transfer: String
  /// `tv` for limited, `pc` for full range.
  public var range: String
  /// Texts of the file, such as `comment` and `description`.
  public var metadata: [String: String]
}

/// Decodes a video from its first frame to its last.
///
/// YUV becomes RGB by the matrix and range that the frames are tagged with. Untagged video counts as BT.601 and limited
/// range, as in libswscale, which made most of it. The end of a file that was cut off counts as the end of the video.
public final class VideoReader {
  public let info: VideoInfo
  private let path: String
  private let input: MediaInput
  private var decoder: UnsafeMutablePointer<AVCodecContext>?
  private var packet: UnsafeMutablePointer<AVPacket>?
  private var frame: UnsafeMutablePointer<AVFrame>?
  private var converter: (shape: Shape, converter: ColourConverter)?
  private var decodedCount = 0

  private struct Shape: Equatable {
    var width: Int32
    var height: Int32
    var format: AVPixelFormat
    var matrix: AVColorSpace
    var fullRange: Bool
  }

  /// Opens a file of any format that libavformat knows; nothing is read from outside of it.
  ///
  /// - Parameter noun: What an error calls that which was wanted, such as `picture`.
  /// - Throws: `VideoIOError.cannotRead`.
  public init(path: String, noun: String = "video") throws {
    self.path = path
    input = try MediaInput(path: path, noun: noun)
    let parameters = input.stream.pointee.codecpar
    guard let parameters, let codec = avcodec_find_decoder(parameters.pointee.codec_id) else {
      throw input.failure("the installed libavcodec cannot decode it")
    }
    decoder = avcodec_alloc_context3(codec)
    packet = av_packet_alloc()
    frame = av_frame_alloc()
    var status = avcodec_parameters_to_context(decoder, parameters)
    decoder?.pointee.thread_count = 0
    if status >= 0 { status = avcodec_open2(decoder, codec, nil) }
    info = input.info
    if status < 0 { throw input.failure(reason(libav: status)) }
    guard info.width > 0, info.height > 0 else { throw input.failure("it is no \(noun), or it is damaged") }
    guard info.width <= (1 << 28) / info.height else {
      throw input.failure("frames of \(info.width)x\(info.height) are no picture")
    }
  }

  deinit {
    avcodec_free_context(&decoder)
    av_packet_free(&packet)
    av_frame_free(&frame)
  }

  /// The next frame, or `nil` after the last one.
  ///
  /// - Throws: `VideoIOError.cannotRead` for broken data.
  public func next() throws -> RGBFrame? {
    guard try decode(), let frame else { return nil }
    defer { av_frame_unref(frame) }
    return try converter(for: frame).convert(frame)
  }

  /// Passes over the next frame, which is cheaper than reading it.
  ///
  /// - Returns: `false` after the last frame.
  /// - Throws: `VideoIOError.cannotRead` for broken data.
  public func skip() throws -> Bool {
    guard try decode(), let frame else { return false }
    av_frame_unref(frame)
    return true
  }

  /// All frames of a short video.
  public static func frames(of path: String) throws -> [RGBFrame] {
    let reader = try VideoReader(path: path)
    var frames: [RGBFrame] = []
    while let frame = try reader.next() { frames.append(frame) }
    return frames
  }

  /// The exact number of frames, counted in the file without decoding.
  public static func frameCount(of path: String) throws -> Int {
    try VideoReader.packets(of: path).count
  }

  /// For each frame in the order of the file, whether decoding can start at it.
  public static func keyFrames(of path: String) throws -> [Bool] {
    try VideoReader.packets(of: path)
  }

  private static func packets(of path: String) throws -> [Bool] {
    let input = try MediaInput(path: path)
    var packet = av_packet_alloc()
    defer { av_packet_free(&packet) }
    var isKey: [Bool] = []
    while let packet, try input.read(into: packet) {
      if packet.pointee.flags & AV_PKT_FLAG_DISCARD == 0 { isKey.append(packet.pointee.flags & AV_PKT_FLAG_KEY != 0) }
      av_packet_unref(packet)
    }
    return isKey
  }

  /// Decodes into `frame`; `false` at the end.
  private func decode() throws -> Bool {
    guard let packet else { return false }
    while true {
      let status = avcodec_receive_frame(decoder, frame)
      if status >= 0 {
        decodedCount += 1
        return true
      }
      if status == longtake_error_eof() { return false }
      guard status == longtake_error_again() else { throw failure(status) }
      let sent: Int32
      if try input.read(into: packet) {
        sent = avcodec_send_packet(decoder, packet)
        av_packet_unref(packet)
      } else {
        sent = avcodec_send_packet(decoder, nil)
      }
      if sent < 0 && sent != longtake_error_eof() { throw failure(sent) }
    }
  }

  private func failure(_ status: Int32) -> VideoIOError {
    input.failure("after frame \(decodedCount): \(reason(libav: status))")
  }

  private func converter(for frame: UnsafeMutablePointer<AVFrame>) throws -> ColourConverter {
    let tagged = frame.pointee.colorspace
    let isUntagged = tagged == AVCOL_SPC_UNSPECIFIED || tagged == AVCOL_SPC_RGB
    let format = AVPixelFormat(frame.pointee.format)
    let isRGB = av_pix_fmt_desc_get(format).map { $0.pointee.flags & UInt64(AV_PIX_FMT_FLAG_RGB) != 0 } ?? false
    let shape = Shape(
      width: frame.pointee.width, height: frame.pointee.height, format: format,
      matrix: isUntagged ? AVCOL_SPC_SMPTE170M : tagged,
      fullRange: isRGB || frame.pointee.color_range == AVCOL_RANGE_JPEG)
    if let converter, converter.shape == shape { return converter.converter }
    let made = try ColourConverter(
      fromFormat: format, matrix: shape.matrix, fullRange: shape.fullRange, width: Int(shape.width),
      height: Int(shape.height))
    converter = (shape, made)
    return made
  }
}
