import CLibAV

/// Converts pictures between RGB and the YUV of a video, through frames whose rows libswscale may read past.
///
/// Rounding is exact and independent of the processor. RGB is full range.
final class ColourConverter {
  private let converter: UnsafeMutableRawPointer
  private var rgb: UnsafeMutablePointer<AVFrame>?
  private let width: Int
  private let height: Int

  /// From RGB to `format`, limited range.
  convenience init(toFormat format: AVPixelFormat, matrix: AVColorSpace, width: Int, height: Int) throws {
    try self.init(
      width: width, height: height,
      longtake_converter_open(
        Int32(width), Int32(height), AV_PIX_FMT_RGB24, 1, format, 0, Int32(bitPattern: matrix.rawValue)))
  }

  /// From `format` to RGB.
  convenience init(
    fromFormat format: AVPixelFormat, matrix: AVColorSpace, fullRange: Bool, width: Int, height: Int
  ) throws {
    try self.init(
      width: width, height: height,
      longtake_converter_open(
        Int32(width), Int32(height), format, fullRange ? 1 : 0, AV_PIX_FMT_RGB24, 1, Int32(bitPattern: matrix.rawValue))
    )
  }

  private init(width: Int, height: Int, _ converter: UnsafeMutableRawPointer?) throws {
    guard let converter else {
      throw VideoIOError.unsupportedSize(
        width: width, height: height, reason: "libswscale cannot convert this pixel format")
    }
    self.converter = converter
    self.width = width
    self.height = height
    rgb = try newFrame(width: width, height: height, format: AV_PIX_FMT_RGB24)
  }

  deinit {
    longtake_converter_free(converter)
    av_frame_free(&rgb)
  }

  /// Writes the YUV of `frame` into `target`, a frame with buffers of its own.
  func convert(_ frame: RGBFrame, into target: UnsafeMutablePointer<AVFrame>) {
    precondition(frame.width == width && frame.height == height, "a converter has one size")
    guard let rgb, let rows = rgb.pointee.data.0 else { return }
    let stride = Int(rgb.pointee.linesize.0)
    frame.pixels.withUnsafeBytes { pixels in
      for row in 0..<height {
        let line = UnsafeRawBufferPointer(rebasing: pixels[row * width * 3..<(row + 1) * width * 3])
        UnsafeMutableRawBufferPointer(start: rows + row * stride, count: width * 3).copyMemory(from: line)
      }
    }
    longtake_converter_run(converter, rgb, target)
  }

  /// The RGB of a decoded frame.
  func convert(_ source: UnsafePointer<AVFrame>) -> RGBFrame {
    var pixels = [UInt8](repeating: 0, count: width * height * 3)
    if let rgb, let rows = rgb.pointee.data.0 {
      longtake_converter_run(converter, source, rgb)
      let stride = Int(rgb.pointee.linesize.0)
      pixels.withUnsafeMutableBytes { out in
        for row in 0..<height {
          let line = UnsafeMutableRawBufferPointer(rebasing: out[row * width * 3..<(row + 1) * width * 3])
          line.copyMemory(from: UnsafeRawBufferPointer(start: rows + row * stride, count: width * 3))
        }
      }
    }
    return RGBFrame(width: width, height: height, pixels: pixels)
  }
}

/// A frame with buffers of its own.
func newFrame(width: Int, height: Int, format: AVPixelFormat) throws -> UnsafeMutablePointer<AVFrame> {
  var frame = av_frame_alloc()
  frame?.pointee.width = Int32(width)
  frame?.pointee.height = Int32(height)
  frame?.pointee.format = format.rawValue
  guard let result = frame, av_frame_get_buffer(result, 0) >= 0 else {
    av_frame_free(&frame)
    throw VideoIOError.unsupportedSize(width: width, height: height, reason: "no memory for a frame of this size")
  }
  return result
}
