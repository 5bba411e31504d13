import SparseAttention
import WanModel

/// The four answers of a recipe as a user chose them, every default filled in and every number checked: what `plan` counts
/// with and ``recipe(frames:chunkFrames:steps:mode:)`` builds from.
public struct RecipeChoice: Sendable, Equatable {
  /// Which pages stay.
  public enum Memory: Sendable, Equatable {
    case all
    /// Latent frames that a chunk sees, leading ones included.
    case window(frames: Int, sink: Int)
    /// Frames' worth of pages beside a window that includes the chunk; the leading frames are among those pages.
    case persistent(capacity: Int, window: Int, sink: Int)
    /// Middle frames kept, leading and recent frames beside them.
    case reservoir(capacity: Int, sink: Int, recent: Int)
  }
  /// How many may be read.
  public enum Density: Sendable, Equatable {
    case full
    case constant(Double)
    /// Target and base sparsity of chunk-aware growth.
    case growth(target: Double, base: Double)
  }
  /// Which ones are read.
  public enum Select: Sendable, Equatable {
    case all
    /// Every how many pages one is read by turns, nil for none, and what the turns follow.
    case topk(anchorStride: Int?, rotation: AnchorRotation)
    /// Candidate past frames, of these sink and near ones.
    case hierarchical(keep: Int, sink: Int, near: Int)
    case anchors(Anchors)
  }
  /// Rotating anchors: half window, leading frames, stride if it is given, budget and its scale.
  public struct Anchors: Sendable, Equatable {
    public var window: Int
    public var first: Int
    public var stride: Int?
    public var budget: Int
    public var scale: Double
    public var rotation: AnchorRotation

    /// Frames just before a chunk that it always reads: as many as a whole window has.
    public var recent: Int { window == 0 ? 0 : 2 * window + 1 }
  }

  public var name: String
  public var memory: Memory
  public var density: Density
  public var select: Select
  public var tail: Compensation
  public var positions: PositionMode
  public var replan: Replanning

  /// - Parameter frames: Latent frames of the video.
  /// - Throws: ``UsageError`` for names that do not exist, numbers out of range and flags of parts that are not in force.
  init(
    _ request: RunRequest, _ defaults: ModelSettings, mode: RunRequest.Mode, frames: Int, chunkFrames: Int,
    notes: inout [String]
  ) throws {
    let name = request.sparsity ?? (mode == .clip ? "dense" : "self-forcing")
    guard SparsityRecipe.names.contains(name) else {
      throw UsageError("--sparsity \(name) is not known; there are \(SparsityRecipe.names.joined(separator: ", "))")
    }
    self.name = name
    for known in defaults.recipes.keys.sorted() where !SparsityRecipe.names.contains(known) {
      throw UsageError(
        "'recipes' in the model's longtake.json has '\(known)'; there are \(SparsityRecipe.names.joined(separator: ", "))"
      )
    }
    let defaults = defaults.adopting(recipe: name)
    select = try Self.select(request, name, defaults, mode: mode, frames: frames)
    memory = try Self.memory(request, name, defaults, mode: mode, select: select)
    density = try Self.density(request, name, select: select)
    let standardTail = name == "longtake" ? LongTake().tail : .drop
    guard let tail = Compensation(rawValue: request.tail ?? standardTail.rawValue) else {
      throw UsageError("--tail \(request.tail ?? "") is not known; there are drop, centroid")
    }
    self.tail = tail
    replan = try Self.replan(request, select: select)
    positions = try Self.positions(request, defaults, memory, frames: frames, notes: &notes)
    if mode == .clip {
      try checkClip(request, frames: frames)
    } else {
      try checkChunks(chunkFrames: chunkFrames)
    }
  }

  /// What anchors turn with: R3 unless it is given.
  private static func rotation(_ request: RunRequest, mode: RunRequest.Mode, kind: String) throws -> AnchorRotation {
    guard let asked = request.rotation else { return .both }
    guard let rotation = AnchorRotation(rawValue: asked.uppercased()) else {
      throw UsageError("--lvsa-rotation \(asked) is not known; there are R0, R1, R2, R3, R4")
    }
    guard kind == "anchors" || kind == "topk" else {
      throw UsageError("--lvsa-rotation belongs to --sparsity lvsa or longtake, not to --select \(kind)")
    }
    guard mode == .chunks || rotation == .step else {
      throw UsageError("--lvsa-rotation \(asked) needs --mode chunks; a whole clip turns with the step, which is R1")
    }
    return rotation
  }

  private static func replan(_ request: RunRequest, select: Select) throws -> Replanning {
    guard let asked = request.replan else { return .everyPass }
    guard let replan = Replanning(rawValue: asked) else {
      throw UsageError("--replan \(asked) is not known; there are every-pass, once-per-chunk")
    }
    switch select {
    case .topk, .hierarchical: break
    case .all, .anchors:
      guard replan == .everyPass else {
        throw UsageError("--replan \(asked) needs a selection by content: --select topk or hierarchical")
      }
    }
    return replan
  }

  private static func select(
    _ request: RunRequest, _ name: String, _ defaults: ModelSettings, mode: RunRequest.Mode, frames: Int
  ) throws -> Select {
    let standard =
      ["sparse-forcing": "topk", "light-forcing": "hierarchical", "lvsa": "anchors", "longtake": "topk"][name] ?? "all"
    let kind = request.select ?? standard
    if kind != "hierarchical", request.hierarchy != .init() {
      throw UsageError("--hsa-keep, --hsa-sink and --hsa-near belong to --select hierarchical, not to \(kind)")
    }
    if kind != "anchors", request.anchors != .init() {
      throw UsageError("the flags --lvsa-... belong to --sparsity lvsa or --select anchors, not to \(kind)")
    }
    if kind != "topk", let stride = request.anchorStride {
      throw UsageError("--anchor-stride \(stride) belongs to --select topk, not to \(kind)")
    }
    let rotation = try rotation(request, mode: mode, kind: kind)
    switch kind {
    case "all": return .all
    case "topk":
      let stride = request.anchorStride ?? (name == "longtake" ? LongTake().anchorStride : nil) ?? 0
      guard (0...1 << 24).contains(stride) else {
        throw UsageError("--anchor-stride \(stride); the least is 0, which reads no page by turns")
      }
      if stride == 0, let asked = request.rotation {
        throw UsageError("--lvsa-rotation \(asked) has nothing to turn; give --anchor-stride, such as 8")
      }
      return .topk(anchorStride: stride == 0 ? nil : stride, rotation: rotation)
    case "hierarchical":
      let h = request.hierarchy
      let (keep, sink, near) = (h.keep ?? 6, h.sink ?? 1, h.near ?? 2)
      guard sink >= 0, near >= 0, keep >= 1 else {
        throw UsageError("--hsa-keep \(keep), --hsa-sink \(sink), --hsa-near \(near): at least 1, 0 and 0")
      }
      guard keep >= sink + near else {
        throw UsageError(
          "--hsa-keep \(keep) cannot hold \(sink) sink and \(near) near frames; the least is \(sink + near)")
      }
      return .hierarchical(keep: keep, sink: sink, near: near)
    case "anchors":
      let a = request.anchors
      let anchors = Anchors(
        window: a.window ?? 3, first: a.first ?? 1, stride: a.stride, budget: a.budget ?? defaults.trainedFrames,
        scale: a.scale ?? 1, rotation: rotation)
      guard (0...1 << 20).contains(anchors.window) else {
        throw UsageError("--lvsa-window \(anchors.window); the least is 0, which reads anchors only")
      }
      guard (0...1 << 20).contains(anchors.first) else {
        throw UsageError("--lvsa-first \(anchors.first); the least is 0")
      }
      guard (1...1 << 24).contains(anchors.budget) else {
        throw UsageError("--lvsa-budget \(anchors.budget); the least is 1")
      }
      guard anchors.scale.isFinite, anchors.scale > 0 else {
        throw UsageError("--lvsa-scale \(anchors.scale) must be above 0")
      }
      if let stride = anchors.stride, !(1...frames).contains(stride) {
        throw UsageError(
          "--lvsa-stride \(stride) on a video of \(frames) latent frames; 1 to \(frames) are possible")
      }
      return .anchors(anchors)
    default:
      throw UsageError("--select \(kind) is not known; there are all, topk, hierarchical, anchors")
    }
  }

  private static func memory(
    _ request: RunRequest, _ name: String, _ defaults: ModelSettings, mode: RunRequest.Mode, select: Select
  ) throws -> Memory {
    let standard =
      ["dense": "all", "sparse-forcing": "persistent", "lvsa": "all", "longtake": "persistent"][name] ?? "window"
    // A window by itself asks for a sliding one, but persistent pages have a window of their own.
    let asked = request.window == nil || standard == "persistent" ? standard : "window"
    var kind = request.memory ?? (mode == .clip ? "all" : asked)
    var window = defaults.windowFrames
    switch request.window {
    case .all:
      guard request.memory != "window" else {
        throw UsageError("--memory window needs a number of frames, not --window all")
      }
      if kind == "window" { kind = "all" }
    case .frames(let frames):
      guard request.memory != "all" else { throw UsageError("--memory all keeps every frame; leave out --window") }
      window = frames
    case nil: break
    }
    if request.window != nil, ["persistent", "reservoir"].contains(kind) {
      throw UsageError("--window belongs to --memory window; --memory persistent has --local-window")
    }
    if request.memoryCapacity != nil, !["persistent", "reservoir"].contains(kind) {
      throw UsageError("--memory-capacity belongs to --memory persistent or reservoir, not to \(kind)")
    }
    if request.localWindow != nil, kind != "persistent" {
      throw UsageError("--local-window belongs to --memory persistent, not to \(kind)")
    }
    if let sink = request.sink, !(0...1 << 24).contains(sink) {
      throw UsageError(
        sink < 0
          ? "--sink \(sink) must not be negative; the least is 0" : "--sink \(sink) is more than \(1 << 24) frames")
    }
    switch kind {
    case "all": return .all
    case "window": return .window(frames: window, sink: request.sink ?? defaults.sinkFrames)
    case "persistent":
      let blocks = name == "longtake" ? LongTake().blocks : SparseForcing().blocks
      let capacity = request.memoryCapacity ?? blocks.capacityFrames
      return .persistent(
        capacity: capacity, window: request.localWindow ?? blocks.localWindow,
        sink: request.sink ?? min(max(0, capacity), defaults.chunkFrames))
    case "reservoir":
      guard case .anchors(let anchors) = select else {
        throw UsageError("--memory reservoir keeps old frames for rotating anchors; it needs --select anchors")
      }
      return .reservoir(
        capacity: request.memoryCapacity ?? 48, sink: max(anchors.first, request.sink ?? 0), recent: anchors.recent)
    default: throw UsageError("--memory \(kind) is not known; there are all, window, persistent, reservoir")
    }
  }

  private static func density(_ request: RunRequest, _ name: String, select: Select) throws -> Density {
    let choosing =
      switch select {
      case .topk, .hierarchical: true
      case .all, .anchors: false
      }
    if let density = request.density {
      guard density > 0, density <= 1 else {
        throw UsageError(
          "--density \(density) is not in (0, 1]; " + (density > 1 ? "1 reads everything" : "0.25 is usual, 1 the most")
        )
      }
      guard choosing || density == 1 else {
        throw UsageError("--density \(density) needs a selection that can choose: --select topk or hierarchical")
      }
      guard request.growth == .init() else {
        throw UsageError("give --density or --cag-target and --cag-base, not both")
      }
      return density == 1 ? .full : .constant(density)
    }
    let grows = choosing && (["light-forcing", "longtake"].contains(name) || request.growth != .init())
    guard grows else {
      if request.growth != .init() {
        throw UsageError("--cag-target and --cag-base need a selection that can choose: --select topk or hierarchical")
      }
      return choosing ? .constant(0.25) : .full
    }
    let published = name == "longtake" ? LongTake().growth : .short
    let target = request.growth.target ?? published.target
    let base = request.growth.base ?? (request.growth.target == nil ? published.base : target)
    for (flag, value) in [("--cag-target", target), ("--cag-base", base)] where !(value >= 0 && value < 1) {
      throw UsageError(
        "\(flag) \(value) is not in [0, 1), the share of pages that is not read; "
          + (value >= 1 ? "the published ones are 0.88 and 0.98" : "0 reads everything"))
    }
    guard base >= target else {
      throw UsageError(
        "--cag-base \(base) is below --cag-target \(target): sparsity could not grow towards it; the least is \(target)"
      )
    }
    return .growth(target: target, base: base)
  }

  private static func positions(
    _ request: RunRequest, _ defaults: ModelSettings, _ memory: Memory, frames: Int, notes: inout [String]
  ) throws -> PositionMode {
    if let asked = request.positions ?? defaults.positions {
      guard let mode = PositionMode(rawValue: asked) else {
        throw UsageError("--rope \(asked) is not known; there are absolute, window")
      }
      return mode
    }
    let outlives = frames > defaults.windowFrames
    switch memory {
    case .window(_, let sink) where outlives && sink > 0:
      notes.append("positions are ranks in the window, since the run outlives the trained window beside a sink")
      return .window
    case .persistent where outlives, .reservoir where outlives:
      notes.append("positions are ranks in memory, since the run outlives the trained window beside old pages")
      return .window
    default: return .absolute
    }
  }

  private func checkClip(_ request: RunRequest, frames: Int) throws {
    switch select {
    case .all, .anchors: break
    case .topk, .hierarchical:
      let chosen = request.select.map { "--select \($0)" } ?? name
      throw UsageError("--mode clip reads with --sparsity dense or lvsa; \(chosen) needs --mode chunks")
    }
    guard memory == .all || request.memory == nil else {
      throw UsageError("--mode clip has one chunk, which sees every frame; leave out --memory")
    }
    if case .frames(let window) = request.window, window < frames {
      throw UsageError("--mode clip has one chunk, which sees every frame; leave out --window")
    }
    if request.positions == PositionMode.window.rawValue {
      throw UsageError("--rope window needs --mode chunks; a whole clip has frame numbers")
    }
  }

  private func checkChunks(chunkFrames: Int) throws {
    switch memory {
    case .persistent(let capacity, let window, let sink):
      guard capacity >= chunkFrames else {
        throw UsageError(
          "--memory-capacity \(capacity) is less than a chunk of \(chunkFrames) frames; the least is \(chunkFrames)")
      }
      guard window >= chunkFrames else {
        throw UsageError(
          "--local-window \(window) cannot hold a chunk of \(chunkFrames); the least is \(chunkFrames)")
      }
      guard sink <= capacity else {
        throw UsageError(
          "--sink \(sink) is more than the \(capacity) frames of --memory-capacity; 0 to \(capacity) are possible")
      }
    case .reservoir(let capacity, _, _):
      guard capacity >= max(2, chunkFrames) else {
        throw UsageError(
          "--memory-capacity \(capacity) is less than a chunk of \(chunkFrames) frames; the least is "
            + "\(max(2, chunkFrames))")
      }
    case .all, .window: break
    }
  }
}
