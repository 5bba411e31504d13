import Compute
import Foundation
import Rollout
import Tensors
import VideoIO
import WanModel

/// One run from a prompt to a video: prompt → text rows → rollout → decoder → file, chunk by chunk.
///
/// Frames are written as soon as their chunk is done. Memory is that of the weights, the recipe's keys and values, and
/// one chunk of pixels, however long the video.
public struct VideoRun: Sendable {
  public let settings: RunSettings
  /// Worker threads.
  public let threads: Int

  public init(_ settings: RunSettings) throws {
    self.settings = settings
    threads = settings.request.threads ?? Host.physicalCores
    guard (1...512).contains(threads) else { throw UsageError("--threads \(threads); 1 to 512 are possible") }
    if settings.request.prompt.allSatisfy(\.isWhitespace) {
      throw UsageError("the prompt is empty; say what the video should show, as in --prompt \"a red ball\"")
    }
    if settings.request.runDirectory?.isEmpty == true { throw UsageError("--run-dir '' names no folder") }
  }

  /// Where the video goes.
  public var output: String {
    settings.request.output ?? settings.request.runDirectory.map { $0 + "/video.mp4" } ?? "video.mp4"
  }

  /// Does it all.
  ///
  /// - Parameter report: Called with each event, in order, between chunks.
  /// - Throws: ``UsageError``, ``RunError``, or the typed errors of the parts. Under the final name there is nothing, or
  ///   what was there before; the finished chunks stay playable under the temporary name.
  public func run(report: (RunEvent) -> Void) async throws {
    let request = settings.request
    let model = settings.model
    try model.requireComplete()
    // Whole clips are what models without settings are for.
    if settings.mode == .chunks { for warning in model.warnings { report(.warning(warning)) } }
    for note in settings.notes { report(.note(note)) }
    // Opened first: a place that cannot be written is known before any work.
    if let sidecar = sidecarPath { try RunRecord.checkReplaceable(sidecar) }
    let directory = try request.runDirectory.map { try RunDirectory(creating: $0) }
    let sink = try openSink()
    defer { sink.abandon() }
    try requireMemory()
    // Only now: until the sink is open, another run may be writing here.
    try directory?.removeEarlierRun()

    let backend = CPUBackend(threads: threads, precision: settings.precision, pages: settings.pages)
    let tokenizer = try model.loadTokenizer()
    let limit = model.transformer.textLength
    let encoding = tokenizer.encode(PromptCleaner.clean(request.prompt), maximum: limit)
    let cut = encoding.cutCount > 0 ? encoding.cutText : nil
    if let cut {
      report(.warning("the prompt has more than \(limit) tokens; this was cut from its end: \"\(cut)\""))
    }
    let encoder = try model.loadTextEncoder(on: backend)
    let rows = try encoder.encode(ids: encoding.ids)
    let negativeRows = try settings.negativePrompt.map {
      try encoder.encode(ids: tokenizer.encode(PromptCleaner.clean($0), maximum: limit).ids)
    }
    backend.releaseUnusedMemory()
    let decoder = try model.loadDecoder(on: backend)
    let recipe = settings.rollout.recipe.name
    if let file = model.additionPath(recipe: recipe) { report(.note("weights of the recipe merged: \(file)")) }
    let transformer = try model.loadTransformer(recipe: recipe, on: backend)
    let text = transformer.context(text: rows)
    let negative = negativeRows.map { transformer.context(text: $0) }
    var record = try RunRecord(
      settings, threads: threads, backend: backend.name, promptTokens: encoding.ids.count, promptCut: cut,
      geometryTile: "\(settings.rollout.geometry().tile)")
    let loadSeconds = Host.processSeconds
    report(.ready(seconds: loadSeconds))

    var clock = PhaseClock()
    var firstFrameSeconds = 0.0
    var written = 0
    var kvBytes = 0
    func deliver(_ chunk: FinishedChunk) throws {
      clock.add(chunk)
      if let directory {
        try clock.measure(\.write) {
          try directory.write(latents: backend.download(chunk.latents), chunk: chunk.index)
          try chunk.attention?.write(to: directory.attentionFile(chunk: chunk.index))
        }
      }
      // A whole clip is decoded in portions, so that its pixels are never in memory all at once.
      let count = chunk.latents.shape[0]
      for first in stride(from: 0, to: count, by: settings.decodedFrames) {
        let portion = backend.slice(chunk.latents, first..<min(count, first + settings.decodedFrames))
        let frames = try clock.measure(\.decode) {
          try VideoRun.frames(decoder.decode(portion), on: backend).prefix(settings.frames - written)
        }
        try clock.measure(\.write) { try sink.write(Array(frames), endsChunk: true) }
        if written == 0 { firstFrameSeconds = Host.processSeconds }
        written += frames.count
      }
      report(.chunk(clock.report(chunk, of: settings, written: written, kvBytes: kvBytes)))
    }
    if let sampler = settings.sampler {
      var denoiser = try ClipDenoiser(
        transformer: transformer, text: text, negative: negative, noise: noise(), sampler: sampler,
        settings: settings.rollout, on: backend)
      kvBytes = denoiser.memoryBytes
      while !denoiser.isFinished {
        try denoiser.advance()
        let (step, steps) = (denoiser.step, denoiser.steps)
        let remaining = denoiser.seconds / Double(step) * Double(steps - step)
        report(
          .step(StepReport(step: step, steps: steps, seconds: denoiser.seconds, remainingSeconds: remaining)))
      }
      if let clip = denoiser.finished { try deliver(clip) }
    } else {
      let rollout = try Rollout(
        transformer: transformer, text: text, negative: negative, noise: noise(), settings: settings.rollout,
        on: backend)
      kvBytes = rollout.memoryBytes
      for try await chunk in rollout { try deliver(chunk) }
    }
    let count = try clock.measure(\.write) { try sink.finish() }
    guard count == settings.frames else {
      throw RunError("\(output): \(count) frames were written, \(settings.frames) were asked for")
    }
    let total = Host.processSeconds
    let summary = RunSummary(
      output: output, frames: count, videoSeconds: settings.seconds, totalSeconds: total,
      firstFrameSeconds: firstFrameSeconds, loadSeconds: loadSeconds, denoiseSeconds: clock.denoise,
      decodeSeconds: clock.decode, writeSeconds: clock.write, endToEndFPS: Double(count) / total,
      denoiseFPS: Double(count) / max(clock.denoise, 1e-9), kvBytes: kvBytes, peakBytes: Host.memory.peak)
    record.summary = summary
    if let directory { try record.write(to: directory.path + "/manifest.json") }
    if let sidecar = sidecarPath { try record.write(to: sidecar) }
    report(.finished(summary))
  }

  /// `out.json` for `out.mp4`; nil for standard output, or where the run directory's manifest says the same.
  private var sidecarPath: String? {
    if output == "-" || request(isIn: settings.request.runDirectory) { return nil }
    let url = URL(fileURLWithPath: output)
    if output.hasSuffix("/") || output.contains("%") {
      let folder = output.hasSuffix("/") ? url : url.deletingLastPathComponent()
      return folder.path + ".json"
    }
    return url.deletingPathExtension().path + ".json"
  }

  private func request(isIn folder: String?) -> Bool {
    guard let folder else { return false }
    return URL(fileURLWithPath: output).deletingLastPathComponent().standardizedFileURL.path
      == URL(fileURLWithPath: folder).standardizedFileURL.path
  }

  private func openSink() throws -> any FrameSink {
    let request = settings.request
    let description = "\(Engine.name) \(Engine.version), seed \(request.seed), model \(settings.model.settings.name)"
    do {
      return try FrameSinks.open(
        path: output,
        settings: OutputSettings(
          width: settings.width, height: settings.height, frameRate: settings.frameRate, crf: request.crf,
          preset: request.preset, metadata: ["description": request.prompt, "comment": description]))
    } catch let error as VideoIOError where error.isUsage { throw UsageError("\(error)") }
  }

  /// - Throws: ``RunError`` when the weights and the keys and values alone are more than the machine has.
  private func requireMemory() throws {
    let (rollout, c) = (settings.rollout, settings.model.transformer)
    let frames = try rollout.recipe.memory.capacity(
      chunkFrames: rollout.chunkFrames, total: settings.chunks * rollout.chunkFrames)
    let tokens = Double(frames) * Double(rollout.latentHeight / 2) * Double(rollout.latentWidth / 2)
    let needed = 4 * (Double(c.parameters) + 2 * Double(c.layers) * Double(c.width) * tokens)
    let available = Double(ProcessInfo.processInfo.physicalMemory)
    guard needed <= available else {
      throw RunError(
        "weights, keys and values take \(Format.bytes(Int(min(needed, 9e18)))), and this machine has "
          + "\(Format.bytes(Int(available))); choose a smaller --size or --window")
    }
  }

  private func noise() -> any ChunkNoise {
    let rollout = settings.rollout
    switch settings.request.rng {
    case .counter: return CounterNoise(seed: settings.request.seed)
    case .torch:
      return TorchNoise(
        seed: settings.request.seed, totalFrames: settings.chunks * settings.chunkFrames,
        channels: settings.model.transformer.inputChannels, height: rollout.latentHeight, width: rollout.latentWidth)
    }
  }

  /// Pictures of a decoder's pixels `[frames, height, width, 3]` in 0...1, each value truncated to 8 bits as the
  /// published pipelines do.
  ///
  /// - Throws: ``RunError`` for pixels that are no numbers.
  static func frames(_ pixels: DeviceTensor, on backend: any Backend) throws -> [RGBFrame] {
    guard backend.allFinite(pixels) else {
      throw RunError("the decoder gave NaN or infinity; the weights of the autoencoder are damaged")
    }
    let (count, height, width) = (pixels.shape[0], pixels.shape[1], pixels.shape[2])
    let values = backend.download(pixels)
    let size = height * width * 3
    return values.withUnsafeBytes { bytes in
      let numbers = bytes.bindMemory(to: Float.self)
      return (0..<count).map { frame in
        let picture = [UInt8](unsafeUninitializedCapacity: size) { out, initialized in
          for i in 0..<size { out[i] = UInt8(max(0, min(255, numbers[frame * size + i] * 255))) }
          initialized = size
        }
        return RGBFrame(width: width, height: height, pixels: picture)
      }
    }
  }
}

/// Seconds spent in each phase.
private struct PhaseClock {
  var denoise = 0.0
  var decode = 0.0
  var write = 0.0
  private var last = (decode: 0.0, write: 0.0)
  private let clock = ContinuousClock()

  mutating func measure<Result>(_ phase: WritableKeyPath<PhaseClock, Double>, _ body: () throws -> Result) rethrows
    -> Result
  {
    let start = clock.now
    defer { self[keyPath: phase] += (clock.now - start).seconds }
    return try body()
  }

  mutating func add(_ chunk: FinishedChunk) { denoise += chunk.denoiseSeconds + chunk.sealSeconds }

  mutating func report(_ chunk: FinishedChunk, of settings: RunSettings, written: Int, kvBytes: Int)
    -> ChunkReport
  {
    let elapsed = Host.processSeconds
    let rate = Double(written) / max(elapsed, 1e-9)
    defer { last = (decode, write) }
    return ChunkReport(
      index: chunk.index, chunks: settings.chunks, frames: written, totalFrames: settings.frames,
      videoSeconds: Double(written) / settings.frameRate.framesPerSecond, visibleFrames: chunk.visibleFrames,
      density: Double(chunk.pagesRead) / Double(max(1, chunk.pagesKept)), denoiseSeconds: chunk.denoiseSeconds,
      sealSeconds: chunk.sealSeconds,
      decodeSeconds: decode - last.decode,
      writeSeconds: write - last.write, framesPerSecond: rate,
      remainingSeconds: Double(settings.frames - written) / max(rate, 1e-9), kvBytes: kvBytes,
      residentBytes: Host.memory.resident)
  }
}
