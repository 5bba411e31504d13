import SparseAttention

/// Which frames and how many pages each chunk keeps and reads, followed chunk by chunk from a recipe alone.
struct PageLedger {
  struct Entry {
    let index: Int
    /// Latent frames; of the last chunk those that the video keeps.
    let firstFrame: Int
    let frames: Int
    /// Frames (or frames' worth of pages) that the chunk may read, its own included.
    let visibleFrames: Int
    /// The schedule's share of the pages kept; for fixed lists the mean over steps of frames read / frames visible.
    let density: Double
    let pagesKept: Int
    /// Pages that one query tile reads, the most of any step.
    let pagesRead: Int
    /// Pages that one query tile reads, the mean over steps.
    let meanPagesRead: Double
    /// Which frames are visible, where that does not depend on content.
    fileprivate let known: [Int]?
  }

  let entries: [Entry]
  /// The stride of rotating anchors: the pattern's, or the largest of any chunk.
  let stride: Int?
  private let selector: any PageSelector

  /// Takes time in proportion to the chunks where the recipe bounds its memory or reads all of it.
  ///
  /// - Parameters:
  ///   - total: Latent frames of the video.
  ///   - detail: Whether ``reads(of:step:chunkFrames:)`` will be asked.
  init(
    _ recipe: SparsityRecipe, geometry: PageGeometry, chunks: Int, chunkFrames: Int, total: Int, steps: Int,
    detail: Bool
  ) {
    let selector = recipe.select
    let (across, span) = (geometry.tilesPerFrame, geometry.tile.frames)
    let readsFrames = selector is any FrameSelector && !(selector is AllPages)
    // Selectors that only count pages are told of all earlier ones at once; a memory that keeps everything need not be asked.
    let countsPages = selector is AllPages || selector is PooledTopK
    let keepsAll = recipe.memory is KeepAll
    // One page stands for all that lie side by side: no policy treats them differently in number.
    var resident: [PageID] = []
    let densities = recipe.density.densities(total: chunks)
    var entries: [Entry] = []
    var stride = (selector as? RotatingAnchors)?.pattern.stride
    for index in 0..<chunks {
      let first = index * chunkFrames
      let kept = min(chunkFrames, total - first)
      let persistent =
        keepsAll ? 0 : resident.count { recipe.memory.isPersistent($0, chunkAt: first, frames: chunkFrames) }
      let local = resident.count - persistent
      let census = PageCensus(
        persistent: persistent * across,
        past: countsPages ? [local * across] : Array(repeating: across, count: local),
        current: geometry.pages(frames: kept))
      // All frames before this chunk, or those of the pages that are left of them.
      let visible = kept + (keepsAll ? first : resident.reduce(0) { $0 + min(first, $1.frame + span) - $1.frame })
      let frames =
        readsFrames || detail
        ? resident.flatMap { $0.frame..<min(first, $0.frame + span) } + Array(first..<first + kept) : []
      let pages = census.persistent + census.local
      var density = densities[index]
      let budget = PageBudget(
        density: density, rounding: recipe.density.rounding, counted: recipe.density.counted)
      var read = selector.pagesRead(of: census, budget: budget)
      var mean = Double(read)
      if readsFrames, let selector = selector as? any FrameSelector {
        let counts = (0..<steps).map { step in
          PageLedger.reads(selector, of: first, among: frames, chunk: index, step: step, first, chunkFrames).count
        }
        let frameMean = Double(counts.reduce(0, +)) / Double(steps)
        (density, read, mean) = (
          frameMean / Double(frames.count), (counts.max() ?? 0) * across, frameMean * Double(across)
        )
        if let anchors = selector as? CausalAnchors {
          stride = max(stride ?? 1, anchors.stride(pastFrames: resident.count, chunkFrames: chunkFrames))
        }
      }
      entries.append(
        Entry(
          index: index, firstFrame: first, frames: kept, visibleFrames: visible, density: density,
          pagesKept: pages, pagesRead: read, meanPagesRead: mean,
          known: detail && recipe.memory.mass == .none && selector is any FrameSelector ? frames : nil))
      resident += Swift.stride(from: first, to: first + chunkFrames, by: span).map { PageID(frame: $0, tile: 0) }
      if keepsAll { continue }
      let leaving = recipe.memory.evictions(from: resident, sealedFrames: first + chunkFrames, next: chunkFrames)
      if !leaving.isEmpty { resident.removeAll { leaving.contains($0) } }
    }
    self.entries = entries
    self.stride = stride
    self.selector = selector
  }

  /// The frames that latent frame `query` reads at `step`; nil where that depends on content.
  func reads(of query: Int, step: Int, chunkFrames: Int) -> [Int]? {
    let entry = entries[query / chunkFrames]
    guard let frames = entry.known else { return nil }
    return PageLedger.reads(
      selector, of: query, among: frames, chunk: entry.index, step: step, entry.firstFrame, chunkFrames)
  }

  /// A last chunk is computed whole, so that its list is that of a whole chunk; what the video does not keep is not shown.
  private static func reads(
    _ selector: any PageSelector, of query: Int, among frames: [Int], chunk: Int, step: Int, _ first: Int,
    _ chunkFrames: Int
  ) -> [Int] {
    guard let selector = selector as? any FrameSelector else { return frames }
    let end = (frames.last ?? first) + 1
    let whole = frames + Array(end..<max(end, first + chunkFrames))
    let context = StepContext(chunk: chunk, step: step, layer: 0, firstFrame: first, frames: chunkFrames)
    return selector.frames(readBy: query, among: whole, at: context).filter { $0 < end }
  }
}
