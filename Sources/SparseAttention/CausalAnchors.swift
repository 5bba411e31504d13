import Compute

/// LVSA chunk by chunk: sink frames, anchors that rotate over the middle of the past, the recent frames and the chunk
/// itself, a constant number of frames in all. All frames of a chunk read the same list.
///
/// With F frames of the past, chunks of c frames, s sinks, r recent frames and a budget C there is room for
/// `a = C - s - r - c` anchors. While at most s + a + r past frames are in memory, all are read. Then, over the m middle
/// frames `[s, F - r)`, the stride is `k = ceil(m / a)` and the anchors are those with `f mod k = o`, a grid on the frame's
/// own number, so that membership does not slide as F grows; where that gives fewer than a, the recent frames are extended
/// to the left until the total is C. (A proposal of this project's specification of LVSA; the published method knows no
/// causal form. Rotation without retraining has not been validated on a published causal model.)
///
/// Where an ``AnchorReservoir`` has thinned the middle to multiples of 2^j, the grid is laid over `f / 2^j`.
public struct CausalAnchors: FrameSelector {
  /// How u becomes an offset in 0..<k.
  public enum Order: Sendable {
    /// u mod k, as LVSA does.
    case rising
    /// Neighbouring u are far apart: the offsets 0..<k in the order of frac(0.618 u).
    case spread
  }

  /// Frames read once there are enough, C.
  public var budget: Int
  /// Leading frames that are always read.
  public var sink: Int
  /// Frames just before the chunk that are always read.
  public var recent: Int
  /// Stride to use instead of the smallest that keeps the budget; nil to choose.
  public var stride: Int?
  /// Denoising steps of a chunk.
  public var steps: Int
  public var rotation: AnchorRotation
  public var order: Order

  /// - Throws: ``SparsityError/capacity(_:)`` when the budget leaves no room for an anchor.
  public init(
    budget: Int, sink: Int = 1, recent: Int = 7, chunkFrames: Int, stride: Int? = nil, steps: Int,
    rotation: AnchorRotation = .both, order: Order = .rising
  ) throws(SparsityError) {
    guard sink >= 0, recent >= 0, steps >= 1, stride ?? 1 >= 1 else {
      throw .recipe("rotating anchors need sink, recent frames and stride that are not negative")
    }
    let least = sink + recent + chunkFrames + 1
    guard budget >= least else {
      throw .capacity(
        "a budget of \(budget) frames leaves no anchor beside \(sink) leading, \(recent) recent and \(chunkFrames) own "
          + "frames; the least is \(least)")
    }
    self.budget = budget
    self.sink = sink
    self.recent = recent
    self.stride = stride
    self.steps = steps
    self.rotation = rotation
    self.order = order
  }

  public var summary: String {
    "\(budget) frames: \(sink) leading, \(recent) recent, and anchors that \(rotation.summary)"
  }

  /// So that the chunk and the frames before it always stand at the same positions and no distance exceeds the budget.
  public var ranksWhatIsRead: Bool { true }

  public var renewal: PlanRenewal { rotation.renewal }

  /// The offset of phase u on a grid of stride k.
  func offset(_ u: Int, stride k: Int) -> Int {
    switch order {
    case .rising: u % k
    case .spread:
      (0..<k).sorted { a, b in Self.fraction(a) < Self.fraction(b) }[u % k]
    }
  }
  private static func fraction(_ u: Int) -> Double {
    let x = Double(u) * 0.6180339887498949
    return x - x.rounded(.down)
  }

  /// The stride in force for `past` frames in memory, leading ones included, and a chunk of `frames`; 1 when everything is
  /// read.
  public func stride(pastFrames past: Int, chunkFrames frames: Int) -> Int {
    let room = max(1, budget - sink - recent - frames)
    let middle = past - sink - recent
    if middle <= room { return 1 }
    return stride ?? (middle + room - 1) / room
  }

  public func frames(readBy query: Int, among frames: [Int], at context: StepContext) -> [Int] {
    list(among: frames, at: context)
  }

  /// The frames that every frame of the chunk reads, ascending.
  func list(among frames: [Int], at context: StepContext) -> [Int] {
    let past = frames.filter { $0 < context.firstFrame }
    let own = frames.filter { $0 >= context.firstFrame }
    let k = stride(pastFrames: past.count, chunkFrames: context.frames)
    if k == 1 { return frames }
    let sinks = past.filter { $0 < sink }
    var middle = Array(past.filter { $0 >= sink }.dropLast(recent))
    var latest = Array(past.suffix(recent))
    let spacing = Self.spacing(middle)
    let chosen = offset(rotation.phase(at: context, steps: steps), stride: k)
    var anchors = Set(middle.filter { $0 / spacing % k == chosen })
    while sinks.count + anchors.count + latest.count + context.frames < budget, let last = middle.popLast() {
      anchors.remove(last)
      latest.insert(last, at: 0)
    }
    return sinks + anchors.sorted() + latest + own
  }

  /// As ``frames(readBy:among:at:)`` without a list: the time does not grow with the memory.
  public func framesRead(by query: Int, amongFirst count: Int, at context: StepContext) -> Int {
    let past = min(count, context.firstFrame)
    let k = stride(pastFrames: past, chunkFrames: context.frames)
    if k == 1 { return count }
    // With a stride there are two middle frames or more, and they are neighbours: the spacing is 1.
    let middle = sink..<past - recent
    let chosen = offset(rotation.phase(at: context, steps: steps), stride: k)
    func multiples(below end: Int) -> Int { (end - chosen + k - 1) / k }
    var anchors = multiples(below: middle.upperBound) - multiples(below: middle.lowerBound)
    var (latest, next) = (recent, middle.upperBound - 1)
    while sink + anchors + latest + context.frames < budget, next >= middle.lowerBound {
      if next % k == chosen { anchors -= 1 }
      latest += 1
      next -= 1
    }
    return sink + anchors + latest + count - past
  }

  /// The power of two that all middle frames are multiples of: 1, or what a reservoir has thinned them to.
  private static func spacing(_ middle: [Int]) -> Int {
    let bits = middle.reduce(0, |)
    return bits == 0 ? 1 : bits & -bits
  }

  public func pagesRead(of census: PageCensus, budget pages: PageBudget) -> Int {
    let across = census.past.max() ?? 0
    let own = across == 0 ? 0 : census.current / across
    let k = stride(pastFrames: census.past.count, chunkFrames: own)
    if k == 1 { return census.persistent + census.local }
    let middle = census.past.count - sink - recent
    return min(census.past.count + own, max(budget, sink + (middle + k - 1) / k + recent + own)) * across
  }

  public func plan(
    _ queries: DeviceTensor, over view: LayerView, budget: PageBudget, at context: StepContext, on backend: any Backend
  ) -> PageLists {
    let rows = view.pages.map { pages in
      let read = Set(list(among: Set(pages.map(\.id.frame)).sorted(), at: context))
      return pages.filter { read.contains($0.id.frame) }.map(\.slot)
    }
    return PageLists(shared: PageLists.upload(rows, shape: [view.heads], on: backend))
  }

  public func check(geometry: PageGeometry) throws(SparsityError) { try geometry.checkFramesApart() }
}
