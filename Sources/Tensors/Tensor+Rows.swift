extension Tensor {
  /// The parts `indices` of the first axis, copied: `[indices.count] + shape[1...]`. Of a mapped file only those bytes
  /// are read (embedding tables). Indices outside the axis trap.
  public func rows(_ indices: some Collection<Int>) -> Tensor {
    precondition(!shape.isEmpty, "a scalar has no rows")
    let rest = Array(shape.dropFirst())
    let size = rest.reduce(1, *) * dtype.size
    return withUnsafeBytes { source in
      Tensor(dtype: dtype, shape: [indices.count] + rest) { memory in
        for (row, index) in indices.enumerated() {
          precondition((0..<shape[0]).contains(index), "no row \(index) in a tensor of shape \(shape)")
          UnsafeMutableRawBufferPointer(rebasing: memory[row * size..<(row + 1) * size])
            .copyMemory(from: UnsafeRawBufferPointer(rebasing: source[index * size..<(index + 1) * size]))
        }
      }
    }
  }
}
