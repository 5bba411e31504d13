import Rollout
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
    /// Its scene's first frame, from which `known` counts, and its number in its scene.
    fileprivate let origin: Int
    fileprivate let sceneChunk: Int
  }

  let entries: [Entry]
  /// The stride of rotating anchors: the pattern's, or the largest of any chunk.
  let stride: Int?
  private let selector: any PageSelector
  private let layout: ChunkLayout

  /// Takes time in proportion to the chunks where the recipe bounds its memory, reads all of it, or reads anchors.
  ///
  /// - Parameters:
  ///   - layout: Of the video, or of the part of it that is followed.
  ///   - schedule: Whose cuts and flushes empty the memory.
  ///   - isEndless: Whether the video has no end.
  ///   - detail: Whether ``reads(of:step:)`` will be asked.
  init(
    _ recipe: SparsityRecipe, geometry: PageGeometry, layout: ChunkLayout, schedule: PromptSchedule = .single,
    steps: Int, isEndless: Bool = false, detail: Bool
  ) {
    let (chunks, total) = (layout.count ?? 0, layout.latentFrames ?? 0)
    let selector = recipe.select
    let (across, span) = (geometry.tilesPerFrame, geometry.tile.frames)
    let planned = isEndless ? nil : chunks
    let readsFrames = selector is any FrameSelector && !(selector is AllPages)
    // Selectors that only count pages are told of all earlier ones at once; a memory that keeps everything need not be asked.
    let countsPages = selector is AllPages || selector is PooledTopK
    let keepsAll = recipe.memory is KeepAll
    // One page stands for all that lie side by side: no policy treats them differently in number.
    var resident: [PageID] = []
    var entries: [Entry] = []
    var stride = (selector as? RotatingAnchors)?.pattern.stride
    // A scene after a hard cut counts frames and chunks from 0.
    var (origin, scene, sceneChunks, isFlushed) = (0, 0, schedule.sceneEnd(of: 0) ?? planned, false)
    var densities = sceneChunks.map { recipe.density.densities(total: $0) }
    for chunk in 0..<chunks {
      if let turn = schedule.change(at: chunk) {
        if turn.isCut {
          (origin, scene, resident, isFlushed) = (layout.start(of: chunk), chunk, [], false)
          sceneChunks = (schedule.sceneEnd(of: chunk) ?? planned).map { $0 - chunk }
          densities = sceneChunks.map { recipe.density.densities(total: $0) }
        } else if turn.kind == .flush {
          let end = layout.start(of: chunk) - origin - Rollout.flushedFrames
          resident.removeAll { $0.frame >= recipe.memory.sinkFrames && $0.frame + span <= end }
          isFlushed = true
        }
      }
      let range = layout.range(of: chunk)
      let (index, first, chunkFrames) = (chunk - scene, range.lowerBound - origin, range.count)
      let kept = min(chunkFrames, total - range.lowerBound)
      // All frames before this chunk are in memory: they need not be listed to be counted.
      let isWhole = keepsAll && !isFlushed
      let persistent =
        keepsAll ? 0 : resident.count { recipe.memory.isPersistent($0, chunkAt: first, frames: chunkFrames) }
      // All frames before this chunk, or those of the pages that are left of them.
      let visible =
        kept + (isWhole ? first : resident.reduce(0) { $0 + min(first, $1.frame + span) - $1.frame })
      let frames =
        detail || readsFrames && !isWhole
        ? resident.flatMap { $0.frame..<min(first, $0.frame + span) } + Array(first..<first + kept) : []
      let pages = resident.count * across + geometry.pages(frames: kept)
      var density = densities?[index] ?? recipe.density.density(chunk: index, of: nil)
      let read: Int
      let mean: Double
      if readsFrames, let selector = selector as? any FrameSelector {
        let counts = (0..<steps).map { step in
          let context = StepContext(
            chunk: index, step: step, layer: 0, firstFrame: first, frames: chunkFrames)
          // A last chunk is computed whole and reads all of itself; what the video does not keep is not counted.
          return isWhole
            ? selector.framesRead(by: first, amongFirst: first + chunkFrames, at: context) - (chunkFrames - kept)
            : PageLedger.reads(selector, of: first, among: frames, at: context).count
        }
        let frameMean = Double(counts.reduce(0, +)) / Double(steps)
        density = frameMean / Double(visible)
        (read, mean) = ((counts.max() ?? 0) * across, frameMean * Double(across))
        if let anchors = selector as? CausalAnchors {
          stride = max(stride ?? 1, anchors.stride(pastFrames: resident.count, chunkFrames: chunkFrames))
        }
      } else {
        let local = resident.count - persistent
        let census = PageCensus(
          persistent: persistent * across,
          past: countsPages ? [local * across] : Array(repeating: across, count: local),
          current: geometry.pages(frames: kept))
        read = selector.pagesRead(
          of: census,
          budget: PageBudget(density: density, rounding: recipe.density.rounding, counted: recipe.density.counted))
        mean = Double(read)
      }
      entries.append(
        Entry(
          index: chunk, firstFrame: range.lowerBound, frames: kept, visibleFrames: visible, density: density,
          pagesKept: pages, pagesRead: read, meanPagesRead: mean,
          known: detail && recipe.memory.mass == .none && selector is any FrameSelector ? frames : nil, origin: origin,
          sceneChunk: index))
      resident += Swift.stride(from: first, to: first + chunkFrames, by: span).map { PageID(frame: $0, tile: 0) }
      if keepsAll { continue }
      let leaving = recipe.memory.evictions(
        from: resident, sealedFrames: first + chunkFrames, next: layout.frames, framesPerPage: span)
      if !leaving.isEmpty { resident.removeAll { leaving.contains($0) } }
    }
    self.entries = entries
    self.stride = stride
    self.selector = selector
    self.layout = layout
  }

  /// The frames that latent frame `query` reads at `step`; nil where that depends on content.
  func reads(of query: Int, step: Int) -> [Int]? {
    let chunk = layout.chunk(of: query)
    let entry = entries[chunk]
    guard let frames = entry.known else { return nil }
    return PageLedger.reads(
      selector, of: query - entry.origin, among: frames,
      at: StepContext(
        chunk: entry.sceneChunk, step: step, layer: 0, firstFrame: entry.firstFrame - entry.origin,
        frames: layout.range(of: chunk).count)
    ).map { $0 + entry.origin }
  }

  /// A last chunk is computed whole, so that its list is that of a whole chunk; what the video does not keep is not shown.
  private static func reads(
    _ selector: any PageSelector, of query: Int, among frames: [Int], at context: StepContext
  ) -> [Int] {
    guard let selector = selector as? any FrameSelector else { return frames }
    let end = (frames.last ?? context.firstFrame) + 1
    let whole = frames + Array(end..<max(end, context.firstFrame + context.frames))
    return selector.frames(readBy: query, among: whole, at: context).filter { $0 < end }
  }
}
