import Foundation
import Production
import VideoIO

/// Shows a run's events: one live line on a terminal, one line per chunk elsewhere, or JSON.
final class ProgressPrinter {
  enum Style { case live, lines, json, quiet }
  private let style: Style
  private var lineIsOpen = false
  /// Why an event could not be printed; the first time that it happened.
  private(set) var failure: (any Error)?

  init(style: Style) { self.style = style }

  /// What is about to be made.
  func introduce(_ run: VideoRun) {
    let s = run.settings
    let steps = s.rollout.schedule.timesteps.count
    let parts = s.mode == .clip ? "at once" : "in \(s.chunkLimit.map { "\($0) " } ?? "")chunks of \(s.chunkFrames)"
    let guidance = s.rollout.guidance == 1 ? "" : ", guidance \(s.rollout.guidance)"
    Terminal.say(
      "\(s.model.settings.name): \(s.width)x\(s.height), \(s.frameLimit.map { "\($0) frames" } ?? "without end") at \(s.frameRate) fps \(parts), "
        + "\(steps) steps\(guidance); \(s.recipe.name), \(s.rollout.recipe.memory.summary); "
        + "\(run.threads) thread\(run.threads == 1 ? "" : "s")")
  }

  func show(_ event: RunEvent) {
    switch (style, event) {
    case (.json, _): printJSON(event)
    case (_, .warning(let text)): say("warning: " + text)
    case (.quiet, _): break
    case (_, .note(let text)): say(text)
    case (_, .ready(let seconds)): say(String(format: "ready after %.1f s", seconds))
    case (.live, .step(let step)): overwrite(line(step))
    case (_, .step(let step)): say(line(step))
    case (_, .prompt(let prompt)): say(line(prompt))
    case (.live, .chunk(let chunk)): overwrite(line(chunk))
    case (_, .chunk(let chunk)): say(line(chunk))
    case (_, .finished(let summary)): say(line(summary))
    }
  }

  /// Leaves the cursor at the start of a line.
  func end() {
    if lineIsOpen { Terminal.show("\n") }
    lineIsOpen = false
  }

  private func line(_ s: StepReport) -> String {
    "step \(s.step)/\(s.steps)  \(Format.time(s.seconds))  eta \(Format.time(s.remainingSeconds))"
  }

  private func line(_ p: PromptReport) -> String {
    let manner =
      p.hardCut ? "hard cut" : p.onSwitch + (p.recachedFrames > 0 ? " of \(p.recachedFrames) latent frames" : "")
    return String(
      format: "prompt %d in force with chunk %d (from 0), at %.2f s: %@", p.index + 1, p.appliedAtChunk, p.seconds,
      manner)
  }

  private func line(_ c: ChunkReport) -> String {
    let work = c.denoiseSeconds + c.sealSeconds + c.decodeSeconds + c.writeSeconds
    return String(
      format: "chunk %@  %.1f s video  %.1f fps (e2e)%@  rss %@  [decode %.0f%%]",
      "\(c.index + 1)" + (c.chunks.map { "/\($0)" } ?? ""), c.videoSeconds, c.framesPerSecond,
      c.remainingSeconds.map { "  eta " + Format.time($0) } ?? "", Format.bytes(c.residentBytes),
      100 * c.decodeSeconds / max(work, 1e-9))
  }

  private func line(_ s: RunSummary) -> String {
    let place = s.output == "-" ? "standard output" : s.output
    return String(
      format:
        "%@: %d frames, %.2f s video in %@; %.2f fps end to end, %.2f fps denoising, first frame after %.1f s, peak %@",
      place, s.frames, s.videoSeconds, Format.time(s.totalSeconds), s.endToEndFPS, s.denoiseFPS, s.firstFrameSeconds,
      Format.bytes(s.peakBytes))
  }

  private func say(_ text: String) {
    end()
    Terminal.say(text)
  }

  private func overwrite(_ text: String) {
    Terminal.show("\r\u{1B}[K" + text)
    lineIsOpen = true
  }

  private struct Line<Value: Encodable>: Encodable {
    let event: String
    let value: Value
  }

  private func printJSON(_ event: RunEvent) {
    func emit(_ name: String, _ value: some Encodable) {
      guard let text = try? Terminal.json(Line(event: name, value: value)) else { return }
      do { try DirectOutput.standardOutput.write(text + "\n") } catch { failure = failure ?? error }
    }
    switch event {
    case .warning(let text): emit("warning", text)
    case .note(let text): emit("note", text)
    case .ready(let seconds): emit("ready", seconds)
    case .step(let step): emit("step", step)
    case .prompt(let prompt): emit("prompt", prompt)
    case .chunk(let chunk): emit("chunk", chunk)
    case .finished(let summary): emit("finished", summary)
    }
  }
}
