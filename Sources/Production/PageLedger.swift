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

  /// - Parameters:
  ///   - total: Latent frames of the video, or of the part of it that is followed.
  ///   - isEndless: Whether the video has no end.
  init(
    _ recipe: SparsityRecipe, geometry: PageGeometry, chunks: Int, chunkFrames: Int, total: Int, steps: Int,
    isEndless: Bool = false
  ) {
    let selector = recipe.select
    let (across, span) = (geometry.tilesPerFrame, geometry.tile.frames)
    let planned = isEndless ? nil : chunks
    // One page stands for all that lie side by side: no policy treats them differently in number.
    var resident: [PageID] = []
    var entries: [Entry] = []
    var stride = (selector as? RotatingAnchors)?.pattern.stride
    for index in 0..<chunks {
      let first = index * chunkFrames
      let kept = min(chunkFrames, total - first)
      let persistent = resident.count { recipe.memory.isPersistent($0, chunkAt: first, frames: chunkFrames) }
      let census = PageCensus(
        persistent: persistent * across, past: Array(repeating: across, count: resident.count - persistent),
        current: geometry.pages(frames: kept))
      let frames = resident.flatMap { $0.frame..<min(first, $0.frame + span) } + Array(first..<first + kept)
      let pages = census.persistent + census.local
      var density = recipe.density.density(chunk: index, of: planned)
      var read = selector.pagesRead(of: census, budget: recipe.density.budget(chunk: index, of: planned))
      var mean = Double(read)
      if let selector = selector as? any FrameSelector, !(selector is AllPages) {
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
          index: index, firstFrame: first, frames: kept, visibleFrames: frames.count, density: density,
          pagesKept: pages, pagesRead: read, meanPagesRead: mean,
          known: recipe.memory.mass == .none && selector is any FrameSelector ? frames : nil))
      resident += Swift.stride(from: first, to: first + chunkFrames, by: span).map { PageID(frame: $0, tile: 0) }
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
