import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// What a user waits for: runs of this program from its start to a playable file, each in a process of its own, and where the
/// time of each chunk went.
///
/// The machine's load is noted with each run: compare only runs on a quiet one. Seconds of the processor hardly depend on it.
public struct ClipBench: Encodable, Sendable {
  /// One run.
  public struct Run: Encodable, Sendable {
    /// Programs that wanted to run in the minute before it.
    public let load: Double
    /// From the start of the process to its end, seen from outside.
    public let wallSeconds: Double
    /// Of all threads, in the program and in the system.
    public let processorSeconds: Double
    /// Video frames by the process's own seconds.
    public let framesPerSecond: Double
    public let firstFrameSeconds: Double
    /// From the start until the first chunk is begun.
    public let loadSeconds: Double
    public let denoiseSeconds: Double
    public let decodeSeconds: Double
    /// Encoding and writing.
    public let writeSeconds: Double
    public let peakBytes: Int
    public let keyValueBytes: Int
    public let frames: Int
  }

  /// Seconds of the phases of one chunk, the median over the runs.
  public struct Chunk: Encodable, Sendable {
    public let index: Int
    public let denoiseSeconds: Double
    /// The clean pass, and what the memory keeps.
    public let sealSeconds: Double
    public let decodeSeconds: Double
    public let writeSeconds: Double
  }

  /// The flags of `generate-video run`.
  public let arguments: [String]
  public let runs: [Run]
  public let chunks: [Chunk]

  /// - Parameters:
  ///   - arguments: Flags of `generate-video run`, without prompt and output.
  ///   - repeats: Runs.
  /// - Throws: ``RunError`` if a run fails.
  public init(_ arguments: [String], repeats: Int) throws {
    self.arguments = arguments
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("longtake-bench-\(getpid())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let results = try (0..<repeats).map { run in
      try ClipBench.run(arguments, into: folder.appendingPathComponent("\(run).mp4").path)
    }
    runs = results.map(\.run)
    let count = results.map(\.chunks.count).min() ?? 0
    chunks = (0..<count).map { index in
      func median(_ key: KeyPath<Chunk, Double>) -> Double {
        ClipBench.median(results.map { $0.chunks[index][keyPath: key] })
      }
      return Chunk(
        index: index, denoiseSeconds: median(\.denoiseSeconds), sealSeconds: median(\.sealSeconds),
        decodeSeconds: median(\.decodeSeconds), writeSeconds: median(\.writeSeconds))
    }
  }

  static func median(_ values: [Double]) -> Double {
    let sorted = values.sorted()
    return sorted.isEmpty ? 0 : (sorted[(sorted.count - 1) / 2] + sorted[sorted.count / 2]) / 2
  }

  private static let prompt = "a large yellow heart slides right over mountains at dawn"

  private static func run(_ arguments: [String], into path: String) throws -> (run: Run, chunks: [Chunk]) {
    let child = Process()
    child.executableURL = URL(fileURLWithPath: Host.program)
    child.arguments = ["run", "-p", prompt, "-o", path, "--json"] + arguments
    let pipe = Pipe()
    child.standardOutput = pipe
    let load = Host.load
    let clock = ContinuousClock()
    let (start, before) = (clock.now, childSeconds())
    try child.run()
    let lines = pipe.fileHandleForReading.readDataToEndOfFile().split(separator: UInt8(ascii: "\n"))
    child.waitUntilExit()
    let wall = (clock.now - start) / Duration.seconds(1)
    guard child.terminationStatus == 0 else {
      throw RunError("a run of \(arguments.joined(separator: " ")) ended with status \(child.terminationStatus)")
    }
    var chunks: [Chunk] = []
    var summary: [String: Any] = [:]
    for line in lines {
      guard let event = (try? JSONSerialization.jsonObject(with: line)) as? [String: Any],
        let value = event["value"] as? [String: Any]
      else { continue }
      func number(_ key: String) -> Double { (value[key] as? NSNumber)?.doubleValue ?? 0 }
      switch event["event"] as? String {
      case "chunk":
        chunks.append(
          Chunk(
            index: Int(number("index")), denoiseSeconds: number("denoise_seconds"), sealSeconds: number("seal_seconds"),
            decodeSeconds: number("decode_seconds"), writeSeconds: number("write_seconds")))
      case "finished": summary = value
      default: break
      }
    }
    guard !summary.isEmpty else { throw RunError("a run of \(arguments.joined(separator: " ")) gave no summary") }
    func number(_ key: String) -> Double { (summary[key] as? NSNumber)?.doubleValue ?? 0 }
    let run = Run(
      load: load, wallSeconds: wall, processorSeconds: childSeconds() - before,
      framesPerSecond: number("end_to_end_fps"), firstFrameSeconds: number("first_frame_seconds"),
      loadSeconds: number("load_seconds"), denoiseSeconds: number("denoise_seconds"),
      decodeSeconds: number("decode_seconds"), writeSeconds: number("write_seconds"),
      peakBytes: Int(number("peak_bytes")), keyValueBytes: Int(number("kv_bytes")), frames: Int(number("frames")))
    return (run, chunks)
  }

  /// Processor seconds of the children that have ended.
  private static func childSeconds() -> Double {
    var usage = rusage()
    getrusage(-1, &usage)  // RUSAGE_CHILDREN, an enumeration in one C library and a number in another.
    func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) * 1e-6 }
    return seconds(usage.ru_utime) + seconds(usage.ru_stime)
  }

  /// A table for people.
  public var text: String {
    func ms(_ seconds: Double) -> String { String(format: "%7.0f ms", seconds * 1000) }
    let flags = arguments.isEmpty ? "" : " " + arguments.joined(separator: " ")
    var lines = ["generate-video run\(flags), from the start of the process to the finished file"]
    for (i, run) in runs.enumerated() {
      lines.append(
        String(
          format: "run %d  %6.1f fps, %.2f s on the clock, %.2f s of the processor, load %.1f; first frame %.2f s, "
            + "start %.2f, denoising %.2f, decoding %.2f, writing %.2f; peak %@, keys and values %@", i + 1,
          run.framesPerSecond, run.wallSeconds, run.processorSeconds, run.load, run.firstFrameSeconds, run.loadSeconds,
          run.denoiseSeconds, run.decodeSeconds, run.writeSeconds, Format.bytes(run.peakBytes),
          Format.bytes(run.keyValueBytes)))
    }
    lines.append(
      String(format: "median %6.1f fps", ClipBench.median(runs.map(\.framesPerSecond))))
    lines.append("chunk    denoising      sealing     decoding      writing   (medians)")
    for chunk in chunks {
      lines.append(
        String(format: "%5d", chunk.index) + "   "
          + [chunk.denoiseSeconds, chunk.sealSeconds, chunk.decodeSeconds, chunk.writeSeconds].map(ms).joined(
            separator: "   "))
    }
    return lines.joined(separator: "\n")
  }
}
