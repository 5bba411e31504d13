import ArgumentParser
import Foundation
import Production

struct Resume: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Go on with a run that was killed, stopped or is to be longer.",
    discussion: """
      DIR is the folder that was given as --run-dir. The result has the same bytes as if the run had never been \
      interrupted: latents, frames, and the mp4. All settings are those of the run.
      """)

  @Argument(help: "The run directory.")
  var dir: String

  @Option(
    parsing: .unconditional,
    help: "Make it as long as this, such as 90, 90s, 10m or 1h30m; what depends on the length stays as planned.")
  var until: String?

  @Flag(help: "Make it longer until it is stopped.")
  var forever = false

  @Option(name: [.long, .customShort("m")], help: "The model folder, if it has moved.")
  var model: String?

  @Option(
    name: [.long, .customShort("t")], parsing: .unconditional,
    help: "Worker threads; any number gives the same bytes (default: as before).")
  var threads: Int?

  @Flag(help: "One JSON object per event on standard output.")
  var json = false

  @Flag(name: [.long, .customShort("q")], help: "Say nothing but warnings and errors.")
  var quiet = false

  func run() async throws {
    let earlier = try ContinuedRun(
      dir, until: until.map(Resume.seconds), isEndless: forever, model: model, threads: threads)
    if earlier.isFinished {
      if !quiet { Terminal.say("\(dir): the run is finished; --until or --forever makes it longer") }
      return
    }
    if !quiet, !json {
      let all = earlier.settings.chunkLimit.map { " of \($0)" } ?? ""
      Terminal.say("going on with chunk \(earlier.nextChunk + 1)\(all)")
    }
    try await Run.perform(VideoRun(earlier), json: json, quiet: quiet, stopsBetweenChunks: true)
  }

  /// Seconds of `90`, `90s`, `10m`, `1h30m`.
  static func seconds(_ text: String) throws -> Double {
    if let number = Double(text) { return number }
    let units = ["h": 3600.0, "m": 60, "s": 1]
    var (total, digits, last) = (0.0, "", Double.infinity)
    for character in text.lowercased() {
      if let unit = units[String(character)], let number = Double(digits), unit < last {
        total += number * unit
        (digits, last) = ("", unit)
      } else {
        digits.append(character)
      }
    }
    guard digits.isEmpty, last < .infinity else {
      throw UsageError("--until \(text) is no length such as 90, 90s, 10m or 1h30m")
    }
    return total
  }
}
