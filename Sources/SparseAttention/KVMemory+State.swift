import Compute
import Tensors

/// A memory between two chunks, as it is written and read.
extension KVMemory {
  private struct Stand: Codable {
    var chunk: Int
    var sealedFrames: Int
    var pageFormat: String
    var recipe: String
    var positions: String
  }

  /// Adds what the memory holds: which pages are where, and their bytes, one array per layer that is copied when it is
  /// written, until when no other chunk may begin.
  ///
  /// - Parameter name: Names begin with it.
  public func save(to state: inout StateBuilder, as name: String) throws {
    precondition(chunkPages.isEmpty, "a memory was saved in the midst of a chunk")
    try state.add(
      name,
      value: Stand(
        chunk: chunk, sealedFrames: sealedFrames, pageFormat: pool.snapshotFormat, recipe: recipe.name,
        positions: recipe.positions.rawValue))
    let (pages, free) = table.tensors()
    state.add(name + ".table", tensor: pages)
    state.add(name + ".free", tensor: free)
    for layer in 0..<table.layers {
      let places = places(layer)
      state.add(pagesName(name, layer), dtype: .u8, shape: [places.count, pool.snapshotBytes]) { [pool] in
        pool.snapshot(places)
      }
    }
  }

  /// Takes the place of a memory that was saved; the next chunk goes on from there, bit for bit.
  ///
  /// - Throws: `TensorError` for a state that is damaged or belongs to another recipe, model or page format.
  public func restore(from state: SavedState, as name: String) throws {
    precondition(chunk == -1, "a memory that has been used cannot become another")
    let stand: Stand = try state.value(name)
    for (what, found, wanted) in [
      ("recipe", stand.recipe, recipe.name), ("positions", stand.positions, recipe.positions.rawValue),
      ("page format", stand.pageFormat, pool.snapshotFormat),
    ] where found != wanted {
      throw state.damaged(name, "the \(what) of the state is '\(found)', that of this run '\(wanted)'")
    }
    guard
      table.restore(
        pages: try state.tensor(name + ".table", dtype: .i32), free: try state.tensor(name + ".free", dtype: .i32)),
      stand.chunk >= 0, stand.sealedFrames >= 0
    else { throw state.damaged(name + ".table", "the table of pages cannot be of this run") }
    for layer in 0..<table.layers {
      let places = places(layer)
      let stored = try state.tensor(
        pagesName(name, layer), dtype: .u8, shape: [places.count, pool.snapshotBytes])
      pool.restore(places, from: stored)
    }
    (chunk, sealedFrames) = (stand.chunk, stand.sealedFrames)
  }

  private func pagesName(_ name: String, _ layer: Int) -> String { "\(name).pages.\(layer)" }

  private func places(_ layer: Int) -> [PagePlace] {
    (0..<table.heads).flatMap { head in
      table.resident(layer: layer, head: head).map { PagePlace(layer: layer, head: head, slot: $0.slot) }
    }
  }
}
