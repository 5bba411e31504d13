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

  /// - Parameters:
  ///   - layout: Of the video, or of the part of it that is followed.
  ///   - schedule: Whose cuts and flushes empty the memory.
  ///   - isEndless: Whether the video has no end.
  init(
    _ recipe: SparsityRecipe, geometry: PageGeometry, layout: ChunkLayout, schedule: PromptSchedule = .single,
    steps: Int, isEndless: Bool = false
  ) {
    let (chunks, total) = (layout.count ?? 0, layout.latentFrames ?? 0)
    let selector = recipe.select
    let (across, span) = (geometry.tilesPerFrame, geometry.tile.frames)
    let planned = isEndless ? nil : chunks
    // One page stands for all that lie side by side: no policy treats them differently in number.
    var resident: [PageID] = []
    var entries: [Entry] = []
    var stride = (selector as? RotatingAnchors)?.pattern.stride
    // A scene after a hard cut counts frames and chunks from 0.
    var (origin, scene, sceneChunks) = (0, 0, schedule.sceneEnd(of: 0) ?? planned)
    for chunk in 0..<chunks {
      if let turn = schedule.change(at: chunk) {
        if turn.isCut {
          (origin, scene, resident) = (layout.start(of: chunk), chunk, [])
          sceneChunks = (schedule.sceneEnd(of: chunk) ?? planned).map { $0 - chunk }
        } else if turn.kind == .flush {
          let end = layout.start(of: chunk) - origin - Rollout.flushedFrames
          resident.removeAll { $0.frame >= recipe.memory.sinkFrames && $0.frame + span <= end }
        }
      }
      let range = layout.range(of: chunk)
      let (index, first, chunkFrames) = (chunk - scene, range.lowerBound - origin, range.count)
      let kept = min(chunkFrames, total - range.lowerBound)
      let persistent = resident.count { recipe.memory.isPersistent($0, chunkAt: first, frames: chunkFrames) }
      let census = PageCensus(
        persistent: persistent * across, past: Array(repeating: across, count: resident.count - persistent),
        current: geometry.pages(frames: kept))
      let frames = resident.flatMap { $0.frame..<min(first, $0.frame + span) } + Array(first..<first + kept)
      let pages = census.persistent + census.local
      var density = recipe.density.density(chunk: index, of: sceneChunks)
      var read = selector.pagesRead(of: census, budget: recipe.density.budget(chunk: index, of: sceneChunks))
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
          index: chunk, firstFrame: range.lowerBound, frames: kept, visibleFrames: frames.count, density: density,
          pagesKept: pages, pagesRead: read, meanPagesRead: mean,
          known: recipe.memory.mass == .none && selector is any FrameSelector ? frames : nil, origin: origin,
          sceneChunk: index))
      resident += Swift.stride(from: first, to: first + chunkFrames, by: span).map { PageID(frame: $0, tile: 0) }
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
      selector, of: query - entry.origin, among: frames, chunk: entry.sceneChunk, step: step,
      entry.firstFrame - entry.origin, layout.range(of: chunk).count
    ).map { $0 + entry.origin }
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
