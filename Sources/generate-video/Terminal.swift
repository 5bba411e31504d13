import Foundation
import VideoIO

/// Lines on the two outputs.
enum Terminal {
  /// Makes the standard descriptors safe to write to, before anything else is opened.
  ///
  /// A closed one is opened on nothing, where writing fails, or the next file would get its number and the progress lines; a
  /// pipe whose reader has gone, or a file that may not grow (`ulimit -f`), is an error of the write, not a signal that ends
  /// the process without a word.
  static func prepare() {
    for descriptor in STDIN_FILENO...STDERR_FILENO where fcntl(descriptor, F_GETFD) < 0 {
      _ = open("/dev/null", O_RDONLY)
    }
    signal(SIGPIPE, SIG_IGN)
    signal(SIGXFSZ, SIG_IGN)
  }

  /// Whether a person watches standard error.
  static var isInteractive: Bool { isatty(STDERR_FILENO) == 1 }

  /// A line on standard error.
  static func say(_ text: String) { show(text + "\n") }

  /// Text on standard error; there is no one to tell if that fails.
  static func show(_ text: String) { _ = try? DirectOutput.standardError.write(text) }

  /// `generate-video: …` on standard error, always one line.
  static func error(_ text: String) {
    say("generate-video: " + text.split(whereSeparator: \.isNewline).joined(separator: " "))
  }

  static func json(_ value: some Encodable, pretty: Bool = false) throws -> String {
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    if pretty { encoder.outputFormatting.insert(.prettyPrinted) }
    return String(decoding: try encoder.encode(value), as: UTF8.self)
  }
}
