import Foundation
import Tensors
import Testing
import VideoIO

/// Whole clips and sparse recipes through the built program, on the shipped model.
@Suite struct ClipModeTests {
  private static let model = repository + "/weights/default"
  private static let quick = ["--prompt", "a red star over purple hills", "--model", model, "--steps", "2"]

  private func generate(_ arguments: [String], in scratch: Scratch) throws -> ProgramResult {
    try runProgram("generate-video", arguments, in: scratch.path)
  }

  @Test("A whole clip of any length is one chunk of latents and a video with exact frames")
  func aWholeClipOfAnyLengthIs() throws {
    let scratch = try Scratch()
    for (name, frames, more) in [
      ("a", 17, ["--sampler", "euler"]), ("b", 29, ["--sparsity", "lvsa", "--lvsa-budget", "5", "--lvsa-window", "1"]),
      ("c", 5, ["--guidance", "3", "--negative-prompt", "a blue ring"]),
    ] {
      let result = try generate(
        Self.quick + ["--mode", "clip", "--num-frames", "\(frames)", "--run-dir", name] + more, in: scratch)
      #expect(result.status == 0, "\(result.error)")
      #expect(result.error.contains("step 2/2") && result.error.contains("at once"), "\(result.error)")
      #expect(try VideoReader.frameCount(of: scratch.file(name + "/video.mp4")) == frames)
      #expect(try scratch.names(name + "/chunks") == ["000000.latent.safetensors"])
      let archive = try TensorArchive(path: scratch.file(name + "/chunks/000000.latent.safetensors"))
      #expect(archive.shape(of: "latents") == [(frames - 1) / 4 + 1, 16, 20, 32])
    }
  }

  @Test("Every recipe makes a video chunk by chunk") func everyRecipeMakesAVideoChunkBy() throws {
    let scratch = try Scratch()
    for more in [
      ["lvsa", "--lvsa-budget", "9", "--lvsa-window", "1", "--rope", "window"],
      ["light-forcing", "--tail", "centroid"],
      ["sparse-forcing", "--memory-capacity", "3", "--local-window", "3", "--guidance", "2"],
    ] {
      let result = try generate(
        Self.quick + ["--num-frames", "45", "-o", "a.mp4", "--sparsity"] + more, in: scratch)
      #expect(result.status == 0, "\(more): \(result.error)")
      #expect(try VideoReader.frameCount(of: scratch.file("a.mp4")) == 45)
    }
  }

  @Test("Plan prints one JSON object with the pattern, and what is impossible ends with status 2 and one line")
  func planPrintsOneJSONObjectWithThe()
    throws
  {
    let scratch = try Scratch()
    let clip = ["plan", "--model", Self.model, "--mode", "clip", "--sparsity", "lvsa", "--num-frames", "161", "--json"]
    let result = try generate(clip + ["--lvsa-budget", "21", "--detail", "--steps", "3"], in: scratch)
    #expect(result.status == 0 && result.error == "", "\(result.error)")
    let plan = try #require(try JSONSerialization.jsonObject(with: result.output) as? [String: Any])
    #expect(plan["pattern"] as? [String: Int] == ["stride": 3, "window": 3, "first": 1])
    #expect((plan["chunks"] as? [[String: Any]])?.count == 1)
    let reads = try #require(plan["reads"] as? [[String: Any]])
    #expect(reads.count == 3 * 41 && Set(reads[0].keys) == ["step", "query_frame", "frames"])
    for wrong in [["--lvsa-stride", "42"], ["--lvsa-scale", "-1"], ["--sampler", "heun"], ["--window", "9"]] {
      let refused = try generate(clip + wrong, in: scratch)
      #expect(refused.status == 2 && refused.output.isEmpty, "\(wrong): \(refused)")
      #expect(refused.error.split(separator: "\n").count == 1, "\(refused.error)")
    }
  }
}
