import Foundation
import Tensors
import Testing
import VideoIO

/// Runs that begin with a picture or a video.
@Suite struct InputVideoTests {
  private static let model = repository + "/weights/default"
  private static let small = [
    "--model", model, "--size", "128x64", "--steps", "2", "-p", "a red star over green hills",
  ]
  private let scratch: Scratch
  init() throws { scratch = try Scratch() }

  private func generate(_ arguments: [String]) throws -> ProgramResult {
    try runProgram("generate-video", arguments, in: scratch.path)
  }

  private func json(_ text: some StringProtocol) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
  }

  /// A clip of the model itself, lossless, and its first frame as a picture of another size.
  private func makeClip(frames: Int = 21) throws -> [RGBFrame] {
    let result = try generate(Self.small + ["--num-frames", "\(frames)", "-o", "clip.y4m", "--seed", "4"])
    #expect(result.status == 0, "\(result.error)")
    return try VideoReader.frames(of: scratch.file("clip.y4m"))
  }

  @Test("A picture becomes the first frame, in chunks of 1, 3, 3, ... latent frames")
  func image() throws {
    let clip = try makeClip(frames: 9)
    // Twice as large and wider than the video: scaled, and cut at both sides.
    let picture = clip[8].enlarged(by: 2)
    try PNG.write(picture, to: scratch.file("start.png"))
    let run = ["--image", "start.png", "--num-frames", "33", "-o", "a.y4m", "--run-dir", "run"] + Self.small
    let plan = try json(try generate(["plan", "--json"] + run).text)
    let chunks = try #require(plan["chunks"] as? [[String: Any]])
    #expect(chunks.compactMap { $0["frames"] as? Int } == [1, 3, 3, 2])
    #expect(chunks.compactMap { $0["given"] as? Bool } == [true, false, false, false])
    let result = try generate(run)
    #expect(result.status == 0, "\(result.error)")
    let frames = try VideoReader.frames(of: scratch.file("a.y4m"))
    #expect(frames.count == 33)
    let quality = frames[0].psnr(to: clip[8])
    print("image: PSNR of the first frame to the picture \(quality) dB")
    #expect(quality > 20, "PSNR \(quality) dB")
    // The next frame goes on from it.
    let jump = frames[1].psnr(to: frames[0])
    print("image: PSNR of the second frame to the first \(jump) dB")
    #expect(jump > 18, "PSNR \(jump) dB")
    // Another picture, another video.
    try PNG.write(RGBFrame(width: 100, height: 100, red: 30, green: 60, blue: 200), to: scratch.file("blue.png"))
    #expect(try generate(["--image", "blue.png", "--num-frames", "9", "-o", "b.y4m"] + Self.small).status == 0)
    let blue = try VideoReader.frames(of: scratch.file("b.y4m"))
    #expect(blue[0].psnr(to: frames[0]) < 20)
  }

  @Test("A video is gone on from: its frames first, then new ones, without a jump at the seam")
  func video() throws {
    let clip = try makeClip(frames: 25)
    let run = ["--video", "clip.y4m", "--num-frames", "57", "-o", "a.y4m"] + Self.small
    let result = try generate(run)
    #expect(result.status == 0, "\(result.error)")
    // 25 frames are 6 groups of four, the first frame left out: 6 latent frames, 21 video frames.
    #expect(result.error.contains("6 latent frames, which are the first 21 frames of the video, 36 are new"))
    let frames = try VideoReader.frames(of: scratch.file("a.y4m"))
    #expect(frames.count == 57)
    for i in [0, 10, 20] {
      let quality = frames[i].psnr(to: clip[i + 1])
      #expect(quality > 20, "frame \(i): PSNR \(quality) dB")
    }
    // The change from frame to frame, which at the seam must be one of those inside.
    let changes = zip(frames, frames.dropFirst()).map { $1.psnr(to: $0) }
    let inside = changes.enumerated().filter { $0.offset != 20 }.map(\.element)
    let worst = try #require(inside.min())
    print("video: change at the seam \(changes[20]) dB, inside from \(worst) dB")
    #expect(changes[20] >= worst - 1, "seam \(changes[20]) dB, inside at worst \(worst) dB")
  }

  @Test("Killed while it reads its input, a run goes on with the same bytes", arguments: [[], ["--strength", "0.75"]])
  func resumed(flags: [String]) throws {
    _ = try makeClip(frames: 45)
    let run = ["--video", "clip.y4m", "--num-frames", "57", "--checkpoint-every", "1"] + flags + Self.small
    #expect(try generate(run + ["--run-dir", "whole"]).status == 0)
    let process = program("generate-video", run + ["--run-dir", "killed"], in: scratch.path)
    process.standardError = FileHandle.nullDevice
    try process.run()
    // The second of four chunks that come from the clip.
    while process.isRunning, !scratch.exists("killed/state/ckpt-000002.json") { usleep(2000) }
    kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
    let result = try generate(["resume", "killed"])
    #expect(result.status == 0, "\(result.error)")
    for chunk in 0..<5 {
      let name = "chunks/00000\(chunk).latent.safetensors"
      #expect(
        FileManager.default.contents(atPath: scratch.file("whole/" + name))
          == FileManager.default.contents(atPath: scratch.file("killed/" + name)), "chunk \(chunk)")
    }
    #expect(
      FileManager.default.contents(atPath: scratch.file("whole/video.mp4"))
        == FileManager.default.contents(atPath: scratch.file("killed/video.mp4")))
    // A run does not go on from another clip.
    try Data("another".utf8).write(to: URL(fileURLWithPath: scratch.file("clip.y4m")))
    #expect(try generate(["resume", "killed", "--until", "9"]).status == 1)
  }

  @Test("Strength: 1 is the prompt alone, less keeps more of the input, and nothing is added to its length")
  func strength() throws {
    let clip = try makeClip(frames: 25)
    var kept: [Double] = []
    for strength in ["0.1", "0.2", "1"] {
      let result = try generate(["--video", "clip.y4m", "--strength", strength, "-o", "s\(strength).y4m"] + Self.small)
      #expect(result.status == 0, "\(result.error)")
      let frames = try VideoReader.frames(of: scratch.file("s\(strength).y4m"))
      #expect(frames.count == 21)
      kept.append((0..<21).map { frames[$0].psnr(to: clip[$0 + 1]) }.reduce(0, +) / 21)
    }
    print("strength 0.1, 0.2, 1: PSNR to the input \(kept)")
    #expect(kept[0] > kept[1] && kept[1] > kept[2], "\(kept)")
    #expect(try generate(["--num-frames", "21", "-o", "free.y4m"] + Self.small).status == 0)
    #expect(
      FileManager.default.contents(atPath: scratch.file("free.y4m"))
        == FileManager.default.contents(atPath: scratch.file("s1.y4m")))
  }

  @Test("Inputs of other rates and sizes are taken at the run's")
  func otherRates() throws {
    let writer = try FrameSinks.open(
      path: scratch.file("fast.mp4"), settings: OutputSettings(width: 96, height: 96, frameRate: try FrameRate(32)))
    for i in 0..<33 {
      try writer.write([RGBFrame(width: 96, height: 96, red: UInt8(i * 7), green: 90, blue: 90)], endsChunk: i == 32)
    }
    try writer.finish()
    let result = try generate(["--video", "fast.mp4", "--num-frames", "21", "-o", "a.y4m"] + Self.small)
    #expect(result.error.contains("33 frames, every 2th for 16 fps; 4 latent frames"), "\(result.error)")
    let frames = try VideoReader.frames(of: scratch.file("a.y4m"))
    // Of 17 frames at 16 fps the first is left out; frame i shows the file's frame 2 (i + 1).
    for i in [0, 6, 12] {
      let red = Int(frames[i][32, 64].red)
      #expect(abs(red - 14 * (i + 1)) < 40, "frame \(i): red \(red)")
    }
    #expect(frames[12][32, 64].red > frames[0][32, 64].red)
  }

  /// The shipped model with the autoencoder of Wan 2.1 at small widths and random weights in the place of its own.
  private func modelWithWanAutoencoder() throws -> String {
    let folder = scratch.file("wan")
    try FileManager.default.copyItem(atPath: Self.model, toPath: folder)
    let fixture = try TensorArchive(path: repository + "/Tests/Fixtures/wanvae-a.safetensors")
    let prefix = "weights."
    let weights = try fixture.names.filter { $0.hasPrefix(prefix) }
      .map { (String($0.dropFirst(prefix.count)), try fixture.tensor($0)) }
    try FileManager.default.createDirectory(atPath: folder + "/vae", withIntermediateDirectories: true)
    try SafetensorsWriter.write(weights, to: folder + "/vae/diffusion_pytorch_model.safetensors")
    try Data(try #require(fixture.metadata["config"]).utf8).write(to: URL(fileURLWithPath: folder + "/vae/config.json"))
    let settings = folder + "/longtake.json"
    let text = try String(contentsOfFile: settings, encoding: .utf8).replacingOccurrences(of: "tiny_vae", with: "vae")
    try Data(text.utf8).write(to: URL(fileURLWithPath: settings))
    return folder
  }

  @Test("With the autoencoder of Wan 2.1 an image is one latent frame, and a clip of 4 n + 1 frames is used whole")
  func wanAutoencoder() throws {
    _ = try makeClip(frames: 25)
    let flags = Self.small.map { $0 == Self.model ? scratch.file("wan") : $0 }
    let model = try modelWithWanAutoencoder()
    #expect(flags.contains(model))
    let clip = try generate(["--video", "clip.y4m", "--num-frames", "37", "--run-dir", "clip"] + flags)
    #expect(clip.status == 0, "\(clip.error)")
    #expect(
      clip.error.contains("7 latent frames, which are the first 25 frames of the video, 12 are new"), "\(clip.error)")
    #expect(try VideoReader.frameCount(of: scratch.file("clip/video.mp4")) == 37)
    // Chunks of 1, 3, 3 given latent frames, then 3.
    let names = try scratch.names("clip/chunks")
    let latents = try names.map { try TensorArchive(path: scratch.file("clip/chunks/" + $0)).tensor("latents") }
    #expect(latents.map { $0.shape[0] } == [1, 3, 3, 3])
    try PNG.write(try VideoReader.frames(of: scratch.file("clip.y4m"))[0], to: scratch.file("first.png"))
    let image = try generate(["--image", "first.png", "--num-frames", "13", "--run-dir", "image"] + flags)
    #expect(image.status == 0, "\(image.error)")
    let first = try TensorArchive(path: scratch.file("image/chunks/000000.latent.safetensors")).tensor("latents")
    #expect(first.floats() == latents[0].floats())
  }

  static let refused: [(arguments: [String], status: Int32, saying: String)] = [
    (["--image", "nowhere.png"], 1, "--image: cannot read 'nowhere.png': no such file"),
    (["--video", "nowhere.mp4"], 1, "--video: cannot read 'nowhere.mp4': no such file"),
    (["--video", "."], 1, "it is a folder"), (["--image", "empty.png"], 1, "the file is empty"),
    (["--image", "words.png"], 1, "--image: cannot read 'words.png'"),
    (["--video", "words.mp4"], 1, "--video: cannot read 'words.mp4'"),
    (["--image", "tiny.png"], 1, "4x4 pixels are too few"),
    (["--image", "dot.png", "--video", "dot.png"], 2, "give --image or --video, not both"),
    (["--strength", "0.5"], 2, "--strength 0.5 without --image or --video"),
    (["--image", "dot.png", "--strength", "0"], 2, "--strength 0.0; above 0 and at most 1"),
    (["--image", "dot.png", "--strength", "1.5"], 2, "--strength 1.5"),
    (["--image", "dot.png", "--strength", "nan"], 2, "--strength nan"),
    (["--image", "dot.png", "--num-frames", "1"], 2, "1 frames are not more than the 1"),
    (["--image", "dot.png", "--mode", "clip"], 2, "need --mode chunks"),
    (["-o", "missing/live.m3u8/x.mp4"], 1, "does not exist"), (["--json", "-o", "-"], 2, "both want standard output"),
    (["-o", "words.mp4/live.m3u8"], 1, "is a file"),
  ]

  @Test("An input that cannot be had is one line that names it, and nothing is made", arguments: refused.indices)
  func inputsThatCannotBeHad(index: Int) throws {
    let (arguments, status, text) = Self.refused[index]
    try Data().write(to: URL(fileURLWithPath: scratch.file("empty.png")))
    try Data("no picture".utf8).write(to: URL(fileURLWithPath: scratch.file("words.png")))
    try Data("no video".utf8).write(to: URL(fileURLWithPath: scratch.file("words.mp4")))
    try PNG.write(RGBFrame(width: 16, height: 16, red: 1, green: 2, blue: 3), to: scratch.file("dot.png"))
    try PNG.write(RGBFrame(width: 4, height: 4, red: 1, green: 2, blue: 3), to: scratch.file("tiny.png"))
    let before = try scratch.names()
    let output = arguments.contains("-o") ? [] : ["-o", "a.mp4"]
    let result = try generate(arguments + Self.small + output)
    let lines = result.error.split(whereSeparator: \.isNewline).filter { $0.hasPrefix("generate-video: ") }
    #expect(result.status == status && lines.count == 1, "\(arguments): \(result)")
    #expect(lines.first?.contains(text) == true, "\(result.error)")
    #expect(try scratch.names() == before)
  }
}
