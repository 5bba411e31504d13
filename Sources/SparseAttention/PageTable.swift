import Tensors

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
  fileprivate var pages: [[ResidentPage]]
  /// Free slots of each layer and head; the last is taken first.
  fileprivate var free: [[Int32]]

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

// MARK: State

extension PageTable {
  /// All entries as numbers: `pages` `i32 [layers x heads, most, 4]` (frame, tile, slot, position; -1 pads) and `free`
  /// `i32 [layers x heads, slots]` (-1 pads).
  func tensors() -> (pages: Tensor, free: Tensor) {
    let most = pages.map(\.count).max() ?? 0
    var entries: [Int32] = []
    for list in pages {
      for page in list { entries += [Int32(page.id.frame), Int32(page.id.tile), page.slot, Int32(page.position)] }
      entries += [Int32](repeating: -1, count: 4 * (most - list.count))
    }
    let slots: [Int32] = free.flatMap { $0 + Array(repeating: -1, count: self.slots - $0.count) }
    return (
      Tensor(entries, shape: [pages.count, most, 4]), Tensor(slots, shape: [free.count, self.slots])
    )
  }

  /// Takes over stored entries. A table of more slots than the stored one has the new ones free.
  ///
  /// - Returns: false for numbers that cannot be a table of this size.
  mutating func restore(pages stored: Tensor, free slots: Tensor) -> Bool {
    guard stored.shape.count == 3, stored.shape[0] == pages.count, stored.shape[2] == 4,
      slots.shape.count == 2, slots.shape[0] == pages.count, slots.shape[1] <= self.slots
    else { return false }
    let (numbers, most, before) = (stored.integers(), stored.shape[1], slots.shape[1])
    let freeNumbers = slots.integers()
    for i in pages.indices {
      let rows = (0..<most).map { numbers[(i * most + $0) * 4..<(i * most + $0 + 1) * 4].map { $0 } }
        .filter { $0[2] >= 0 }
      let list = rows.map { ResidentPage(id: PageID(frame: $0[0], tile: $0[1]), slot: Int32($0[2]), position: $0[3]) }
      let open = freeNumbers[i * before..<(i + 1) * before].filter { $0 >= 0 }.map { Int32($0) }
      // Every old slot is either taken or free, once.
      guard Set(list.map(\.slot) + open) == Set(0..<Int32(before)), list.count + open.count == before else {
        return false
      }
      pages[i] = list
      free[i] = (Int32(before)..<Int32(self.slots)).reversed() + open
    }
    return true
  }
}
