import Compute

/// The shape of a page in latent frames, rows and columns of tokens.
public struct PageTile: Sendable, Equatable, Codable, CustomStringConvertible {
  public var frames: Int
  public var rows: Int
  public var columns: Int

  public init(frames: Int = 1, rows: Int, columns: Int) {
    self.frames = frames
    self.rows = rows
    self.columns = columns
  }

  /// Tokens of a full page.
  public var tokens: Int { frames * rows * columns }
  public var description: String { frames == 1 ? "\(rows)x\(columns)" : "\(frames)x\(rows)x\(columns)" }
}

/// How the tokens of a chunk are cut into pages, and in which order they then lie.
///
/// Pages never cross a chunk's border. A tile divides the token grid of a frame; in time the last tile of a chunk may be
/// cut short. The order "page after page, inside a page frame, row, column" is applied once when latents become tokens
/// and undone when they become latents again; nothing between depends on it.
public struct PageGeometry: Sendable, Equatable {
  /// Tokens of one latent frame.
  public let rows: Int
  public let columns: Int
  public let tile: PageTile

  /// - Throws: ``SparsityError/tile(_:_:)`` when the tile does not divide the grid or holds more than 64 tokens.
  public init(rows: Int, columns: Int, tile: PageTile? = nil) throws(SparsityError) {
    self.rows = rows
    self.columns = columns
    let t = tile ?? PageGeometry.defaultTile(rows: rows, columns: columns)
    self.tile = t
    guard t.frames >= 1, t.rows >= 1, t.columns >= 1, rows % t.rows == 0, columns % t.columns == 0 else {
      throw .tile(
        "a tile of \(t) does not divide the \(rows)x\(columns) tokens of a frame",
        "\(PageGeometry.nearest(t, rows, columns))")
    }
    guard t.tokens <= 64 else {
      let fitting =
        t.frames == 1
        ? PageGeometry.defaultTile(rows: rows, columns: columns) : PageGeometry.nearest(t, rows, columns)
      throw .tile("a tile of \(t) holds \(t.tokens) tokens, more than 64", "\(fitting)")
    }
  }

  /// The tile of as many frames (or, if those alone are too many, of one) that fits the grid and differs least in rows and
  /// columns; the larger of equals.
  private static func nearest(_ tile: PageTile, _ rows: Int, _ columns: Int) -> PageTile {
    let frames = (1...64).contains(tile.frames) ? tile.frames : 1
    func distance(_ t: PageTile) -> Int { abs(t.rows - tile.rows) + abs(t.columns - tile.columns) }
    var best = PageTile(frames: frames, rows: 1, columns: 1)
    for r in 1...min(rows, 64) where rows % r == 0 {
      for c in 1...min(columns, 64) where columns % c == 0 && frames * r * c <= 64 {
        let other = PageTile(frames: frames, rows: r, columns: c)
        let (a, b) = (distance(other), distance(best))
        if a < b || (a == b && other.tokens > best.tokens) { best = other }
      }
    }
    return best
  }

  /// The largest tile of at most 64 tokens that divides the grid, the squarest of equals (15 x 4 of 30 x 52).
  public static func defaultTile(rows: Int, columns: Int) -> PageTile {
    var best = PageTile(rows: 1, columns: 1)
    for r in 1...min(rows, 64) where rows % r == 0 {
      for c in 1...min(columns, 64) where columns % c == 0 && r * c <= 64 {
        let squarer = r * c == best.tokens && abs(r - c) < abs(best.rows - best.columns)
        if r * c > best.tokens || squarer { best = PageTile(rows: r, columns: c) }
      }
    }
    return best
  }

  public var tokensPerFrame: Int { rows * columns }
  /// Pages side by side in one frame (or one group of `tile.frames` frames).
  public var tilesPerFrame: Int { tokensPerFrame / (tile.rows * tile.columns) }

  /// Pages of a chunk of `frames` latent frames.
  public func pages(frames: Int) -> Int { (frames + tile.frames - 1) / tile.frames * tilesPerFrame }

  /// The tokens of a chunk in page order.
  public func tokens(frames: Int) -> [TokenPosition] {
    var order = [TokenPosition]()
    order.reserveCapacity(frames * tokensPerFrame)
    for first in stride(from: 0, to: frames, by: tile.frames) {
      for top in stride(from: 0, to: rows, by: tile.rows) {
        for left in stride(from: 0, to: columns, by: tile.columns) {
          for f in first..<min(frames, first + tile.frames) {
            for y in top..<top + tile.rows {
              for x in left..<left + tile.columns { order.append(TokenPosition(frame: f, row: y, column: x)) }
            }
          }
        }
      }
    }
    return order
  }

  /// Which of a chunk's tokens, in page order, make which page.
  public func tiles(frames: Int) -> RowTiles {
    var offsets = [0]
    for first in stride(from: 0, to: frames, by: tile.frames) {
      let tokens = min(tile.frames, frames - first) * tile.rows * tile.columns
      for _ in 0..<tilesPerFrame { offsets.append(offsets[offsets.count - 1] + tokens) }
    }
    return RowTiles(offsets: offsets)
  }

  /// The pages of a chunk that begins at latent frame `first`, in order.
  public func pageIDs(firstFrame first: Int, frames: Int) -> [PageID] {
    stride(from: 0, to: frames, by: tile.frames).flatMap { f in
      (0..<tilesPerFrame).map { PageID(frame: first + f, tile: $0) }
    }
  }
}

/// Where a token stands in its chunk.
public struct TokenPosition: Sendable, Equatable {
  public var frame: Int
  public var row: Int
  public var column: Int

  public init(frame: Int, row: Int, column: Int) {
    self.frame = frame
    self.row = row
    self.column = column
  }
}

/// A page's name for its whole life: its first latent frame, counted from the start of the video, and its tile there.
public struct PageID: Sendable, Hashable, Codable {
  public var frame: Int
  public var tile: Int
  public init(frame: Int, tile: Int) {
    self.frame = frame
    self.tile = tile
  }
}
