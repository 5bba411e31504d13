/// One answer to each of the four questions, and where keys are thought to stand in time.
public struct SparsityRecipe: Sendable {
  /// The name under which a user asked for it.
  public var name: String
  /// Which pages stay.
  public var memory: any MemoryPolicy
  /// How many may be read.
  public var density: any DensitySchedule
  /// Which ones are read.
  public var select: any PageSelector
  /// What becomes of the rest.
  public var tail: Compensation
  public var positions: PositionMode
  /// How often pages are selected.
  public var replan: Replanning

  public init(
    name: String, memory: any MemoryPolicy, density: any DensitySchedule = FullDensity(),
    select: any PageSelector = AllPages(), tail: Compensation = .drop, positions: PositionMode = .absolute,
    replan: Replanning = .everyPass
  ) {
    self.name = name
    self.memory = memory
    self.density = density
    self.select = select
    self.tail = tail
    self.positions = positions
    self.replan = replan
  }

  /// Refuses what cannot be had, before any work.
  /// - Throws: ``SparsityError``.
  public func check(geometry: PageGeometry, chunkFrames: Int, total: Int?) throws(SparsityError) {
    _ = try memory.capacity(chunkFrames: chunkFrames, total: total)
    try density.check()
    try select.check(geometry: geometry)
  }

  // MARK: The table of recipes

  /// Keep everything, read everything.
  public static func dense() -> SparsityRecipe { SparsityRecipe(name: "dense", memory: KeepAll()) }

  /// Self-Forcing: a sliding window with an optional sink, read whole.
  public static func selfForcing(window: Int, sink: Int = 0, positions: PositionMode = .absolute) -> SparsityRecipe {
    SparsityRecipe(name: "self-forcing", memory: SlidingWindow(window: window, sink: sink), positions: positions)
  }

  /// Sparse Forcing: persistent blocks, read whole, and the best quarter of a local window.
  public static func sparseForcing(_ settings: SparseForcing = SparseForcing(), positions: PositionMode = .absolute)
    -> SparsityRecipe
  {
    SparsityRecipe(
      name: "sparse-forcing", memory: settings.blocks, density: ConstantDensity(settings.density), select: PooledTopK(),
      positions: positions)
  }

  /// Light Forcing: a sliding window, read ever more sparsely, by frames first.
  public static func lightForcing(_ settings: LightForcing = .short, positions: PositionMode = .absolute)
    -> SparsityRecipe
  {
    SparsityRecipe(
      name: "light-forcing", memory: SlidingWindow(window: settings.window, sink: settings.sink),
      density: settings.growth, select: settings.hierarchy, positions: positions)
  }

  /// LVSA over a whole clip, as published: anchors that turn with the denoising step, and a window.
  public static func lvsa(_ pattern: AnchorPattern) -> SparsityRecipe {
    SparsityRecipe(name: "lvsa", memory: KeepAll(), select: RotatingAnchors(pattern))
  }

  /// LVSA chunk by chunk: anchors over all of the past, or over what a reservoir keeps of it.
  public static func lvsa(
    _ anchors: CausalAnchors, reservoir: AnchorReservoir? = nil, positions: PositionMode = .absolute
  ) -> SparsityRecipe {
    SparsityRecipe(name: "lvsa", memory: reservoir ?? KeepAll(), select: anchors, positions: positions)
  }

  /// This project's own: persistent blocks, read by chunk-aware growth that counts them too, a part of them by turns, and a
  /// centroid row for each page that is skipped.
  ///
  /// - Parameter steps: Denoising steps of a chunk, which anchors turn with.
  public static func longtake(_ settings: LongTake = LongTake(), steps: Int, positions: PositionMode = .absolute)
    -> SparsityRecipe
  {
    SparsityRecipe(
      name: "longtake", memory: settings.blocks, density: settings.growth,
      select: PooledTopK(
        anchors: settings.anchorStride.map { PageAnchors(stride: $0, rotation: settings.rotation, steps: steps) }),
      tail: settings.tail, positions: positions)
  }

  /// The names of the recipes that exist.
  public static let names = ["dense", "self-forcing", "sparse-forcing", "light-forcing", "lvsa", "longtake"]
}

/// How often pages are selected.
public enum Replanning: String, Sendable, Codable, CaseIterable {
  /// Anew in every pass, as published: exact.
  case everyPass = "every-pass"
  /// In a chunk's first denoising step, for each layer; the later steps and the clean pass replay the lists. Saves the
  /// selection of four passes out of five, which is little (docs/speed-log.md), and is not what was published: with the
  /// shipped model, 21 frames, the latents of `light-forcing` then lie 0.38 to 0.46 (relative L2) from those with
  /// selection in every pass, those of `sparse-forcing` 0.56 to 0.68.
  case oncePerChunk = "once-per-chunk"
}

/// Numbers of Sparse Forcing (arXiv 2604.21221).
public struct SparseForcing: Sendable, Equatable {
  /// Which pages stay: 6 frames' worth beside a window of 6, the first chunk pinned.
  public var blocks = PersistentBlocks()
  /// Share of the local pages that a query tile reads: 0.25 as published, 1 is exact.
  public var density = 0.25

  public init(blocks: PersistentBlocks = PersistentBlocks(), density: Double = 0.25) {
    self.blocks = blocks
    self.density = density
  }
}

/// Numbers of Light Forcing (arXiv 2602.04789, as released).
public struct LightForcing: Sendable, Equatable {
  /// Latent frames that a chunk can see, its own included.
  public var window: Int
  /// Leading frames that always stay.
  public var sink: Int
  /// How many pages are read.
  public var growth: ChunkAwareGrowth
  /// Which ones.
  public var hierarchy: Hierarchical

  public init(
    window: Int = 21, sink: Int = 0, growth: ChunkAwareGrowth = .short, hierarchy: Hierarchical = Hierarchical()
  ) {
    self.window = window
    self.sink = sink
    self.growth = growth
    self.hierarchy = hierarchy
  }

  /// For 5 seconds: all 21 frames in memory.
  public static let short = LightForcing()
  /// For 15 seconds: 12 frames in memory, the first pinned; made for positions by rank (`window`).
  public static let long = LightForcing(
    window: 12, sink: 1, growth: .long, hierarchy: Hierarchical(keep: 3, sink: 1, near: 1))
}

/// Numbers of the recipe `longtake`, chosen by measurement on the shipped model (docs/quality-longtake.md).
public struct LongTake: Sendable, Equatable {
  /// Which pages stay.
  public var blocks: PersistentBlocks
  /// How many are read, persistent ones among them.
  public var growth: ChunkAwareGrowth
  /// Every how many pages one is read by turns; nil for none.
  public var anchorStride: Int?
  /// What the turns follow.
  public var rotation: AnchorRotation
  /// What becomes of skipped pages.
  public var tail: Compensation

  public init(
    blocks: PersistentBlocks = PersistentBlocks(capacityFrames: 6, localWindow: 6, sink: 3),
    target: Double = 0.5, base: Double = 0.6, anchorStride: Int? = 8, rotation: AnchorRotation = .both,
    tail: Compensation = .centroidTail, chunkFrames: Int = 3
  ) {
    self.blocks = blocks
    growth = ChunkAwareGrowth(
      target: target, base: base, window: blocks.capacityFrames + blocks.localWindow, chunkFrames: chunkFrames)
    self.anchorStride = anchorStride
    self.rotation = rotation
    self.tail = tail
  }
}
