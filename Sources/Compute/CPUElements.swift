import CKernels
import Tensors

// Operations on tensors of any shape.
extension CPUBackend {
  private static let grain = 1 << 15

  public func slice(_ x: DeviceTensor, _ range: Range<Int>) -> DeviceTensor {
    precondition(range.lowerBound >= 0 && range.upperBound <= x.shape[0], "part \(range) of \(x.shape)")
    let source = host(x.storage)
    precondition(source.form != .int8, "a part of a map in bytes")
    let row = x.count / max(1, x.shape[0]) * source.form.elementBytes
    let out = make([range.count] + x.shape.dropFirst(), source.form)
    withExtendedLifetime(x) {
      host(out.storage).address.copyMemory(
        from: source.address + range.lowerBound * row, byteCount: range.count * row)
    }
    return out
  }

  public func concatenate(_ parts: [DeviceTensor]) -> DeviceTensor {
    guard let first = parts.first else { preconditionFailure("nothing to concatenate") }
    if parts.count == 1 { return first }
    precondition(parts.allSatisfy { $0.shape.dropFirst() == first.shape.dropFirst() }, "\(parts.map(\.shape))")
    // Of one form, or float32 if they differ.
    let form = parts.allSatisfy { host($0.storage).form == .bf16 } ? HostStorage.Form.bf16 : .f32
    let out = make([parts.reduce(0) { $0 + $1.shape[0] }] + first.shape.dropFirst(), form)
    var cursor = host(out.storage).address
    for part in parts {
      let source = form == .bf16 ? host(part.storage) : widened(part)
      let bytes = part.count * form.elementBytes
      withExtendedLifetime(part) { cursor.copyMemory(from: source.address, byteCount: bytes) }
      cursor += bytes
    }
    return out
  }

  public func gather(_ x: DeviceTensor, _ indices: DeviceIndices, shape: [Int]) -> DeviceTensor {
    let out = make(shape)
    precondition(out.count == indices.count, "\(indices.count) indices for a shape of \(shape)")
    let (source, index, result) = (floats(x), integers(indices), floats(out))
    withExtendedLifetime((x, indices)) {
      parallel(out.count, grain: CPUBackend.grain) { range in
        for i in range { result[i] = index[i] < 0 ? 0 : source[Int(index[i])] }
      }
    }
    return out
  }

  public func combine(_ a: Float, _ x: DeviceTensor, _ b: Float, _ y: DeviceTensor) -> DeviceTensor {
    precondition(x.shape == y.shape, "\(x.shape) and \(y.shape)")
    let out = make(x.shape)
    let (first, second, result) = (floats(x), floats(y), floats(out))
    withExtendedLifetime((x, y)) {
      parallel(x.count, grain: CPUBackend.grain) { range in
        let i = range.lowerBound
        lt_combine_f32(result + i, a, first + i, b, second + i, Int64(range.count))
      }
    }
    return out
  }

  public func add(_ x: DeviceTensor, _ y: DeviceTensor) -> DeviceTensor {
    precondition(Array(x.shape.suffix(y.shape.count)) == y.shape, "\(y.shape) does not repeat into \(x.shape)")
    let out = make(x.shape)
    let (first, second, result, period) = (floats(x), floats(y), floats(out), y.count)
    withExtendedLifetime((x, y)) {
      parallel(x.count / period, grain: max(1, CPUBackend.grain / period)) { range in
        for r in range {
          lt_combine_f32(result + r * period, 1, first + r * period, 1, second, Int64(period))
        }
      }
    }
    return out
  }

  public func multiply(_ x: DeviceTensor, _ y: DeviceTensor) -> DeviceTensor {
    precondition(x.shape == y.shape, "\(x.shape) and \(y.shape)")
    let out = make(x.shape)
    let (first, second, result) = (floats(x), floats(y), floats(out))
    withExtendedLifetime((x, y)) {
      parallel(x.count, grain: CPUBackend.grain) { range in for i in range { result[i] = first[i] * second[i] } }
    }
    return out
  }

  public func activate(_ x: DeviceTensor, _ activation: Activation) -> DeviceTensor {
    let out = make(x.shape)
    let (source, result) = (floats(x), floats(out))
    withExtendedLifetime(x) {
      parallel(x.count, grain: CPUBackend.grain) { range in
        let i = range.lowerBound
        (result + i).update(from: source + i, count: range.count)
        lt_bias_activate_f32(result + i, nil, Int64(range.count), activation.code)
      }
    }
    return out
  }

  public func clamp(_ x: DeviceTensor, to range: ClosedRange<Float>) -> DeviceTensor {
    let out = make(x.shape)
    let (source, result) = (floats(x), floats(out))
    withExtendedLifetime(x) {
      parallel(x.count, grain: CPUBackend.grain) { part in
        for i in part {
          let v = source[i]
          result[i] = v < range.lowerBound ? range.lowerBound : v > range.upperBound ? range.upperBound : v
        }
      }
    }
    return out
  }

  public func downloadPixels(_ x: DeviceTensor) -> Tensor? {
    let (source, grain) = (floats(x), CPUBackend.grain)
    let parts = (x.count + grain - 1) / grain
    // One answer of each part.
    let wrong = memory.allocate(max(1, parts) * 4)
    let pixels = Tensor(dtype: .u8, shape: x.shape) { out in
      let bytes = out.bindMemory(to: UInt8.self).baseAddress
      parallel(x.count, grain: grain) { range in
        let first = range.lowerBound
        guard let bytes else { return }
        lt_pixels_of_f32(bytes + first, source + first, Int64(range.count), wrong.integers + first / grain)
      }
    }
    return withExtendedLifetime((x, wrong)) { (0..<parts).allSatisfy { wrong.integers[$0] == 0 } ? pixels : nil }
  }

  public func allFinite(_ x: DeviceTensor) -> Bool {
    withExtendedLifetime(x) { lt_all_finite_f32(floats(x), Int64(x.count)) == 1 }
  }
}
