import Foundation
import Production

/// SIGINT and SIGTERM end a resumable run after its chunk; a second one ends the process at once.
enum StopSignals {
  static let request = StopRequest()
  private static let message: StaticString = "\nstopping after this chunk; once more to stop at once\n"

  static func install() {
    for number in [SIGINT, SIGTERM] {
      signal(number) { _ in
        // Only what is allowed in a signal handler.
        StopSignals.request.make()
        signal(SIGINT, SIG_DFL)
        signal(SIGTERM, SIG_DFL)
        _ = write(STDERR_FILENO, StopSignals.message.utf8Start, StopSignals.message.utf8CodeUnitCount)
      }
    }
    // Made now: a lazy global is no work for a signal handler.
    _ = (request, message)
  }
}
