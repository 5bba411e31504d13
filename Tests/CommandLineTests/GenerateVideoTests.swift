import Foundation
import Tensors
import Testing
import VideoIO

/// Runs the built program on the shipped model, small and short.
@Suite struct GenerateVideoTests {
  private static let model = repository + "/weights/default"
  private static let quick = ["--prompt", "a red star over purple hills", "--model", model, "--steps", "2"]

  private func generate(_ arguments: [String], in scratch: Scratch) throws -> ProgramResult {
    try runProgram("generate-video", arguments, in: scratch.path)
  }

  private func json(_ data: Data) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
  }

  @Test("A prompt becomes a video with exact frames, a record beside it, and nothing else")
  func aPromptBecomesAVideoWithExact() throws {
    let scratch = try Scratch()
    let result = try generate(Self.quick + ["-o", "a.mp4", "--num-frames", "21", "--fps", "24000/1001"], in: scratch)
    #expect(result.status == 0, "\(result.error)")
    #expect(result.text == "")
    #expect(try scratch.names() == ["a.json", "a.mp4"])
    #expect(try VideoReader.frameCount(of: scratch.file("a.mp4")) == 21)
    let info = try VideoReader(path: scratch.file("a.mp4")).info
    #expect(info.codec == "h264" && info.width == 256 && info.height == 160 && info.matrix == "bt709")
    #expect(info.frameRate == (try FrameRate(24000, 1001)))
    #expect(
      try VideoReader.keyFrames(of: scratch.file("a.mp4")).enumerated().filter(\.element).map(\.offset) == [0, 9])
    let record = try json(Data(contentsOf: URL(fileURLWithPath: scratch.file("a.json"))))
    let settings = try #require(record["settings"] as? [String: Any])
    #expect(settings["prompt"] as? String == "a red star over purple hills" && settings["frames"] as? Int == 21)
    #expect((record["weights"] as? [[String: Any]])?.count == 3)
    // One line per chunk where no terminal watches, and a last one.
    #expect(result.error.contains("chunk 2/2") && result.error.contains("fps end to end"), "\(result.error)")
  }

  @Test("A run measures what each chunk and layer read, and the memory of persistent pages: constant, 42% below dense")
  func aRunMeasuresWhatEachChunkAndLayer() throws {
    let scratch = try Scratch()
    var bytes: [String: Int] = [:]
    // Of 10 pages a frame: a quarter of the window, then the persistent pages besides.
    let sparseShares: [Double] = [8.0 / 30, 0.25, 45.0 / 90, 0.625, 0.625, 0.625, 0.625]
    // Against a dense cache of 21 frames, as published, with positions of the same kind.
    let expected: [(String, [String], [Double])] = [
      ("self-forcing", ["--window", "21", "--rope", "window"], [Double](repeating: 1, count: 7)),
      ("sparse-forcing", [], sparseShares),
    ]
    for (recipe, memory, shares) in expected {
      let flags = ["--size", "160x64", "--tile", "2x2", "--num-frames", "81", "--sparsity", recipe] + memory
      let result = try generate(Self.quick + flags + ["-o", recipe + ".y4m", "--json"], in: scratch)
      #expect(result.status == 0, "\(result.error)")
      var chunks: [[String: Any]] = []
      for line in result.text.split(separator: "\n") {
        let event = try json(Data(line.utf8))
        if event["event"] as? String == "chunk" { chunks.append(try #require(event["value"] as? [String: Any])) }
      }
      let sizes = chunks.compactMap { $0["kv_bytes"] as? Int }
      #expect(sizes.count == 7 && Set(sizes).count == 1)
      bytes[recipe] = sizes.last
      let record = try json(Data(contentsOf: URL(fileURLWithPath: scratch.file(recipe + ".json"))))
      let recorded = try #require(record["chunks"] as? [[String: Any]])
      for (index, share) in shares.enumerated() {
        let layers = try #require(chunks[index]["layer_densities"] as? [Double])
        #expect(layers.count == 6 && layers.allSatisfy { abs($0 - share) < 1e-12 }, "\(recipe) \(index): \(layers)")
        let mean = try #require(chunks[index]["density"] as? Double)
        #expect(abs(mean - share) < 1e-12)
        let written = try #require(recorded[index]["layer_densities"] as? [Double])
        #expect(written.count == 6 && zip(written, layers).allSatisfy { abs($0 - $1) <= 5e-7 })
        // From chunk 4 on nothing grows.
        if index >= 4, recipe == "sparse-forcing" { #expect(recorded[index]["pages_kept"] as? Int == 120) }
      }
    }
    let (sparse, dense) = (try #require(bytes["sparse-forcing"]), try #require(bytes["self-forcing"]))
    #expect(Double(sparse) < 0.58 * Double(dense), "\(sparse) of \(dense) bytes")
  }

  @Test("The same arguments give the same bytes, on any number of threads, to a file or to standard output")
  func theSameArgumentsGiveTheSameBytes()
    throws
  {
    let scratch = try Scratch()
    let short = Self.quick + ["--num-frames", "13", "--seed", "7"]
    for (name, threads) in [("a.mp4", "1"), ("b.mp4", "2"), ("c.mp4", "3")] {
      #expect(try generate(short + ["-o", name, "--threads", threads], in: scratch).status == 0)
    }
    let files = try ["a.mp4", "b.mp4", "c.mp4"].map { try Data(contentsOf: URL(fileURLWithPath: scratch.file($0))) }
    #expect(files[0] == files[1] && files[1] == files[2])
    let piped = try generate(short + ["-o", "-", "--quiet"], in: scratch)
    #expect(piped.output == files[0] && piped.error == "")
    #expect(try generate(Self.quick + ["--num-frames", "13", "--seed", "8", "-o", "d.mp4"], in: scratch).status == 0)
    #expect(try Data(contentsOf: URL(fileURLWithPath: scratch.file("d.mp4"))) != files[0])
  }

  @Test("A run directory holds latents, manifest and video, and torch's noise is another noise")
  func aRunDirectoryHoldsLatentsManifestAnd() throws {
    let scratch = try Scratch()
    var latents: [[Float]] = []
    for rng in ["counter", "torch"] {
      let result = try generate(Self.quick + ["--num-frames", "17", "--run-dir", rng, "--rng", rng], in: scratch)
      #expect(result.status == 0, "\(result.error)")
      #expect(
        try scratch.names(rng) == ["chunks", "events.jsonl", "manifest.json", "preview.png", "state", "video.mp4"])
      #expect(try scratch.names(rng + "/chunks") == ["000000.latent.safetensors", "000001.latent.safetensors"])
      let archive = try TensorArchive(path: scratch.file(rng + "/chunks/000001.latent.safetensors"))
      #expect(archive.names == ["latents"] && archive.shape(of: "latents") == [3, 16, 20, 32])
      latents.append(try archive.tensor("latents").floats())
    }
    #expect(latents[0] != latents[1])
  }

  @Test("A killed run leaves a video that plays up to its last chunk") func aKilledRunLeavesAVideoThat() throws {
    let scratch = try Scratch()
    let process = program(
      "generate-video", Self.quick + ["--seconds", "60", "-o", "a.mp4", "--json"], in: scratch.path)
    let output = Pipe()
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    try process.run()
    var seen = Data()
    while seen.split(separator: UInt8(ascii: "\n")).count(where: { $0.starts(with: Data(#"{"event":"chunk""#.utf8)) })
      < 3
    {
      let more = output.fileHandleForReading.availableData
      try #require(!more.isEmpty, "the run ended early")
      seen += more
    }
    kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
    #expect(!scratch.exists("a.mp4"))
    let frames = try VideoReader.frameCount(of: scratch.file("a.part.mp4"))
    #expect(frames >= 33 && (frames - 9) % 12 == 0, "\(frames) frames")
  }

  @Test("Plan answers without weights, in the documented keys") func planAnswersWithoutWeightsInTheDocumented() throws {
    let scratch = try Scratch()
    // A folder with configurations and no weights at all.
    for part in ["transformer", "tiny_vae"] {
      try FileManager.default.createDirectory(atPath: scratch.file("bare/" + part), withIntermediateDirectories: true)
      try FileManager.default.copyItem(
        atPath: Self.model + "/\(part)/config.json", toPath: scratch.file("bare/\(part)/config.json"))
    }
    let result = try generate(
      [
        "plan", "--model", "bare", "--num-frames", "81", "--json", "--detail", "--window", "9", "--height", "512",
        "--width", "768",
      ],
      in: scratch)
    #expect(result.status == 0 && result.error == "", "\(result.error)")
    let plan = try json(result.output)
    #expect(plan["latent_frames"] as? Int == 21)
    let schedule = try #require(plan["schedule"] as? [String: [Double]])
    for (a, b) in zip(try #require(schedule["timesteps"]), [1000, 937.5, 833.33333, 625]) { #expect(abs(a - b) < 1e-4) }
    for (a, b) in zip(try #require(schedule["sigmas"]), [1, 0.9375, 0.8333333, 0.625]) { #expect(abs(a - b) < 1e-6) }
    let chunks = try #require(plan["chunks"] as? [[String: Any]])
    #expect(chunks.count == 7)
    #expect(chunks.map { $0["visible_frames"] as? Int } == [3, 6, 9, 9, 9, 9, 9])
    #expect(chunks.map { $0["first_frame"] as? Int } == [0, 3, 6, 9, 12, 15, 18])
    #expect(chunks[3]["pages_kept"] as? Int == 9 * 24 && chunks[3]["pages_read"] as? Int == 9 * 24)
    #expect(chunks[3]["density"] as? Double == 1)
    let reads = try #require(plan["reads"] as? [[String: Any]])
    #expect(reads.count == 4 * 21)
    #expect(reads[21 + 10]["step"] as? Int == 1 && reads[21 + 10]["query_frame"] as? Int == 10)
    #expect(reads[21 + 10]["frames"] as? [Int] == Array(3..<12))
  }

  @Test("Info reads headers and says what is missing") func infoReadsHeadersAndSaysWhatIs() throws {
    let scratch = try Scratch()
    let whole = try generate(["info", Self.model], in: scratch)
    #expect(whole.status == 0 && whole.text.contains("15.6 million") && whole.text.contains("TAEHV"), "\(whole)")
    let facts = try json(generate(["info", Self.model, "--json"], in: scratch).output)
    #expect(facts["layers"] as? Int == 6 && facts["head_dim"] as? Int == 128)
    try FileManager.default.createDirectory(atPath: scratch.file("part/transformer"), withIntermediateDirectories: true)
    try FileManager.default.copyItem(
      atPath: Self.model + "/transformer/config.json", toPath: scratch.file("part/transformer/config.json"))
    let part = try generate(["info", "part"], in: scratch)
    #expect(part.status == 1 && part.text.contains("missing: text encoder"), "\(part)")
  }

  @Test(
    "Help teaches",
    arguments: [
      (["--help"], "EXAMPLES"), (["run", "--help"], "--flow-shift"), (["plan", "--help"], "--detail"),
      (["--version"], "longtake"),
    ])
  func helpTeaches(arguments: [String], text: String) throws {
    let result = try generate(arguments, in: Scratch())
    #expect(result.status == 0 && result.error == "" && result.text.contains(text), "\(result)")
  }
}
