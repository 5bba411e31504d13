import Tensors

/// Pages as bytes: what `CPUPagePool.fields` names, side by side.
extension CPUPagePool {
  /// Pages are kept in the layout that this machine's kernels read, which `fields` decides.
  var snapshotFormat: String { "cpu \(format.rawValue), pages of \(layout.headDim) x \(width)" }

  var snapshotBytes: Int { fields(0).reduce(0) { $0 + $1.count } }

  func snapshot(_ pages: [PagePlace]) -> Tensor {
    Tensor(dtype: .u8, shape: [pages.count, snapshotBytes]) { memory in
      var at = 0
      for place in pages {
        for field in fields(page(layer: place.layer, head: place.head, slot: place.slot)) where field.count > 0 {
          UnsafeMutableRawBufferPointer(rebasing: memory[at..<at + field.count]).copyMemory(
            from: UnsafeRawBufferPointer(field))
          at += field.count
        }
      }
    }
  }

  func restore(_ pages: [PagePlace], from stored: Tensor) {
    precondition(
      stored.dtype == .u8 && stored.shape == [pages.count, snapshotBytes],
      "\(stored.shape) are not \(pages.count) pages")
    stored.withUnsafeBytes { memory in
      var at = 0
      for place in pages {
        for field in fields(page(layer: place.layer, head: place.head, slot: place.slot)) where field.count > 0 {
          field.copyMemory(from: UnsafeRawBufferPointer(rebasing: memory[at..<at + field.count]))
          at += field.count
        }
      }
    }
  }
}
