import Compute

/// One layer's memory while one chunk is made, as a selector sees it.
///
/// A head's pages stand oldest first: those that persist (``MemoryPolicy/isPersistent(_:chunkAt:frames:)``), which every
/// query reads, then the local ones, the current chunk's at the end. Index lists that do not change during the chunk are
/// uploaded once and kept here.
public final class LayerView {
  /// The layer in the pool.
  public let layer: Int
  public let pool: any PagePool
  /// Tiles of query rows, one page each.
  public let tiles: RowTiles
  /// `[head][page]`
  public let pages: [[ResidentPage]]
  /// What the host knows of each head's pages.
  public let census: [PageCensus]
  private let backend: any Backend
  private var lists: [String: DeviceIndices] = [:]

  package init(
    layer: Int, pool: any PagePool, tiles: RowTiles, pages: [[ResidentPage]], firstFrame: Int,
    isPersistent: (PageID) -> Bool, on backend: any Backend
  ) {
    self.layer = layer
    self.pool = pool
    self.tiles = tiles
    self.pages = pages
    self.backend = backend
    census = pages.map { PageCensus($0.map(\.id), chunkAt: firstFrame, isPersistent: isPersistent) }
  }

  public var heads: Int { pages.count }
  /// The most pages that a head has.
  public var pagesPerHead: Int { pages.map(\.count).max() ?? 0 }

  /// `[heads, n]`: the slots of all pages, in their order, padded with -1.
  public var all: DeviceIndices { fixed("all") { head in pages[head].map(\.slot) } }
  /// `[heads, n]`: the slots of the pages that persist.
  public var persistent: DeviceIndices {
    fixed("persistent") { head in pages[head].prefix(census[head].persistent).map(\.slot) }
  }
  /// `[heads, n]`: the slots of the pages among which a selector chooses.
  public var local: DeviceIndices {
    fixed("local") { head in pages[head].dropFirst(census[head].persistent).map(\.slot) }
  }

  /// `[heads, n]`: the slots of the pages among which a selector chooses under `budget`.
  public func choice(_ budget: PageBudget) -> DeviceIndices { budget.counted == .local ? local : all }
  /// `[heads, n]`: the slots of the pages that every query reads besides.
  public func unchosen(_ budget: PageBudget) -> DeviceIndices {
    budget.counted == .local ? persistent : fixed("none") { _ in [] }
  }

  /// `[heads, n]`: an index list that is the same for the whole chunk, one row per head, padded with -1 and uploaded when
  /// it is first asked for.
  public func fixed(_ name: String, _ row: (_ head: Int) -> [Int32]) -> DeviceIndices {
    if let list = lists[name] { return list }
    let rows = (0..<heads).map(row)
    let longest = rows.map(\.count).max() ?? 0
    let padded = rows.flatMap { $0 + Array(repeating: -1, count: longest - $0.count) }
    let list = backend.upload(indices: padded, shape: [heads, longest])
    lists[name] = list
    return list
  }
}

/// How many pages of which kind a head has: all that a list's length may depend on.
public struct PageCensus: Sendable, Equatable {
  /// Pages that persist, the oldest.
  public var persistent: Int
  /// Local pages of earlier chunks: the pages of each of their frames (or groups of frames that a page spans), in order.
  public var past: [Int]
  /// Pages of the chunk being made.
  public var current: Int

  public init(persistent: Int, past: [Int], current: Int) {
    self.persistent = persistent
    self.past = past
    self.current = current
  }

  /// Counts `pages`, oldest first, while the chunk that begins at frame `first` is made.
  public init(_ pages: [PageID], chunkAt first: Int, isPersistent: (PageID) -> Bool) {
    persistent = pages.prefix(while: isPersistent).count
    past = []
    current = 0
    var frame = -1
    for page in pages.dropFirst(persistent) {
      if page.frame >= first {
        current += 1
      } else if page.frame == frame {
        past[past.count - 1] += 1
      } else {
        past.append(1)
        frame = page.frame
      }
    }
  }

  /// Pages among which a selector chooses.
  public var local: Int { past.reduce(current, +) }
}
