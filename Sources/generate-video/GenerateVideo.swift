import ArgumentParser
import Foundation
import Production

/// `generate-video`: a prompt in, a playable video out.
struct GenerateVideo: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "generate-video",
    abstract: "Make a long video from a prompt, chunk by chunk, in bounded memory.",
    discussion: """
      A causal video transformer (Wan 2.1 layout, such as Self-Forcing) denoises a few latent frames at a time, reading a \
      key/value memory of the frames before; each finished chunk is decoded and written at once.

      EXAMPLES
        generate-video -p "a red ball rolls over green hills" -o ball.mp4
        generate-video -p "purple mountains" --seconds 60 --sink 3 -o long.mp4
        generate-video -p "pink waves" -o - | ffplay -
        generate-video -p "a train in the snow" --seconds 600 --run-dir train; generate-video resume train
        generate-video plan --seconds 60
        generate-video info weights/default

      Exit status: 0 done, 1 failed while running, 2 wrong usage, 75 stopped by a signal (resume goes on).
      """,
    version: "\(Engine.name) \(Engine.version)",
    subcommands: [Run.self, Resume.self, Plan.self, Info.self, Bench.self], defaultSubcommand: Run.self)
}

@main
enum Program {
  static func main() async {
    Terminal.prepare()
    do {
      var command = try GenerateVideo.parseAsRoot()
      if var command = command as? any AsyncParsableCommand {
        try await command.run()
      } else {
        try command.run()
      }
    } catch {
      fail(error)
    }
  }

  /// One line on standard error, and the exit status: 2 for usage, 1 for the rest; help and version are no failures.
  private static func fail(_ error: any Error) -> Never {
    let status = GenerateVideo.exitCode(for: error)
    if status.isSuccess { GenerateVideo.exit(withError: error) }
    if let usage = error as? UsageError {
      Terminal.error("\(usage)")
      exit(2)
    }
    if error is RunStopped {
      Terminal.error("\(error)")
      exit(75)
    }
    if status == .validationFailure {
      Terminal.error(GenerateVideo.message(for: error) + " (generate-video --help shows what there is)")
      exit(2)
    }
    Terminal.error("\(error)")
    exit(1)
  }
}
