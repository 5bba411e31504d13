import CKernels

// The same tensor in float32, in bf16, and in bytes. An operation writes the form that its readers want; another form is
// made when it is first asked for.
extension CPUBackend {
  private static let formGrain = 1 << 15

  /// float32.
  func widened(_ x: DeviceTensor) -> HostStorage {
    let storage = host(x.storage)
    precondition(storage.form != .int8, "bytes are no form of a whole tensor")
    return storage.inForm(.f32) {
      let out = memory.allocate(x.count * 4)
      parallel(x.count, grain: CPUBackend.formGrain) { range in
        let first = range.lowerBound
        lt_widen_bf16(out.floats + first, storage.halves + first, Int64(range.count))
      }
      return out
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
    return storage.inForm(.bf16) {
      let out = memory.allocate(x.count * 2, form: .bf16)
      parallel(x.count, grain: CPUBackend.formGrain) { range in
        let first = range.lowerBound
        lt_round_bf16(out.halves + first, storage.floats + first, Int64(range.count))
      }
      return out
    }
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
