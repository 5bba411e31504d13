import CLibAV
import CPNG
import Foundation

/// Reads and writes PNG files.
public enum PNG {
  /// Writes an 8-bit RGB picture under a temporary name and renames it, replacing an older file.
  ///
  /// - Throws: `VideoIOError.writeFailed`; nothing is left then.
  public static func write(_ frame: RGBFrame, to path: String) throws {
    try write(frame.pixels, width: frame.width, height: frame.height, format: rgb, bytesPerPixel: 3, to: path)
  }

  /// Writes an 8-bit grey picture, `[height, width]` row major, in the same way.
  ///
  /// - Throws: `VideoIOError.writeFailed`; nothing is left then.
  public static func write(grey: [UInt8], width: Int, height: Int, to path: String) throws {
    try write(grey, width: width, height: height, format: PNG.grey, bytesPerPixel: 1, to: path)
  }

  /// Reads a PNG of any kind as 8-bit RGB. Transparent parts are laid over black.
  ///
  /// - Throws: `VideoIOError.cannotRead` for a file that is missing, broken, or of more than 2^28 pixels.
  public static func read(_ path: String) throws -> RGBFrame {
    var image = png_image()
    image.version = 1
    defer { png_image_free(&image) }
    guard png_image_begin_read_from_file(&image, path) != 0 else {
      throw VideoIOError.cannotRead(path: path, reason: message(of: image))
    }
    let (width, height) = (Int(image.width), Int(image.height))
    guard width > 0, height > 0, width <= maximumPixels / height else {
      throw VideoIOError.cannotRead(path: path, reason: "a picture of \(width)x\(height) is too large")
    }
    image.format = rgb
    var pixels = [UInt8](repeating: 0, count: width * height * 3)
    var background = png_color(red: 0, green: 0, blue: 0)
    guard png_image_finish_read(&image, &background, &pixels, 0, nil) != 0 else {
      throw VideoIOError.cannotRead(path: path, reason: message(of: image))
    }
    return RGBFrame(width: width, height: height, pixels: pixels)
  }

  private static let grey: UInt32 = 0
  private static let rgb = UInt32(PNG_FORMAT_FLAG_COLOR)
  private static let maximumPixels = 1 << 28

  private static func write(
    _ pixels: [UInt8], width: Int, height: Int, format: UInt32, bytesPerPixel: Int, to path: String
  ) throws {
    precondition(
      pixels.count == width * height * bytesPerPixel, "\(pixels.count) bytes for a picture of \(width)x\(height)")
    let encoded = try encode(pixels, width: width, height: height, format: format, path: path)
    let temporary = path + ".part"
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else {
      throw VideoIOError.cannotCreate(path: path, reason: OutputFile.openingReason(temporary, errno))
    }
    var error = longtake_write_all(descriptor, encoded, encoded.count, -1)
    if close(descriptor) != 0, error == 0 { error = errno }
    if error == 0, rename(temporary, path) != 0 { error = errno }
    if error != 0 {
      unlink(temporary)
      throw VideoIOError.writeFailed(path: path, reason: reason(errno: error))
    }
  }

  /// The bytes of a file. It is written by hand, since libpng's own function keeps the cause of a failure to itself.
  private static func encode(
    _ pixels: [UInt8], width: Int, height: Int, format: UInt32, path: String
  ) throws -> [UInt8] {
    var image = png_image()
    image.version = 1
    image.width = UInt32(width)
    image.height = UInt32(height)
    image.format = format
    defer { png_image_free(&image) }
    // What deflate can need at most for the rows and their filter bytes, and the chunks around.
    let rows = pixels.count + height
    var capacity = rows + rows / 8 + rows / 64 + rows / 1024 + 4096
    var status: Int32 = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: capacity) { out, count in
      status = png_image_write_to_memory(&image, out.baseAddress, &capacity, 0, pixels, 0, nil)
      count = status != 0 ? min(capacity, out.count) : 0
    }
    if status == 0 { throw VideoIOError.writeFailed(path: path, reason: message(of: image)) }
    return bytes
  }

  private static func message(of image: png_image) -> String {
    withUnsafeBytes(of: image.message) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
  }
}
