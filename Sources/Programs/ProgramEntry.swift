import ArgumentParser
import Foundation
import VideoIO

/// How each program starts and ends: parse, run, one line on standard error, an exit status.
public enum ProgramEntry {
  /// Runs a command of the process's arguments and returns if it went well; help and versions are printed.
  ///
  /// - Parameter status: The exit status of an error that a command threw, if it is not 1. Arguments that cannot be parsed
  ///   are status 2, as are errors that `status` says so of.
  public static func run(_ root: any ParsableCommand.Type, status: @Sendable (any Error) -> Int32? = { _ in nil }) async
  {
    prepare()
    var isParsed = false
    do {
      var command = try root.parseAsRoot(nil)
      isParsed = true
      if var command = command as? any AsyncParsableCommand {
        try await command.run()
      } else {
        try command.run()
      }
    } catch {
      if root.exitCode(for: error).isSuccess { return print(root.fullMessage(for: error)) }
      let name = root.configuration.commandName ?? root._commandName
      if let known = status(error) { fail(name, "\(error)", known) }
      if !isParsed || root.exitCode(for: error) == .validationFailure {
        fail(name, root.message(for: error) + " (\(name) --help shows what there is)", 2)
      }
      fail(name, "\(error)", 1)
    }
  }

  /// `NAME: …` on standard error, always one line, and the end of the process.
  private static func fail(_ name: String, _ message: String, _ status: Int32) -> Never {
    let line = message.split(whereSeparator: \.isNewline).joined(separator: " ")
    _ = try? DirectOutput.standardError.write("\(name): \(line)\n")
    exit(status)
  }

  /// Makes the standard descriptors safe to write to, before anything else is opened.
  ///
  /// A closed one is opened on nothing, where writing fails, or the next file would get its number and the progress lines; a
  /// pipe whose reader has gone, or a file that may not grow (`ulimit -f`), is an error of the write, not a signal that ends
  /// the process without a word.
  private static func prepare() {
    for descriptor in STDIN_FILENO...STDERR_FILENO where fcntl(descriptor, F_GETFD) < 0 {
      _ = open("/dev/null", O_RDONLY)
    }
    signal(SIGPIPE, SIG_IGN)
    signal(SIGXFSZ, SIG_IGN)
  }
}
