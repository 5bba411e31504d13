import ArgumentParser
import Foundation
import Programs
import VideoIO
import VideoQuality

/// The program: parses, scores, prints.
struct ScoreVideo: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "score-video",
    abstract: "How good is a long video? Loops, freezes, motion, drift, flicker and seams, without a reference.",
    discussion: """
      INPUT is a video of any origin, a run directory of generate-video (finished, running or killed), or a .safetensors \
      file with latents. No network is asked; every measure is a formula, written in the file of its name under \
      Sources/VideoQuality. Videos of every length are judged by 64 samples, so that their numbers can be compared.

      WHAT THE NUMBERS SAY
        loop score         100 never repeats, 24 is a still, below 45 a loop
          its parts        0 (good) to 1: cycle, pictures are most alike at one
                           distance; duplicates, far apart yet equal;
                           periodicity of motion; autocorrelation of change
        freeze rate        share of moments without motion; less is better
        dynamic degree     share of pixels that move more than 1 px in 0.5 s
        direction entropy  0 all moves one way (a pan), 1 all ways
        drift              brightness, contrast, colour and sharpness at the
                           end against the start, in levels of 255
        flicker            how much brightness trembles, in levels
        seam error         how much more changes at chunk borders than at
                           other latent frames around, in levels; 0 is seamless

      The loop score is taken of the colours in 8x8 cells, and in a run directory also of the latents. Slow scenes score low, \
      too: compare like with like.

      Chunk borders come from the run directory, or from the record beside a video of generate-video (out.json of out.mp4), \
      or from --chunk-frames: chunks of n latent frames are 4n frames of video, the first one 4n - 3.

      EXAMPLES
        A report:
          score-video out.mp4
        A run, with a plot of everything over time, chunk borders marked:
          score-video run/ --plot run/quality.png
        Numbers for a script (keys: docs/formats.md):
          score-video out.mp4 --json | jq .pixels.loop.score
        A video of another engine that makes 3 latent frames at a time:
          score-video other.mp4 --chunk-frames 3

      EXIT STATUS
        0 done, 1 something failed (one line on standard error), 2 wrong usage.
      """)

  @Argument(help: ArgumentHelp("A video, a run directory, or a .safetensors file.", valueName: "input"))
  var input: String

  @Flag(help: "Print the report and all series as one JSON object.")
  var json = false

  @Option(help: ArgumentHelp("Draw the measures over time; replaces an older file.", valueName: "file.png"))
  var plot: String?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Latent frames of a chunk. By default what the run left on record.", valueName: "n"))
  var chunkFrames: Int?

  func validate() throws {
    if input.isEmpty || plot == "" { throw ValidationError("an empty name names nothing") }
    if let plot, !plot.lowercased().hasSuffix(".png") { throw ValidationError("--plot '\(plot)' is no .png file") }
    if let chunkFrames, !(1...ChunkBorders.maximumChunkFrames).contains(chunkFrames) {
      throw ValidationError(
        "--chunk-frames \(chunkFrames): a chunk has 1 to \(ChunkBorders.maximumChunkFrames) latent frames")
    }
  }

  func run() throws {
    let report = try QualityReport(scoring: input, chunkFrames: chunkFrames)
    if let plot { try PNG.write(QualityPlot(report).picture(), to: plot) }
    let lines = try json ? report.json() : Data((report.text + (plot.map { "\nplot: \($0)" } ?? "")).utf8)
    try ScoreVideo.output(lines + Data("\n".utf8))
  }

  /// Writes to standard output, which may be a full disk.
  private static func output(_ data: Data) throws {
    var rest = data[...]
    while !rest.isEmpty {
      let written = rest.withUnsafeBytes { write(STDOUT_FILENO, $0.baseAddress, $0.count) }
      if written < 0 && errno == EINTR { continue }
      if written < 0 { throw VideoIOError.writeFailed(path: "standard output", reason: reason(errno: errno)) }
      rest = rest.dropFirst(written)
    }
  }
}

@main
enum Program {
  static func main() async { await ProgramEntry.run(ScoreVideo.self) }
}
