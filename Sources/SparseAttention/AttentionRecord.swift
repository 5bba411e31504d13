/// What is noted of a rollout's attention for people to look at: which chunks, layers, heads and passes.
public struct AttentionSelection: Sendable, Equatable {
  /// One pass of a chunk.
  public enum Pass: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// A denoising step, from 0.
    case step(Int)
    /// The pass that writes the keys and values that stay.
    case clean

    /// `3`, or `clean`.
    public var description: String {
      switch self {
      case .step(let step): "\(step)"
      case .clean: "clean"
      }
    }

    /// The pass of this description.
    public init?(_ text: String) {
      if text == "clean" {
        self = .clean
      } else if let step = Int(text), step >= 0 {
        self = .step(step)
      } else {
        return nil
      }
    }
  }

  /// Chunk numbers; `Int.max` ends a range without end.
  public var chunks: [ClosedRange<Int>]
  /// Transformer layers, ascending.
  public var layers: [Int]
  /// Ascending.
  public var heads: [Int]
  public var passes: [Pass]

  public init(chunks: [ClosedRange<Int>] = [0...Int.max], layers: [Int], heads: [Int], passes: [Pass]) {
    (self.chunks, self.layers, self.heads, self.passes) = (chunks, layers, heads, passes)
  }
}

/// Which pages one chunk found in memory, which of them its query tiles read, and what attention they got, for chosen
/// layers, heads and passes. Made by ``AttentionRecorder``; for inspection only.
public struct AttentionRecord: Sendable, Equatable {
  /// One pass of one head.
  public struct Reading: Sendable, Equatable {
    /// `[query tile][page]`: whether the tile reads the page; nil where the pass computes no attention (the last layer of
    /// a clean pass).
    public var reads: [[Bool]]?
    /// `[page]`: pooled attention mass, the softmax over mean queries and mean keys of all pages in memory, summed over the
    /// query tiles, whether a tile reads the page or not. Adds up to the number of query tiles.
    public var mass: [Float]

    public init(reads: [[Bool]]?, mass: [Float]) { (self.reads, self.mass) = (reads, mass) }

    /// `[page]`: the share of the query tiles that read it; nil where nothing is read.
    public var readShare: [Double]? {
      reads.map { reads in
        mass.indices.map { page in Double(reads.count { $0[page] }) / Double(max(1, reads.count)) }
      }
    }
  }

  /// What one layer's head had in memory.
  public struct Head: Sendable, Equatable {
    public var layer: Int
    public var head: Int
    /// Oldest first, those that persist in front, the chunk's own at the end.
    public var pages: [PageID]
    /// How many pages persist (``MemoryPolicy/isPersistent(_:chunkAt:frames:)``).
    public var persistent: Int
    public var passes: [AttentionSelection.Pass: Reading]

    public init(
      layer: Int, head: Int, pages: [PageID], persistent: Int, passes: [AttentionSelection.Pass: Reading]
    ) {
      (self.layer, self.head, self.pages, self.persistent) = (layer, head, pages, persistent)
      self.passes = passes
    }
  }

  /// Number of the chunk, its first latent frame, and how many it has.
  public var chunk: Int
  public var firstFrame: Int
  public var frames: Int
  public var geometry: PageGeometry
  /// The recipe's name.
  public var recipe: String
  /// By layer, then head.
  public var heads: [Head]

  public init(chunk: Int, firstFrame: Int, frames: Int, geometry: PageGeometry, recipe: String, heads: [Head]) {
    (self.chunk, self.firstFrame, self.frames) = (chunk, firstFrame, frames)
    (self.geometry, self.recipe, self.heads) = (geometry, recipe, heads)
  }

  /// Layers and heads that are in it, ascending.
  public var layerNumbers: [Int] { Set(heads.map(\.layer)).sorted() }
  public var headNumbers: [Int] { Set(heads.map(\.head)).sorted() }
  /// Passes that are in it, in the order in which they ran.
  public var passes: [AttentionSelection.Pass] { Set(heads.flatMap(\.passes.keys)).sorted() }

  /// The part of it that is wanted; nil for everything there is.
  public func part(layers: Set<Int>?, heads wanted: Set<Int>?, passes: Set<AttentionSelection.Pass>?) -> AttentionRecord
  {
    var part = self
    part.heads = heads.filter { layers?.contains($0.layer) ?? true && wanted?.contains($0.head) ?? true }.map { head in
      var head = head
      if let passes { head.passes = head.passes.filter { passes.contains($0.key) } }
      return head
    }
    return part
  }

  /// Latent frames that a page of this record spans.
  public func span(of page: PageID) -> Range<Int> {
    // Pages do not cross a chunk's border; all but the last chunk are as long as this one.
    let start = page.frame / frames * frames
    return page.frame..<min(page.frame + geometry.tile.frames, max(page.frame + 1, start + frames))
  }
}
