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
  /// After so many chunks the memory that is free goes back to the system.
  private static let chunksBetweenReleases = 32

  /// What it goes on from.
  private let earlier: ContinuedRun?

  public init(_ settings: RunSettings) throws { try self.init(settings, earlier: nil) }

  /// Goes on with a run.
  public init(_ earlier: ContinuedRun) throws { try self.init(earlier.settings, earlier: earlier) }

  private init(_ settings: RunSettings, earlier: ContinuedRun?) throws {
    self.settings = settings
    self.earlier = earlier
    threads = settings.request.threads ?? Host.physicalCores
    guard (1...512).contains(threads) else { throw UsageError("--threads \(threads); 1 to 512 are possible") }
    do { try settings.request.timeline.check() } catch { throw UsageError("\(error)") }
    if settings.request.runDirectory?.isEmpty == true { throw UsageError("--run-dir '' names no folder") }
  }

  /// Where the video goes.
  public var output: String {
    settings.request.output ?? settings.request.runDirectory.map { $0 + "/video.mp4" } ?? "video.mp4"
  }

  /// Does it all.
  ///
  /// - Parameters:
  ///   - stop: With a run directory: ends the run after the chunk that is being made.
  ///   - report: Called with each event, in order, between chunks.
  /// - Throws: ``UsageError``, ``RunError``, ``RunStopped``, or the typed errors of the parts. Under the final name there is
  ///   nothing, or what was there before; the finished chunks stay playable under the temporary name.
  public func run(stop: StopRequest = StopRequest(), report: (RunEvent) -> Void) async throws {
    let request = settings.request
    let model = settings.model
    try model.requireComplete()
    // Whole clips are what models without settings are for.
    if settings.mode == .chunks { for warning in model.warnings { report(.warning(warning)) } }
    for warning in earlier?.warnings ?? [] { report(.warning(warning)) }
    for note in settings.notes { report(.note(note)) }
    // Opened first: a place that cannot be written is known before any work.
    if let sidecar = sidecarPath { try RunRecord.checkReplaceable(sidecar) }
    let directory = try earlier?.directory ?? request.runDirectory.map { try RunDirectory(creating: $0) }
    let start = earlier?.checkpoint
    let sink = try openSink(continuing: start?.video)
    defer { sink.abandon() }
    try requireMemory()
    // Only now: until the sink is open, another run may be writing here.
    if let directory {
      if earlier?.checkpoint == nil { try directory.removeEarlierRun() }
      directory.removeLeftovers()
    }

    let backend = CPUBackend(threads: threads, precision: settings.precision, pages: settings.pages)
    let tokenizer = try model.loadTokenizer()
    let limit = model.transformer.textLength
    let encodings = request.timeline.segments.map { tokenizer.encode(PromptCleaner.clean($0.text), maximum: limit) }
    let cuts = encodings.map { $0.cutCount > 0 ? $0.cutText : nil }
    for (i, cut) in cuts.enumerated() {
      guard let cut else { continue }
      let which = cuts.count == 1 ? "the prompt" : "prompt \(i + 1)"
      report(.warning("\(which) has more than \(limit) tokens; this was cut from its end: \"\(cut)\""))
    }
    var record = try RunRecord(
      settings, threads: threads, backend: backend.name, promptTokens: encodings.map(\.ids.count), promptCuts: cuts,
      geometryTile: "\(settings.rollout.geometry().tile)", earlier: earlier?.manifest,
      firstChunk: start?.nextChunk ?? 0)
    try directory.map { try record.write(to: $0.manifestFile) }
    let encoder = try TextCache(model, isEnabled: request.cachesText, on: backend)
    let rows = try encodings.map { try encoder.encode(ids: $0.ids) }
    let negativeRows = try settings.negativePrompt.map {
      try encoder.encode(ids: tokenizer.encode(PromptCleaner.clean($0), maximum: limit).ids)
    }
    backend.releaseUnusedMemory()
    let decoder = try model.loadDecoder(on: backend)
    let recipe = settings.rollout.recipe.name
    if let file = model.additionPath(recipe: recipe) { report(.note("weights of the recipe merged: \(file)")) }
    let transformer = try model.loadTransformer(recipe: recipe, on: backend)
    let negative = negativeRows.map { transformer.context(text: $0) }
    var keeper = try directory.map {
      try StateKeeper(
        $0, prompts: request.timeline.segments.map(\.text), decoder: decoder, from: earlier, on: backend)
    }
    let loadSeconds = Host.processSeconds
    report(.ready(seconds: loadSeconds))

    var clock = PhaseClock()
    var firstFrameSeconds = 0.0
    let before = start?.video.frames ?? 0
    var written = before
    var kvBytes = 0
    func deliver(_ chunk: FinishedChunk) throws -> ChunkReport {
      clock.add(chunk)
      record.add(chunk)
      if let receipt = settings.receipt(of: chunk) { report(.prompt(receipt)) }
      if let directory {
        try clock.measure(\.write) {
          try directory.write(latents: backend.download(chunk.latents), chunk: chunk.index)
          try chunk.attention?.write(to: directory.attentionFile(chunk: chunk.index))
          if let kept = settings.keptChunks {
            directory.forget(before: chunk.index, keeping: kept, from: settings.declaredChunks)
          }
        }
      }
      // A whole clip is decoded in portions, so that its pixels are never in memory all at once.
      let count = chunk.latents.shape[0]
      for first in stride(from: 0, to: count, by: settings.decodedFrames) {
        let frames = try clock.measure(\.decode) {
          // Pixels of one latent frame at a time are in the cache when they become bytes.
          try (first..<min(count, first + settings.decodedFrames)).flatMap { frame in
            try VideoRun.frames(decoder.decode(backend.slice(chunk.latents, frame..<frame + 1)), on: backend)
          }.prefix(settings.frameLimit.map { $0 - written } ?? .max)
        }
        try clock.measure(\.write) { try sink.write(Array(frames), endsChunk: true) }
        if written == before { firstFrameSeconds = Host.processSeconds }
        if first == 0, let picture = frames.first {
          try keeper?.show(picture, frame: written, chunk: chunk.index)
        }
        written += frames.count
      }
      return clock.report(chunk, of: settings, written: written, from: before, kvBytes: kvBytes)
    }
    /// Leaves everything so that the run can go on, and says how.
    func stopped(after chunks: Int) throws -> RunStopped {
      record.status = .stopped
      try directory.map { try record.write(to: $0.manifestFile) }
      return RunStopped(chunks: chunks, resume: resumeCommand)
    }
    if directory != nil, stop.isMade { throw try stopped(after: start?.nextChunk ?? 0) }
    if let sampler = settings.sampler {
      var denoiser = try ClipDenoiser(
        transformer: transformer, text: transformer.context(text: rows[0]), negative: negative, noise: noise(),
        sampler: sampler, settings: settings.rollout, on: backend)
      kvBytes = denoiser.memoryBytes
      while !denoiser.isFinished {
        if directory != nil, stop.isMade { throw try stopped(after: 0) }
        try denoiser.advance()
        let (step, steps) = (denoiser.step, denoiser.steps)
        let remaining = denoiser.seconds / Double(step) * Double(steps - step)
        report(
          .step(StepReport(step: step, steps: steps, seconds: denoiser.seconds, remainingSeconds: remaining)))
      }
      if let clip = denoiser.finished {
        let chunk = try deliver(clip)
        try keeper?.log(chunk, firstFrame: 0, frames: settings.latentFrames, saved: nil)
        report(.chunk(chunk))
      }
    } else {
      let rollout = try Rollout(
        transformer: transformer,
        prompts: PromptScript(rows: rows.map { backend.download($0) }, schedule: settings.prompts), negative: negative,
        noise: noise(), settings: settings.rollout, from: earlier?.rolloutState, on: backend)
      kvBytes = rollout.memoryBytes
      let first = start?.nextChunk ?? 0
      var input = try settings.input.flatMap { clip in
        try first < settings.inputChunks
          ? ClipEncoder(
            clip, encoder: model.loadEncoder(on: backend), width: settings.width, height: settings.height,
            from: earlier?.decoderState, firstLatent: settings.rollout.layout.start(of: first), on: backend) : nil
      }
      // Saved in the moment between two chunks, since the next one may begin before this one is decoded.
      let (chunks, every) = (settings.chunkLimit, request.checkpointEvery)
      let ahead = RolloutAhead(rollout: rollout, isAhead: RolloutAhead.pays(threads: threads)) { chunk in
        guard let directory, chunks != chunk.index + 1, stop.isMade || (chunk.index + 1) % every == 0 else {
          return nil
        }
        return try await SavedRollout(rollout, nextChunk: chunk.index + 1, in: directory)
      }
      /// Writes a chunk and completes its checkpoint; false if the run ends here.
      func complete(_ chunk: FinishedChunk, _ saved: SavedRollout?, input: ClipEncoder? = nil) throws -> Bool {
        let made = try deliver(chunk)
        if saved != nil { try sink.synchronize() }
        try keeper?.log(
          made, firstFrame: chunk.firstFrame, frames: chunk.latents.shape[0], change: settings.receipt(of: chunk),
          saved: saved)
        if saved != nil {
          try keeper?.commit(decoder, nextChunk: chunk.index + 1, video: sink.position, input: input)
        }
        report(.chunk(made))
        // Blocks of sizes that only some chunks ask for, since selections vary, would gather over the hours.
        if (chunk.index + 1) % VideoRun.chunksBetweenReleases == 0 { backend.releaseUnusedMemory() }
        if saved != nil, stop.isMade { throw try stopped(after: chunk.index + 1) }
        // Without a directory to go on from, a run without end is finished by being stopped.
        return !(directory == nil && settings.isEndless && stop.isMade)
      }
      do {
        var goesOn = true
        var index = first
        while goesOn, let encoder = input, index < settings.inputChunks {
          let latents = try encoder.next(settings.rollout.layout.range(of: index).count)
          let schedule = settings.inputSchedule
          let given =
            if let schedule { try await rollout.next(from: latents, schedule: schedule) } else {
              try await rollout.take(latents)
            }
          guard let chunk = given else { break }
          index += 1
          if index == settings.inputChunks { input = nil }
          goesOn = try complete(chunk, await ahead.save(chunk), input: input)
        }
        if goesOn {
          for try await (chunk, saved) in ahead {
            if try !complete(chunk, saved) { break }
          }
        }
      } catch let error where !(error is RunStopped) {
        guard directory?.checkpoints.isEmpty == false else { throw error }
        throw RunError("\(error); what was made before is kept, and can be gone on with: \(resumeCommand)")
      }
    }
    let count = try clock.measure(\.write) { try sink.finish() }
    if let wanted = settings.frameLimit, count != wanted {
      throw RunError("\(output): \(count) frames were written, \(wanted) were asked for")
    }
    let total = Host.processSeconds
    let summary = RunSummary(
      output: output, frames: count, videoSeconds: Double(count) / settings.frameRate.framesPerSecond,
      totalSeconds: total,
      firstFrameSeconds: firstFrameSeconds, loadSeconds: loadSeconds, denoiseSeconds: clock.denoise,
      decodeSeconds: clock.decode, writeSeconds: clock.write, endToEndFPS: Double(count - before) / total,
      denoiseFPS: Double(count - before) / max(clock.denoise, 1e-9), kvBytes: kvBytes, peakBytes: Host.memory.peak)
    record.summary = summary
    record.status = .finished
    if let directory { try record.write(to: directory.manifestFile) }
    if let sidecar = sidecarPath { try record.write(to: sidecar) }
    report(.finished(summary))
  }

  private var resumeCommand: String {
    "generate-video resume " + (settings.request.runDirectory ?? "").quotedForShell
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

  private func openSink(continuing position: SinkPosition?) throws -> any FrameSink {
    let request = settings.request
    let description = "\(Engine.name) \(Engine.version), seed \(request.seed), model \(settings.model.settings.name)"
    do {
      var format = OutputSettings(
        width: settings.width, height: settings.height, frameRate: settings.frameRate, crf: request.crf,
        preset: request.preset,
        metadata: [
          "description": request.timeline.segments.map(\.text).joined(separator: " | "), "comment": description,
        ])
      format.keptSegments = settings.keptChunks
      format.longestChunk = Double(4 * settings.decodedFrames) / settings.frameRate.framesPerSecond
      return try FrameSinks.open(path: output, settings: format, continuing: position)
    } catch let error as VideoIOError where error.isUsage { throw UsageError("\(error)") }
  }

  /// - Throws: ``RunError`` when the weights and the keys and values alone are more than the machine has.
  private func requireMemory() throws {
    let (rollout, c) = (settings.rollout, settings.model.transformer)
    let frames = try rollout.recipe.memory.capacity(
      chunkFrames: rollout.chunkFrames, total: rollout.layout.computedFrames)
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
        seed: settings.request.seed, totalFrames: (rollout.layout.computedFrames ?? 0) - rollout.givenFrames,
        channels: settings.model.transformer.inputChannels, height: rollout.latentHeight, width: rollout.latentWidth)
    }
  }

  /// Pictures of a decoder's pixels `[frames, height, width, 3]` in 0...1, each value truncated to 8 bits as the
  /// published pipelines do.
  ///
  /// - Throws: ``RunError`` for pixels that are no numbers.
  static func frames(_ pixels: DeviceTensor, on backend: any Backend) throws -> [RGBFrame] {
    guard let values = backend.downloadPixels(pixels) else {
      throw RunError("the decoder gave NaN or infinity; the weights of the autoencoder are damaged")
    }
    let (count, height, width) = (pixels.shape[0], pixels.shape[1], pixels.shape[2])
    let size = height * width * 3
    return values.withUnsafeBytes { bytes in
      (0..<count).map { frame in
        RGBFrame(width: width, height: height, pixels: Array(bytes[frame * size..<(frame + 1) * size]))
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

  mutating func add(_ chunk: FinishedChunk) {
    denoise += chunk.denoiseSeconds + chunk.sealSeconds + chunk.recacheSeconds
  }

  mutating func report(_ chunk: FinishedChunk, of settings: RunSettings, written: Int, from before: Int, kvBytes: Int)
    -> ChunkReport
  {
    let elapsed = Host.processSeconds
    let rate = Double(written - before) / max(elapsed, 1e-9)
    defer { last = (decode, write) }
    return ChunkReport(
      index: chunk.index, chunks: settings.chunkLimit, frames: written, totalFrames: settings.frameLimit,
      videoSeconds: Double(written) / settings.frameRate.framesPerSecond, visibleFrames: chunk.visibleFrames,
      prompt: chunk.mix.prompt, promptShare: chunk.mix.weight,
      density: chunk.density, layerDensities: chunk.layerDensities, denoiseSeconds: chunk.denoiseSeconds,
      sealSeconds: chunk.sealSeconds,
      decodeSeconds: decode - last.decode,
      writeSeconds: write - last.write, framesPerSecond: rate,
      remainingSeconds: settings.frameLimit.map { Double($0 - written) / max(rate, 1e-9) }, kvBytes: kvBytes,
      residentBytes: Host.memory.resident)
  }
}
