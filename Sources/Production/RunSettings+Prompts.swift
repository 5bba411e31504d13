import Rollout

extension RunSettings {
  /// What is told of a chunk with which a prompt takes effect, or takes more of it; nil for the others.
  func receipt(of chunk: FinishedChunk) -> PromptReport? {
    let turn = prompts.current(at: chunk.index)
    guard turn.chunk > 0, chunk.index < turn.chunk + turn.blend else { return nil }
    return PromptReport(
      index: turn.prompt, text: request.timeline.segments[turn.prompt].text, appliedAtChunk: turn.chunk,
      seconds: turn.seconds, askedSeconds: turn.askedSeconds, hardCut: turn.isCut, onSwitch: turn.kind.rawValue,
      blend: turn.blend, blendMode: turn.blendMode.rawValue, recachedFrames: chunk.recachedFrames,
      recacheSeconds: chunk.recacheSeconds)
  }
}
