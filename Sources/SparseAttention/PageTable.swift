/// A page in memory: its name, its slot in the pool, and the temporal position that its keys have now.
public struct ResidentPage: Sendable, Equatable {
  public let id: PageID
  public let slot: Int32
  public internal(set) var position: Int

  package init(id: PageID, slot: Int32, position: Int) {
    self.id = id
    self.slot = slot
    self.position = position
  }
}

/// Which page is in which slot, for each layer and head apart, oldest page first.
///
/// The pages of the chunk being denoised stand at the end and count as resident from its first pass on.
public struct PageTable: Sendable {
  public let layers: Int
  public let heads: Int
  /// Slots of one layer's head.
  public let slots: Int
  private var pages: [[ResidentPage]]
  /// Free slots of each layer and head; the last is taken first.
  private var free: [[Int32]]

  init(layers: Int, heads: Int, slots: Int) {
    self.layers = layers
    self.heads = heads
    self.slots = slots
    pages = Array(repeating: [], count: layers * heads)
    free = Array(repeating: (0..<Int32(slots)).reversed(), count: layers * heads)
  }

  /// The pages of one layer's head. Layers beyond the table's share it (a memory for one layer at a time).
  public func resident(layer: Int, head: Int) -> [ResidentPage] { pages[index(layer, head)] }

  private func index(_ layer: Int, _ head: Int) -> Int { layer % layers * heads + head }

  /// Gives each layer and head the same new pages at the given positions.
  mutating func append(_ ids: [PageID], positions: (PageID) -> Int) {
    for i in pages.indices {
      precondition(free[i].count >= ids.count, "no room for \(ids.count) pages in \(slots) slots")
      for id in ids { pages[i].append(ResidentPage(id: id, slot: free[i].removeLast(), position: positions(id))) }
    }
  }

  /// Frees the slots of the pages that `evictions` names for each layer and head.
  mutating func evict(_ evictions: (_ layer: Int, _ head: Int, [PageID]) -> Set<PageID>) {
    for layer in 0..<layers {
      for head in 0..<heads {
        let i = index(layer, head)
        let leaving = evictions(layer, head, pages[i].map(\.id))
        if leaving.isEmpty { continue }
        free[i] += pages[i].filter { leaving.contains($0.id) }.map(\.slot).reversed()
        pages[i].removeAll { leaving.contains($0.id) }
      }
    }
  }

  /// Moves pages to new temporal positions and returns, per layer, which slots changed: `[head][(slot, position)]`.
  mutating func reposition(_ position: (PageID, _ layer: Int, _ head: Int) -> Int) -> [[[(slot: Int32, position: Int)]]]
  {
    (0..<layers).map { layer in
      (0..<heads).map { head in
        let i = index(layer, head)
        var changed: [(slot: Int32, position: Int)] = []
        for p in pages[i].indices {
          let new = position(pages[i][p].id, layer, head)
          if new == pages[i][p].position { continue }
          pages[i][p].position = new
          changed.append((pages[i][p].slot, new))
        }
        return changed
      }
    }
  }
}
