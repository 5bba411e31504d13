import CLibAV
import Foundation

/// An open media file and its video stream: packets, not pictures.
final class MediaInput {
  let stream: UnsafeMutablePointer<AVStream>
  private let path: String
  private var format: UnsafeMutablePointer<AVFormatContext>?

  /// Opens a file and finds its video.
  ///
  /// - Parameter noun: What an error calls that which was wanted.
  /// - Throws: `VideoIOError.cannotRead`.
  init(path: String, noun: String = "video") throws {
    _ = LibAV.silenced
    func failure(_ reason: String) -> VideoIOError { .cannotRead(path: path, reason: reason) }
    self.path = path
    var status = stat()
    if stat(path, &status) != 0 { throw failure(reason(errno: errno)) }
    if status.st_mode & S_IFMT == S_IFDIR { throw failure("it is a folder, not a \(noun)") }
    if status.st_mode & S_IFMT == S_IFREG && status.st_size == 0 { throw failure("the file is empty") }
    var options: OpaquePointer?
    defer { av_dict_free(&options) }
    // A playlist must not lead to the network.
    av_dict_set(&options, "protocol_whitelist", "file", 0)
    var opened: UnsafeMutablePointer<AVFormatContext>?
    var result = avformat_open_input(&opened, "file:" + path, nil, &options)
    guard result >= 0, let context = opened else {
      let isUnknown = result == longtake_error_invalid_data()
      throw failure(isUnknown ? "it is no \(noun), or it is damaged" : reason(libav: result))
    }
    var found: UnsafeMutablePointer<AVStream>?
    result = avformat_find_stream_info(context, nil)
    if result >= 0 {
      result = av_find_best_stream(context, AVMEDIA_TYPE_VIDEO, -1, -1, nil, 0)
      if result >= 0, result < context.pointee.nb_streams { found = context.pointee.streams[Int(result)] }
    }
    // libavformat "plays" text files as terminal art, which is never what was meant.
    let art = [AV_CODEC_ID_ANSI, AV_CODEC_ID_BINTEXT, AV_CODEC_ID_XBIN, AV_CODEC_ID_IDF]
    guard let found, !art.contains(found.pointee.codecpar.pointee.codec_id) else {
      avformat_close_input(&opened)
      throw failure("it holds no \(noun)")
    }
    format = context
    stream = found
  }

  deinit { avformat_close_input(&format) }

  func failure(_ reason: String) -> VideoIOError { .cannotRead(path: path, reason: reason) }

  /// Reads the next whole packet of the video; `false` at the end, which may be where a killed run left off.
  func read(into packet: UnsafeMutablePointer<AVPacket>) throws -> Bool {
    while true {
      let status = av_read_frame(format, packet)
      if status == longtake_error_eof() { return false }
      if status < 0 { throw failure(reason(libav: status)) }
      let isTorn = packet.pointee.flags & AV_PKT_FLAG_CORRUPT != 0
      if packet.pointee.stream_index == stream.pointee.index && !isTorn { return true }
      av_packet_unref(packet)
    }
  }

  var info: VideoInfo {
    let parameters = stream.pointee.codecpar.pointee
    let rate = av_guess_frame_rate(format, stream, nil)
    func name(_ text: UnsafePointer<CChar>?) -> String { text.map { String(cString: $0) } ?? "unknown" }
    var metadata: [String: String] = [:]
    var entry: UnsafeMutablePointer<AVDictionaryEntry>?
    while let next = av_dict_get(format?.pointee.metadata, "", entry, AV_DICT_IGNORE_SUFFIX) {
      if let key = next.pointee.key, let value = next.pointee.value {
        metadata[String(cString: key)] = String(cString: value)
      }
      entry = next
    }
    return VideoInfo(
      width: Int(parameters.width), height: Int(parameters.height),
      frameRate: try? FrameRate(Int(rate.num), Int(rate.den)), codec: name(avcodec_get_name(parameters.codec_id)),
      pixelFormat: name(av_get_pix_fmt_name(AVPixelFormat(parameters.format))),
      matrix: name(av_color_space_name(parameters.color_space)),
      primaries: name(av_color_primaries_name(parameters.color_primaries)),
      transfer: name(av_color_transfer_name(parameters.color_trc)),
      range: name(av_color_range_name(parameters.color_range)), metadata: metadata)
  }
}
