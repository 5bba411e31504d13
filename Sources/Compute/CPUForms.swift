import CKernels

// The same tensor in float32, in bf16, and in bytes. An operation writes the form that its readers want; another form is
// made when it is first asked for.
extension CPUBackend {
  private static let formGrain = 1 << 15

  /// float32.
  func widened(_ x: DeviceTensor) -> HostStorage {
    let storage = host(x.storage)
    return storage.inForm(.f32) {
      let out = memory.allocate(x.count * 4)
      widen(x, into: out.floats)
      return out
    }
  }

  /// The numbers of x in float32, whatever their form.
  func widen(_ x: DeviceTensor, into out: UnsafeMutablePointer<Float>) {
    let storage = host(x.storage)
    switch storage.form {
    case .f32: out.update(from: storage.floats, count: x.count)
    case .bf16:
      parallel(x.count, grain: CPUBackend.formGrain) { range in
        let first = range.lowerBound
        lt_widen_bf16(out + first, storage.halves + first, Int64(range.count))
      }
    case .int8:
      guard let scales = storage.scales, let width = x.shape.last, width > 0 else {
        preconditionFailure("bytes without scales")
      }
      parallel(x.count / width, grain: max(1, CPUBackend.formGrain / width)) { range in
        for row in range {
          lt_widen_bytes(out + row * width, storage.bytes + row * width, scales.floats[row], Int32(width))
        }
      }
    }
  }

  /// The bytes of rows that are being written, with their scales: to be filled row by row while these are in the cache, and
  /// kept with them. nil in the other precisions.
  func bytesForm(rows: Int, width: Int) -> HostStorage? {
    precision == .int8 ? memory.allocate(rows * width, form: .int8, scales: memory.allocate(rows * 4)) : nil
  }

  /// bf16, rounded to nearest even.
  func rounded(_ x: DeviceTensor) -> HostStorage {
    let storage = host(x.storage)
    if storage.form == .int8 { return roundedBytes(x) }
    return storage.inForm(.bf16) {
      let out = memory.allocate(x.count * 2, form: .bf16)
      parallel(x.count, grain: CPUBackend.formGrain) { range in
        let first = range.lowerBound
        lt_round_bf16(out.halves + first, storage.floats + first, Int64(range.count))
      }
      return out
    }
  }

  /// The bytes of a map in bf16, not kept: they are in bytes to take less memory.
  private func roundedBytes(_ x: DeviceTensor) -> HostStorage {
    let storage = host(x.storage)
    guard let scales = storage.scales, let width = x.shape.last, width > 0 else {
      preconditionFailure("bytes without scales")
    }
    let out = memory.allocate(x.count * 2, form: .bf16)
    parallel(x.count / width, grain: max(1, CPUBackend.formGrain / width)) { range in
      withUnsafeTemporaryAllocation(of: Float.self, capacity: width) { row in
        guard let numbers = row.baseAddress else { return }
        for r in range {
          lt_widen_bytes(numbers, storage.bytes + r * width, scales.floats[r], Int32(width))
          lt_round_bf16(out.halves + r * width, numbers, Int64(width))
        }
      }
    }
    return out
  }

  /// Rows of `width` numbers as bytes, each row with the scale `max |x| / 127`.
  func quantised(_ x: DeviceTensor, width: Int) -> HostStorage {
    let storage = host(x.storage)
    let rows = x.count / width
    let out = storage.inForm(.int8) {
      let scales = memory.allocate(rows * 4)
      let out = memory.allocate(x.count, form: .int8, scales: scales)
      parallel(rows, grain: max(1, CPUBackend.formGrain / width)) { range in
        for r in range {
          if storage.form == .bf16 {
            lt_quantise_row_bf16(scales.floats + r, out.bytes + r * width, storage.halves + r * width, Int32(width))
          } else {
            lt_quantise_row_f32(scales.floats + r, out.bytes + r * width, storage.floats + r * width, Int32(width))
          }
        }
      }
      return out
    }
    precondition(out.scales.map { $0.capacity >= rows * 4 } ?? false, "rows of another width were quantised before")
    return out
  }
}

/// Where the frames of a convolution's history and input lie, oldest first. Holds addresses: made inside one operation,
/// whose tensors outlive it.
struct FrameMaps<Number>: @unchecked Sendable {
  private let addresses: [UnsafePointer<Number>]

  init(_ addresses: [UnsafePointer<Number>]) { self.addresses = addresses }

  subscript(_ frame: Int) -> UnsafePointer<Number> { addresses[frame] }
}
