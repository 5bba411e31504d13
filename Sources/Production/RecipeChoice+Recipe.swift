import SparseAttention

extension RecipeChoice {
  /// The recipe of the engine.
  ///
  /// - Parameters:
  ///   - frames: Latent frames of the video.
  ///   - steps: Denoising steps of a chunk.
  /// - Throws: `SparsityError` for sizes that do not fit.
  func recipe(frames: Int, chunkFrames: Int, steps: Int, mode: RunRequest.Mode) throws -> SparsityRecipe {
    let selector: any PageSelector
    switch select {
    case .all: selector = AllPages()
    case .topk(let stride, let rotation):
      selector = PooledTopK(anchors: stride.map { PageAnchors(stride: $0, rotation: rotation, steps: steps) })
    case .hierarchical(let keep, let sink, let near): selector = Hierarchical(keep: keep, sink: sink, near: near)
    case .anchors(let anchors):
      selector =
        mode == .clip
        ? try RotatingAnchors(anchors.pattern(frames: frames))
        : try anchors.causal(chunkFrames: chunkFrames, steps: steps)
    }
    return SparsityRecipe(
      name: name, memory: policy, density: schedule(chunkFrames: chunkFrames), select: selector, tail: tail,
      positions: positions, replan: replan)
  }

  private var policy: any MemoryPolicy {
    switch memory {
    case .all: KeepAll()
    case .window(let window, let sink): SlidingWindow(window: window, sink: sink)
    case .persistent(let capacity, let window, let sink):
      PersistentBlocks(capacityFrames: capacity, localWindow: window, sink: sink)
    case .reservoir(let capacity, let sink, let recent):
      AnchorReservoir(capacity: capacity, sink: sink, recent: recent)
    }
  }

  private func schedule(chunkFrames: Int) -> any DensitySchedule {
    switch density {
    case .full: return FullDensity()
    case .constant(let share): return ConstantDensity(share)
    case .growth(let target, let base):
      let window: Int? =
        switch memory {
        case .all: nil
        case .window(let frames, _): frames
        case .persistent(let capacity, let window, _): capacity + window
        case .reservoir(let capacity, let sink, let recent): sink + capacity + recent + chunkFrames
        }
      return ChunkAwareGrowth(target: target, base: base, window: window, chunkFrames: chunkFrames)
    }
  }
}

extension RecipeChoice.Anchors {
  /// The published pattern over a whole clip; the stride by the published code's rule unless it is given.
  func pattern(frames: Int) throws(SparsityError) -> AnchorPattern {
    let stride =
      stride
      ?? AnchorPattern.stride(frames: frames, halfWindow: window, leading: first, budget: budget, scale: scale)
    return try AnchorPattern(frames: frames, stride: stride, halfWindow: window, leading: first)
  }

  /// The causal form, chunk by chunk.
  func causal(chunkFrames: Int, steps: Int) throws(SparsityError) -> CausalAnchors {
    let frames = min(1e9, (Double(budget) * scale).rounded(.down))
    return try CausalAnchors(
      budget: Int(frames), sink: first, recent: recent, chunkFrames: chunkFrames, stride: stride, steps: steps,
      rotation: rotation)
  }
}
