import Compute

/// LVSA over a whole clip: every frame reads the anchors and its window, and the anchor grid moves on by one frame with
/// each denoising step, `offset = step mod k`.
///
/// The same for every layer, head and guidance branch. Nothing depends on content: a plan is two fixed lists, the
/// anchors' pages for all tiles of a head and the window's pages for each tile.
public struct RotatingAnchors: FrameSelector {
  public let pattern: AnchorPattern

  public init(_ pattern: AnchorPattern) { self.pattern = pattern }

  public var summary: String {
    "anchors every \(pattern.stride) frames and a window of \(2 * pattern.halfWindow + 1)"
  }

  /// Dense needs no rotation.
  public var renewal: PlanRenewal { pattern.stride == 1 ? .perChunk : .perStep }

  public func frames(readBy query: Int, among frames: [Int], at context: StepContext) -> [Int] {
    pattern.attended(by: query, offset: context.step % pattern.stride)
  }

  public func pagesRead(of census: PageCensus, budget: PageBudget) -> Int {
    let most = (0..<pattern.stride).map { pattern.attended(by: 0, offset: $0).count }.max() ?? 0
    return most * (census.current / pattern.frames)
  }

  public func plan(
    _ queries: DeviceTensor, over view: LayerView, budget: PageBudget, at context: StepContext, on backend: any Backend
  ) -> PageLists {
    let reads = pattern.reads(offset: context.step % pattern.stride)
    var (shared, own): ([[Int32]], [[Int32]]) = ([], [])
    for pages in view.pages {
      precondition(
        pages.last?.id.frame == pattern.frames - 1,
        "an anchor pattern of \(pattern.frames) frames on a clip that ends with frame \(pages.last?.id.frame ?? -1)")
      let slots = Dictionary(grouping: pages) { $0.id.frame }.mapValues { $0.map(\.slot) }
      shared.append(reads.anchors.flatMap { slots[$0] ?? [] })
      // One query tile per page, frame after frame.
      for page in pages { own.append(reads.windows[page.id.frame].flatMap { slots[$0] ?? [] }) }
    }
    let longest = own.map(\.count).max() ?? 0
    return PageLists(
      shared: PageLists.upload(shared, shape: [view.heads], on: backend),
      perTile: longest == 0 ? nil : PageLists.upload(own, shape: [view.heads, own.count / view.heads], on: backend))
  }

  public func check(geometry: PageGeometry) throws(SparsityError) { try geometry.checkFramesApart() }
}

extension PageGeometry {
  /// - Throws: ``SparsityError/tile(_:_:)`` for pages that span frames.
  func checkFramesApart() throws(SparsityError) {
    if tile.frames == 1 { return }
    let flat = PageGeometry.defaultTile(rows: rows, columns: columns)
    throw .tile("anchors are whole frames, which needs pages inside one frame, not tiles of \(tile)", "\(flat)")
  }
}

extension PageLists {
  /// Rows of slots padded with -1 to the longest, of shape `shape + [longest]`.
  static func upload(_ rows: [[Int32]], shape: [Int], on backend: any Backend) -> DeviceIndices {
    let longest = rows.map(\.count).max() ?? 0
    let padded = rows.flatMap { $0 + Array(repeating: -1, count: longest - $0.count) }
    return backend.upload(indices: padded, shape: shape + [longest])
  }
}
