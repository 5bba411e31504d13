import Compute

/// Looks on while a memory is read, and turns what it saw into an ``AttentionRecord`` once the chunk is finished.
///
/// It keeps handles of the lists that a pass read and computes pooled masses beside them; nothing comes to the host before
/// ``take()``, and nothing that it knows decides anything. Not thread-safe, like the memory that it belongs to.
final class AttentionRecorder {
  private let selection: AttentionSelection
  private let backend: any Backend
  private var notes: [Note] = []

  /// One pass of one layer.
  private struct Note {
    let layer: Int
    let pass: AttentionSelection.Pass
    let view: LayerView
    let lists: PageLists?
    /// `[heads, pages]`
    let mass: DeviceTensor
  }

  init(_ selection: AttentionSelection, on backend: any Backend) {
    self.selection = selection
    self.backend = backend
  }

  /// Whether a layer's pass is wanted and not yet noted: where branches of guidance share a memory, the first is the
  /// prompt's.
  func wants(chunk: Int, layer: Int, pass: AttentionSelection.Pass) -> Bool {
    selection.chunks.contains { $0.contains(chunk) } && selection.layers.contains(layer)
      && selection.passes.contains(pass) && !notes.contains { $0.layer == layer && $0.pass == pass }
  }

  /// Notes a pass of `layer`.
  /// - Parameters:
  ///   - lists: What it read; nil if its attention was not computed.
  ///   - mass: `[heads, pages]`, pooled attention over all of the view's pages.
  func note(layer: Int, pass: AttentionSelection.Pass, view: LayerView, lists: PageLists?, mass: DeviceTensor) {
    notes.append(Note(layer: layer, pass: pass, view: view, lists: lists, mass: mass))
  }

  /// What was seen since the last call, as heads of an ``AttentionRecord``; empty if nothing was wanted.
  func take() -> [AttentionRecord.Head] {
    defer { notes = [] }
    return Set(notes.map(\.layer)).sorted().flatMap { layer in
      let passes = notes.filter { $0.layer == layer }
      let readings = passes.map(readings)
      let view = passes[0].view
      return selection.heads.filter { $0 < view.heads }.map { head in
        AttentionRecord.Head(
          layer: layer, head: head, pages: view.pages[head].map(\.id), persistent: view.census[head].persistent,
          passes: Dictionary(uniqueKeysWithValues: zip(passes.map(\.pass), readings.map { $0[head] })))
      }
    }
  }

  /// The readings of all heads.
  private func readings(_ note: Note) -> [AttentionRecord.Reading] {
    let view = note.view
    let masses = backend.download(note.mass).floats()
    let width = note.mass.shape[1]
    let shared = note.lists.map { backend.download($0.shared) } ?? []
    let own = note.lists?.perTile.map { backend.download($0) } ?? []
    let (n, m) = (note.lists?.shared.shape[1] ?? 0, note.lists?.perTile?.shape[2] ?? 0)
    return view.pages.enumerated().map { head, pages in
      let place = Dictionary(uniqueKeysWithValues: pages.enumerated().map { ($1.slot, $0) })
      var reads: [[Bool]]?
      if note.lists != nil {
        reads = (0..<view.tiles.count).map { tile in
          var row = [Bool](repeating: false, count: pages.count)
          let start = (head * view.tiles.count + tile) * m
          for slot in [shared[head * n..<(head + 1) * n], own[start..<start + m]].joined() {
            if let page = place[slot] { row[page] = true }
          }
          return row
        }
      }
      return AttentionRecord.Reading(
        reads: reads, mass: Array(masses[head * width..<head * width + pages.count]))
    }
  }
}
