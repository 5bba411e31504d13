/// Persistent blocks (Sparse Forcing, arXiv 2604.21221, section 3: memory M_t = P_t + L_t).
///
/// Beside the local window L_t, the most recent `localWindow` frames with the chunk being made, a head keeps the pages
/// P_t that have been worth most: when a chunk is sealed, the pages E_t that leave the window compete with those kept,
///
///     A   = softmax_rows(q_i . k_j / sqrt(d))         over tile means q_i of the chunk and mean keys k_j in memory
///     s_j = sum_i A_ij                                 the pooled attention mass of page j
///     P_t = TopC(P_{t-1} + E_t ; s)                    capacity C; equal masses: the older page stays
///
/// with the queries of the clean pass; who loses is gone for good. Masses are not accumulated: every chunk judges anew.
/// The first `sink` frames never lose and count towards C. Pages are kept as they are, all of their tokens.
///
/// Sets per layer and head are this project's reading; the paper does not say, nor how large its sink is.
public struct PersistentBlocks: MemoryPolicy, Equatable {
  /// C, in frames' worth of pages: 6 as published.
  public var capacityFrames: Int
  /// W, latent frames, the chunk being denoised included: 6 as published.
  public var localWindow: Int
  /// Leading frames that never leave, within the capacity: 3, the first chunk.
  public var sink: Int
  /// Whether the heads of a layer keep the same pages, by the sum of their masses.
  public var shareHeads: Bool
  /// Where masses come from; ``MassSource/pooled`` is the paper's.
  public var mass: MassSource

  public init(
    capacityFrames: Int = 6, localWindow: Int = 6, sink: Int = 3, shareHeads: Bool = false, mass: MassSource = .pooled
  ) {
    self.capacityFrames = capacityFrames
    self.localWindow = localWindow
    self.sink = sink
    self.shareHeads = shareHeads
    self.mass = mass
  }

  public var sharesHeads: Bool { shareHeads }
  public var sinkFrames: Int { sink }
  public func recentFrames(next: Int) -> Int { max(0, localWindow - next) }

  public var summary: String {
    "\(capacityFrames) frames of persistent pages beside a window of \(localWindow)"
      + (sink > 0 ? ", sink \(sink)" : "")
  }

  public func capacity(chunkFrames: Int, total: Int?) throws(SparsityError) -> Int {
    guard localWindow >= chunkFrames else {
      throw .capacity(
        "a local window of \(localWindow) frames cannot hold a chunk of \(chunkFrames); the least is \(chunkFrames)")
    }
    guard capacityFrames >= chunkFrames else {
      throw .capacity(
        "a capacity of \(capacityFrames) frames cannot take a chunk of \(chunkFrames); the least is \(chunkFrames)"
          + ", or choose --memory window to keep none")
    }
    guard sink >= 0, sink <= capacityFrames else {
      throw .capacity(
        "a sink of \(sink) frames does not fit a capacity of \(capacityFrames); 0 to \(capacityFrames) are possible")
    }
    guard mass != .none else { throw .recipe("persistent blocks need masses; choose pooled or attended") }
    return min(capacityFrames + localWindow, total ?? .max)
  }

  public func isPersistent(_ page: PageID, chunkAt first: Int, frames: Int) -> Bool {
    page.frame < first + frames - localWindow
  }

  public func evictions(from resident: [PageID], mass: [Float]?, after chunk: SealedChunk) -> Set<PageID> {
    let candidates = resident.indices.filter {
      isPersistent(resident[$0], chunkAt: chunk.sealedFrames, frames: chunk.nextFrames)
    }
    func score(_ i: Int) -> Float {
      if resident[i].frame < sink { return .infinity }
      let value = mass?[i] ?? 0
      return value.isNaN ? -.infinity : value
    }
    let best = candidates.sorted { score($0) != score($1) ? score($0) > score($1) : $0 < $1 }
    return Set(best.dropFirst(chunk.pages(frames: capacityFrames)).map { resident[$0] })
  }
}
