import CLibAV

/// Writes uncompressed YUV4MPEG2: 4:4:4, 8 bits, limited range, any size.
///
/// The format has no tag for the matrix, and programs assume BT.601 for a stream without one (libswscale always, players for
/// pictures of our heights). So the samples are BT.601, and the colours come out right everywhere. Conversion costs up to
/// two levels of RGB; a PNG sequence costs nothing.
public final class Y4MWriter: FrameSink {
  public private(set) var frameCount: Int
  public private(set) var position: SinkPosition
  private let settings: OutputSettings
  private let file: OutputFile
  private let converter: ColourConverter
  private var frame: UnsafeMutablePointer<AVFrame>?
  private var isOpen = true

  /// Opens the output and writes the file's header.
  ///
  /// - Parameters:
  ///   - path: a name, or `-` for standard output.
  ///   - position: where an unfinished file of equal settings stands, to go on after it.
  /// - Throws: `VideoIOError.unsupportedSize`, `.cannotCreate`, `.writeFailed`.
  public init(path: String, settings: OutputSettings, continuing start: SinkPosition? = nil) throws {
    try settings.validate(for: .y4m)
    self.settings = settings
    converter = try ColourConverter(
      toFormat: AV_PIX_FMT_YUV444P, matrix: AVCOL_SPC_SMPTE170M, width: settings.width, height: settings.height)
    position = start ?? SinkPosition()
    frameCount = position.frames
    file = try OutputFile(path: path, keeping: position.bytes)
    frame = try newFrame(width: settings.width, height: settings.height, format: AV_PIX_FMT_YUV444P)
    let rate = settings.frameRate
    let header =
      "YUV4MPEG2 W\(settings.width) H\(settings.height) F\(rate.numerator):\(rate.denominator) Ip A1:1 C444 "
      + "XYSCSS=444 XCOLORRANGE=LIMITED\n"
    if file.length == 0 {
      try Array(header.utf8).withUnsafeBytes(file.write)
      position.bytes = file.length
    }
  }

  deinit {
    abandon()
    av_frame_free(&frame)
  }

  public func write(_ frames: [RGBFrame], endsChunk: Bool) throws {
    guard isOpen, let target = frame else { throw VideoIOError.closed(path: file.path) }
    let (width, height) = (settings.width, settings.height)
    do {
      for frame in frames {
        guard frame.width == width, frame.height == height else {
          throw VideoIOError.sizeChanged(
            path: file.path, expected: [width, height], found: [frame.width, frame.height])
        }
        converter.convert(frame, into: target)
        var bytes = Array("FRAME\n".utf8)
        bytes.reserveCapacity(bytes.count + 3 * width * height)
        let data = target.pointee.data
        let strides = target.pointee.linesize
        for (plane, stride) in [(data.0, strides.0), (data.1, strides.1), (data.2, strides.2)] {
          guard let plane else { continue }
          for row in 0..<height { bytes += UnsafeBufferPointer(start: plane + row * Int(stride), count: width) }
        }
        try bytes.withUnsafeBytes(file.write)
        frameCount += 1
      }
      if endsChunk { (position.frames, position.bytes) = (frameCount, file.length) }
    } catch {
      abandon()
      throw error
    }
  }

  public func synchronize() throws { try file.synchronize() }

  @discardableResult public func finish() throws -> Int {
    guard isOpen else { throw VideoIOError.closed(path: file.path) }
    isOpen = false
    try file.commit()
    return frameCount
  }

  public func abandon() {
    isOpen = false
    file.abandon(discarding: frameCount == 0)
  }
}
