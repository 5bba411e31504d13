import ArgumentParser
import Production
import Programs

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
    await ProgramEntry.run(GenerateVideo.self) { error in
      switch error {
      case is UsageError: 2
      case is RunStopped: 75
      default: nil
      }
    }
  }
}
