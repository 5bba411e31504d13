import Compute

/// How a rollout follows its prompts, before it begins a chunk.
extension Rollout {
  /// Latent frames that a flush leaves, beside the sink: 2 in Infinity-RoPE, as released.
  public static let flushedFrames = 2

  /// Puts the prompts of the next chunk in force, and does to the memories what the switch asks for. Of a guided rollout,
  /// both memories are emptied or flushed, but only the prompt's is computed anew: the other's prompt never changes.
  ///
  /// - Returns: Latent frames whose keys and values were computed anew, and the seconds that took.
  /// - Throws: `CancellationError` between passes.
  func followPrompts() throws -> (frames: Int, seconds: Double) {
    guard let prompts else { return (0, 0) }
    let next = prompts.schedule.mix(at: chunk)
    guard next != mix else { return (0, 0) }
    let clock = ContinuousClock()
    let start = clock.now
    branches.setPrompt(prompts.rows(next))
    mix = next
    let turn = prompts.schedule.current(at: chunk)
    guard chunk > 0 else { return (0, 0) }
    var frames = 0
    if turn.isCut {
      let end = prompts.schedule.sceneEnd(of: chunk) ?? settings.plannedChunks
      for memory in memories { memory.restart(chunks: end.map { $0 - chunk }, at: chunk) }
      recent = []
    } else {
      if turn.kind == .flush, turn.chunk == chunk {
        for memory in memories { memory.flush(keeping: Rollout.flushedFrames) }
        // What is left is less than whole chunks, so that no later switch can compute it anew.
        recent = []
      }
      if turn.kind == .recache { frames = try recache() }
    }
    return (frames, (clock.now - start).seconds)
  }

  /// Computes the keys and values of the recent chunks anew under the present prompt: their pages are dropped, and clean
  /// passes over their latents write them again, chunk by chunk, each seeing what is in memory before it (LongLive does it
  /// in one pass over all frames; chunk by chunk is how these pages came to be).
  private func recache() throws -> Int {
    let frames = recent.reduce(0) { $0 + $1.shape[0] }
    guard frames > 0, let memory = memories.first else { return 0 }
    memory.rewind(frames: frames, chunks: recent.count)
    let first = chunk - recent.count
    for (i, latents) in recent.enumerated() {
      try Task.checkCancellation()
      memory.begin(frames: latents.shape[0])
      memory.step = settings.schedule.timesteps.count - 1
      memory.beginCleanPass()
      branches.remember(try contextLatents(latents, chunk: first + i), timestep: settings.contextTimestep, in: memory)
      memory.seal()
    }
    // What was noted of these passes belongs to no chunk of the video.
    _ = memory.takeRecord()
    return frames
  }

  /// Keeps the latents of a finished chunk as long as a later switch may want them: whole chunks, as many as are in memory
  /// for being recent and at most `recacheFrames`.
  func remember(_ latents: DeviceTensor) {
    guard let prompts, prompts.schedule.recaches(from: chunk + 1) else {
      recent = []
      return
    }
    recent.append(latents)
    let most = Swift.min(settings.recacheFrames, settings.recipe.memory.recentFrames(next: settings.chunkFrames))
    while !recent.isEmpty, recent.reduce(0, { $0 + $1.shape[0] }) > most { recent.removeFirst() }
  }
}
