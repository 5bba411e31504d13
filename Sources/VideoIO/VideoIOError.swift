import CLibAV
import Foundation

/// What can go wrong between frames and files. Each description is one line that says what is wrong, where, and what to do.
public enum VideoIOError: Error, Equatable, Sendable, CustomStringConvertible, LocalizedError {
  /// The name of an output does not say what to write.
  case unknownFormat(path: String, known: [String])
  /// A setting is out of its range.
  case invalidSetting(name: String, value: String, expected: String)
  /// A format that cannot hold frames of this size.
  case unsupportedSize(width: Int, height: Int, reason: String)
  /// A frame whose size is not that of the output.
  case sizeChanged(path: String, expected: [Int], found: [Int])
  /// The installed libavcodec lacks an encoder.
  case encoderMissing(name: String)
  /// The encoder or the muxer refused or lost something.
  case encodingFailed(path: String, reason: String)
  /// A file or folder could not be made.
  case cannotCreate(path: String, reason: String)
  /// Writing stopped; what was finished before stays under `path`.
  case writeFailed(path: String, reason: String)
  /// The output has been finished or abandoned, or an earlier write failed.
  case closed(path: String)
  /// A file could not be read or understood.
  case cannotRead(path: String, reason: String)

  public var description: String {
    switch self {
    case .unknownFormat(let path, let known):
      "output '\(path)' has no known format: use a name that ends in one of \(known.joined(separator: ", "))"
    case .invalidSetting(let name, let value, let expected):
      "\(name) '\(value)' is not possible: expected \(expected)"
    case .unsupportedSize(let width, let height, let reason):
      "frames of \(width)x\(height) cannot be written: \(reason)"
    case .sizeChanged(let path, let expected, let found):
      "'\(path)': a frame of \(found.map(String.init).joined(separator: "x")) does not fit a video of "
        + expected.map(String.init).joined(separator: "x")
    case .encoderMissing(let name):
      "the installed libavcodec has no encoder '\(name)': install an FFmpeg that is built with it, or write .y4m or .png"
    case .encodingFailed(let path, let reason): "encoding '\(path)' failed: \(reason)"
    case .cannotCreate(let path, let reason): "cannot create '\(path)': \(reason)"
    case .writeFailed(let path, let reason): "writing '\(path)' failed: \(reason)"
    case .closed(let path): "'\(path)' takes no more frames: it is finished, abandoned, or an earlier write failed"
    case .cannotRead(let path, let reason): "cannot read '\(path)': \(reason)"
    }
  }

  public var errorDescription: String? { description }

  /// Whether the request was wrong, as could be known before any work, and not the world.
  public var isUsage: Bool {
    switch self {
    case .unknownFormat, .invalidSetting, .unsupportedSize: true
    default: false
    }
  }
}

/// The words of an `errno`, with advice where there is some.
package func reason(errno code: Int32) -> String {
  let words = String(cString: strerror(code)).lowercased()
  switch code {
  case ENOSPC: return "\(words); free some space or write elsewhere"
  case EACCES, EROFS, EPERM: return "\(words); choose a folder that you may write to"
  case EPIPE: return "\(words); the reading program has ended"
  default: return words
  }
}

/// The words of a libav error, which may be an `errno` in disguise.
func reason(libav code: Int32) -> String {
  if code < 0, -code < 200 { return reason(errno: -code) }
  var text = [CChar](repeating: 0, count: 128)
  guard av_strerror(code, &text, text.count) == 0 else { return "libav error \(code)" }
  return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self).lowercased()
}

/// Keeps libav from printing to standard error: what matters is in the thrown errors.
enum LibAV {
  static let silenced: Void = av_log_set_level(AV_LOG_QUIET)
}
