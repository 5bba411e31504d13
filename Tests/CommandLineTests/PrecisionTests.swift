import Foundation
import Testing

/// `--precision` and the cache of text rows, as a user meets them.
@Suite struct PrecisionTests {
  private static let quick = [
    "--prompt", "a red star over purple hills", "--model", repository + "/weights/default", "--steps", "2",
    "--num-frames", "13",
  ]

  private func bytes(_ arguments: [String], in scratch: Scratch, cache: String? = nil) throws -> Data {
    let environment = cache.map { ["XDG_CACHE_HOME": $0] } ?? [:]
    let result = try runProgram(
      "generate-video", Self.quick + arguments + ["-o", "-", "--quiet"], in: scratch.path, environment: environment)
    #expect(result.status == 0, "\(result.error)")
    return result.output
  }

  /// What this machine has: float32 alone, or all three.
  private func precisions(_ scratch: Scratch) throws -> [String] {
    let probe = try runProgram(
      "generate-video", Self.quick + ["--precision", "int8", "--num-frames", "1", "-o", "-", "--quiet"],
      in: scratch.path)
    if probe.status != 0 {
      #expect(probe.status == 2 && probe.error.contains("cannot be had"), "\(probe.error)")
      return ["f32"]
    }
    return ["f32", "bf16", "int8"]
  }

  @Test("Each precision gives the same bytes on any number of threads, other bytes than the others, and is recorded")
  func eachPrecisionGivesTheSameBytes() throws {
    let scratch = try Scratch()
    var seen = Set<Data>()
    let precisions = try precisions(scratch)
    for precision in precisions {
      let one = try bytes(["--precision", precision, "--threads", "1"], in: scratch)
      let three = try bytes(["--precision", precision, "--threads", "3"], in: scratch)
      #expect(one == three, "\(precision) depends on the number of threads")
      seen.insert(one)
    }
    #expect(seen.count == precisions.count)
    let standard = try bytes([], in: scratch)
    #expect(standard == (try bytes(["--precision", precisions.count > 1 ? "bf16" : "f32"], in: scratch)))
    let result = try runProgram(
      "generate-video", Self.quick + ["--precision", precisions.last ?? "f32", "-o", "a.mp4"], in: scratch.path)
    #expect(result.status == 0, "\(result.error)")
    let record = try #require(
      try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: scratch.file("a.json"))))
        as? [String: Any])
    #expect((record["settings"] as? [String: Any])?["precision"] as? String == precisions.last)
    let backend = (record["machine"] as? [String: Any])?["backend"] as? String ?? ""
    #expect(backend.contains("cpu \(precisions.last ?? "f32")"), "\(backend)")
  }

  @Test("Rows of a prompt are kept for the next run, which gives the same bytes; a damaged file does no harm")
  func rowsOfAPromptAreKept() throws {
    let scratch = try Scratch()
    let cache = scratch.file("cache")
    let folder = cache + "/longtake/text"
    let first = try bytes([], in: scratch, cache: cache)
    let files = try FileManager.default.contentsOfDirectory(atPath: folder)
    #expect(files.count == 1 && files[0].hasSuffix(".safetensors"), "\(files)")
    let second = try bytes([], in: scratch, cache: cache)
    #expect(first == second)
    let file = URL(fileURLWithPath: folder + "/" + files[0])
    let whole = try Data(contentsOf: file)
    try whole.prefix(whole.count / 2).write(to: file)
    #expect(first == (try bytes([], in: scratch, cache: cache)))
    #expect(try Data(contentsOf: file) == whole, "the damaged file was not replaced")
    let other = scratch.file("other")
    #expect(first == (try bytes(["--no-text-cache"], in: scratch, cache: other)))
    #expect(!FileManager.default.fileExists(atPath: other))
    // A place that cannot be written is no error.
    #expect(first == (try bytes([], in: scratch, cache: "/proc/nowhere")))
  }
}
