import Foundation
import VideoIO

/// Lines on the two outputs.
enum Terminal {
  /// Whether a person watches standard error.
  static var isInteractive: Bool { isatty(STDERR_FILENO) == 1 }

  /// A line on standard error.
  static func say(_ text: String) { show(text + "\n") }

  /// Text on standard error; there is no one to tell if that fails.
  static func show(_ text: String) { _ = try? DirectOutput.standardError.write(text) }

  static func json(_ value: some Encodable, pretty: Bool = false) throws -> String {
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    if pretty { encoder.outputFormatting.insert(.prettyPrinted) }
    return String(decoding: try encoder.encode(value), as: UTF8.self)
  }
}
