import ArgumentParser
import Foundation
import Programs
import VideoIO

/// The program: parses, calls `FrameDump` or `AttentionDump`, prints.
struct DumpFrames: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dump-frames",
    abstract: "Look into a video or a run directory: frames, contact sheets, latents, attention.",
    discussion: """
      INPUT is a video, a run directory of generate-video (finished, running or killed), or a .safetensors file with \
      latents. Pictures are the frames of the video or, with --false-colour, the latent frames, one tile per channel: blue \
      is negative, grey zero, red positive, green NaN; a magnitude of 3 has the strongest colour. Numbers start at 0. \
      Files of the same names are replaced.

      EXAMPLES
        Every frame of a video as frames/frame-000000.png and so on:
          dump-frames out.mp4 -o frames
        Frame 0, frame 10, and 20 to 30; and one frame per second of a 16 fps video:
          dump-frames out.mp4 -o frames --frames 0,10,20-30
          dump-frames out.mp4 -o frames --every 16
        What is on the screen at 2.5 s, and from 10 s to 12 s:
          dump-frames out.mp4 -o frames --times 2.5,10-12
        A long video at a glance: 24 frames on one sheet; or as many as you like:
          dump-frames out.mp4 --sheet sheet.png
          dump-frames out.mp4 --sheet sheet.png --every 48 --columns 10 --scale 0.2
        All latents of a run in one file, [frames, 16, height, width]; and what they look like:
          dump-frames run/ -o inspect --latents
          dump-frames run/ --sheet latents.png --false-colour --frames 0-20
        How two runs or videos differ: PSNR of each frame, and pictures of the difference (grey: none):
          dump-frames run-a --difference run-b
          dump-frames run-a --difference run-b -o diff --sheet diff.png
        What each chunk kept, read and attended to, laid over the frames (of generate-video --record-attention):
          dump-frames run/ --attention -o maps
          dump-frames run/ --attention -o maps --chunks 4-6 --layers 3 --heads 0,2

      MAPS OF ATTENTION
        One PNG per layer and head, a band per chunk, a column per latent frame; the numbers as safetensors beside them.
        kept: pages in memory have their colours and a border (gold: persistent, blue: window, green: the chunk itself),
        all else is dim. read: the share of the chunk's query tiles that read the page, in percent. mass: the pooled
        attention that it got, 1 being an equal share.

      EXIT STATUS
        0 done, 1 something failed (one line on standard error), 2 wrong usage.
      """)

  @Argument(help: ArgumentHelp("A video, a run directory, or a .safetensors file.", valueName: "input"))
  var input: String

  @Option(
    name: [.customShort("o"), .customLong("output")],
    help: ArgumentHelp(
      "The folder for pictures and latents; made if missing. With --latents, pictures go there only if --frames, --every or "
        + "--false-colour asks for them.", valueName: "dir"))
  var output: String?

  @Option(
    help: ArgumentHelp(
      "Which: numbers and ranges, such as 0,10,20-30 or 100- (to the end). All by default.", valueName: "list"))
  var frames: String?

  @Option(
    help: ArgumentHelp(
      "Which, by seconds of video: numbers and ranges, such as 0,2.5,4-6 or 8- (to the end).", valueName: "list"))
  var times: String?

  @Option(help: ArgumentHelp("Of these, the first and every n-th.", valueName: "n"))
  var every: Int?

  @Option(
    help: ArgumentHelp(
      "Another input to compare with: PSNR of each frame; with -o a table and pictures, four times the difference on grey. "
        + "With --false-colour the latents.", valueName: "other"))
  var difference: String?

  @Option(
    help: ArgumentHelp(
      "A contact sheet, numbered: of the chosen pictures, or of 24 spread over all.", valueName: "file.png"))
  var sheet: String?

  @Option(help: ArgumentHelp("Pictures in a row of the sheet; about square by default.", valueName: "n"))
  var columns: Int?

  @Option(
    help: ArgumentHelp(
      "Size of a picture on the sheet against itself, above 0 to 1. By default at most 320 pixels wide.",
      valueName: "factor"))
  var scale: Double?

  @Flag(help: "Write all latents to latents.safetensors in the output folder.")
  var latents = false

  @Flag(
    name: [.customLong("false-colour"), .customLong("false-color")], help: "Pictures of the latents, not of the video.")
  var falseColour = false

  @Flag(help: "Maps of which pages were kept and read and of their attention, of a run with --record-attention.")
  var attention = false

  @Option(help: ArgumentHelp("With --attention: these chunks (default: up to 8 of those recorded).", valueName: "list"))
  var chunks: String?

  @Option(help: ArgumentHelp("With --attention: these layers (default: those recorded).", valueName: "list"))
  var layers: String?

  @Option(help: ArgumentHelp("With --attention: these heads (default: those recorded).", valueName: "list"))
  var heads: String?

  @Option(
    name: .customLong("pass"),
    help: ArgumentHelp(
      "With --attention: a denoising step from 0, or clean (default: the last that was recorded).", valueName: "pass"))
  var passName: String?

  @Option(
    help: ArgumentHelp("With --attention: the video, if it is not in the run directory.", valueName: "file"))
  var video: String?

  func validate() throws {
    if attention { _ = try maps() } else { _ = try dump() }
  }

  func run() throws {
    for line in attention ? try maps().run() : try dump().run() { print(line) }
  }

  private func maps() throws -> AttentionDump {
    do {
      guard frames == nil, times == nil, every == nil, difference == nil, sheet == nil, columns == nil, !latents,
        !falseColour
      else {
        throw UsageError("--attention goes with --chunks, --layers, --heads, --pass, --video and --scale only")
      }
      return try AttentionDump(
        input: input, output: output, chunks: chunks, layers: layers, heads: heads, pass: passName, video: video,
        scale: scale)
    } catch { throw ValidationError("\(error)") }
  }

  private func dump() throws -> FrameDump {
    do {
      guard chunks == nil, layers == nil, heads == nil, passName == nil, video == nil else {
        throw UsageError("--chunks, --layers, --heads, --pass and --video belong to --attention")
      }
      return try FrameDump(
        input: input, output: output, frames: frames, times: times, every: every, difference: difference, sheet: sheet,
        columns: columns, scale: scale, latents: latents, falseColour: falseColour)
    } catch { throw ValidationError("\(error)") }
  }
}

@main
enum Program {
  static func main() async { await ProgramEntry.run(DumpFrames.self) }
}
