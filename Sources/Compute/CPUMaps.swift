import CKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

// Operations on feature maps [frames, height, width, channels].
extension CPUBackend {
  /// Bytes that one band of unrolled patches may take: small enough for the second-level cache with its products.
  private static let bandBytes = 1 << 20

  /// Channels from which maps are remembered in bytes.
  private static let wideChannels = 64

  /// A convolution without activation into at most so many channels is taken for the last of a network.
  private static let leavingChannels = 32

  public func convolve(
    _ x: DeviceTensor, after history: [DeviceTensor], _ weight: ConvolutionWeight, stride: ConvolutionStride,
    padding: SpatialPadding, addedTo residual: DeviceTensor?, activation: Activation
  ) -> DeviceTensor {
    let shape = ConvolutionShape.output(x.shape, history: history.map(\.shape), weight, stride, padding)
    precondition(residual.map { $0.shape == shape } ?? true, "residual \(residual?.shape ?? []) of a map \(shape)")
    if let layer = weight.storage as? WinogradLayer {
      precondition(stride == .one && padding == .half(of: weight), "a weight that keeps the size, with \(padding)")
      return convolve(
        x, after: history, weight, layer, doubled: false, shape: shape, addedTo: residual, activation: activation)
    }
    if let packed = weight.storage as? PackedLayer {
      // Maps are kept as the next convolution reads them; what leaves a network, pixels or latents, in float32.
      let out = make(shape, activation == .none && weight.outputs <= CPUBackend.leavingChannels ? .f32 : .bf16)
      var finish = Finish(width: weight.outputs, activation: activation, out: host(out.storage))
      finish.bias = packed.bias.map { UnsafePointer($0.floats) }
      finish.residual = residual.map { host($0.storage) }
      if let small = packed.small, stride == .one, padding == .all(1), activation == .none || activation == .relu,
        history.map(\.shape[0]) == [Int](repeating: 1, count: weight.kernel.frames - 1),
        residual.map({ host($0.storage).form == .bf16 }) ?? true
      {
        withExtendedLifetime((x, history, weight, residual)) {
          convolve(
            x, after: history, small, shape: shape, residual: residual.map { host($0.storage) },
            rectified: activation == .relu, into: host(out.storage))
        }
        return out
      }
      withExtendedLifetime((x, history, weight, residual)) {
        convolve(
          x, after: history, weight, packed, stride: stride, padding: padding, shape: shape, finish: finish)
      }
      return out
    }
    let out = make(shape)
    let layer = layer(weight.storage)
    var finish = Finish(width: weight.outputs, activation: activation, out: host(out.storage))
    finish.bias = layer.bias.map { UnsafePointer($0.floats) }
    finish.residual = residual.map { widened($0) }
    let (height, width, channels) = (x.shape[1], x.shape[2], x.shape[3])
    let kernel = weight.kernel
    let columns = kernel.frames * kernel.rows * kernel.columns * channels
    let (outHeight, outWidth, outputs) = (shape[1], shape[2], shape[3])
    let frames = (history + [x]).flatMap { map in
      let (address, size) = (floats(map), height * width * channels)
      return (0..<map.shape[0]).map { UnsafePointer(address + $0 * size) }
    }
    let maps = FrameMaps(frames)
    let result = floats(out)
    // A band is some rows of one output frame; its size depends on the map alone, not on how many frames come at once,
    // so that every chunking of a stream gives the same bytes.
    let band = max(1, min(outHeight, CPUBackend.bandBytes / max(1, outWidth * columns * 4)))
    let bands = (outHeight + band - 1) / band
    let pointwise =
      kernel.frames == 1 && kernel.rows == 1 && kernel.columns == 1 && stride == .one && padding == .all(0)
    withExtendedLifetime((x, history, weight, residual)) {
      workers.run(parts: shape[0] * bands) { part in
        let (frame, top) = (part / bands, part % bands * band)
        let rows = min(band, outHeight - top)
        let positions = rows * outWidth
        let target = result + (frame * outHeight + top) * outWidth * outputs
        func product(_ patches: UnsafePointer<Float>) {
          CPUBackend.multiply(
            patches, stride: columns, rows: positions, inputs: columns, layer.weight.floats, outputs: outputs,
            into: target, outputStride: outputs)
        }
        if pointwise {
          product(maps[frame] + top * width * channels)
        } else {
          let patches = memory.allocate(band * outWidth * columns * 4)
          for y in 0..<rows {
            for xo in 0..<outWidth {
              var cursor = patches.floats + (y * outWidth + xo) * columns
              let left = xo * stride.space - padding.left
              let (lo, hi) = (max(0, left), min(width, left + kernel.columns))
              for t in 0..<kernel.frames {
                let frameMap = maps[frame * stride.frames + t]
                for ky in 0..<kernel.rows {
                  let row = (top + y) * stride.space - padding.top + ky
                  let run = kernel.columns * channels
                  if row < 0 || row >= height || hi <= lo {
                    memset(cursor, 0, run * 4)
                  } else {
                    let (before, inside) = ((lo - left) * channels, (hi - lo) * channels)
                    if before > 0 { memset(cursor, 0, before * 4) }
                    memcpy(cursor + before, frameMap + (row * width + lo) * channels, inside * 4)
                    let after = run - before - inside
                    if after > 0 { memset(cursor + before + inside, 0, after * 4) }
                  }
                  cursor += run
                }
              }
            }
          }
          withExtendedLifetime(patches) { product(patches.floats) }
        }
        finish.apply(
          target, stride: outputs, row: (frame * outHeight + top) * outWidth, rows: positions, column: 0,
          columns: outputs)
      }
    }
    return out
  }

  public func channelNorm(_ x: DeviceTensor, gamma: DeviceTensor, silu: Bool) -> DeviceTensor {
    let channels = x.shape.last ?? 1
    precondition(gamma.count == channels, "a gamma of \(gamma.count) for \(channels) channels")
    // What reads it is a convolution or a linear layer, which would round it anyway.
    let rounds = precision != .f32
    let out = make(x.shape, rounds ? .bf16 : .f32)
    let (input, result, factors) = (host(x.storage), host(out.storage), floats(gamma))
    withExtendedLifetime((x, gamma)) {
      parallel(x.count / channels, grain: 1024) { range in
        withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * channels) { rows in
          guard let row = rows.baseAddress else { return }
          for p in range {
            var source = UnsafePointer(row + channels)
            if input.form == .bf16 {
              lt_widen_bf16(row + channels, input.halves + p * channels, Int64(channels))
            } else {
              source = UnsafePointer(input.floats + p * channels)
            }
            let target = rounds ? row : result.floats + p * channels
            lt_channel_norm_f32(target, source, factors, silu ? 1 : 0, Int32(channels))
            if rounds { lt_round_bf16(result.halves + p * channels, row, Int64(channels)) }
          }
        }
      }
    }
    return out
  }

  public func zeros(_ shape: [Int]) -> DeviceTensor {
    let out = make(shape, precision == .f32 ? .f32 : .bf16)
    let storage = host(out.storage)
    memset(storage.address, 0, out.count * storage.form.elementBytes)
    return out
  }

  public func remembered(_ x: DeviceTensor, for weight: ConvolutionWeight) -> DeviceTensor {
    // Narrow maps take little; a scale for each position would be much of it.
    guard precision != .f32, weight.inputs >= CPUBackend.wideChannels else { return x }
    let source = host(x.storage)
    let (width, positions) = (weight.inputs, x.count / weight.inputs)
    precondition(x.shape.last == width, "a map \(x.shape) for \(width) channels")
    if source.form == .int8 { return x }
    let scales = memory.allocate(positions * 4)
    let out = memory.allocate(x.count, form: .int8, scales: scales)
    withExtendedLifetime(x) {
      parallel(positions, grain: 1024) { range in
        for p in range {
          if source.form == .bf16 {
            lt_remember_bf16(scales.floats + p, out.bytes + p * width, source.halves + p * width, Int32(width))
          } else {
            lt_remember_f32(scales.floats + p, out.bytes + p * width, source.floats + p * width, Int32(width))
          }
        }
      }
    }
    return DeviceTensor(shape: x.shape, storage: out)
  }

  public func upsampleTwice(_ x: DeviceTensor) -> DeviceTensor {
    let (frames, height, width) = (x.shape[0], x.shape[1], x.shape[2])
    let source = host(x.storage)
    let bytes = x.shape[3] * source.form.elementBytes
    let out = make([frames, 2 * height, 2 * width, x.shape[3]], source.form)
    let result = host(out.storage).address
    withExtendedLifetime(x) {
      parallel(frames * height, grain: 8) { range in
        for row in range {
          let target = result + row * 4 * width * bytes
          for c in 0..<2 * width {
            (target + c * bytes).copyMemory(from: source.address + (row * width + c / 2) * bytes, byteCount: bytes)
          }
          (target + 2 * width * bytes).copyMemory(from: target, byteCount: 2 * width * bytes)
        }
      }
    }
    return out
  }

  /// Copies a run for each (frame, position) between the two layouts of time and channels.
  private func exchange(_ x: DeviceTensor, shape: [Int], n: Int, toFrames: Bool) -> DeviceTensor {
    let source = host(x.storage)
    let out = make(shape, source.form)
    let positions = x.shape[1] * x.shape[2]
    let groups = toFrames ? x.shape[0] : shape[0]
    let run = (toFrames ? shape[3] : x.shape[3]) * source.form.elementBytes
    let result = host(out.storage).address
    withExtendedLifetime(x) {
      parallel(groups * n * positions, grain: 4096) { range in
        for item in range {
          let (frame, position) = (item / positions, item % positions)
          let spread = item * run
          let packed = ((frame / n * positions + position) * n + frame % n) * run
          if toFrames {
            (result + spread).copyMemory(from: source.address + packed, byteCount: run)
          } else {
            (result + packed).copyMemory(from: source.address + spread, byteCount: run)
          }
        }
      }
    }
    return out
  }

  public func channelsToFrames(_ x: DeviceTensor, _ n: Int) -> DeviceTensor {
    precondition(x.shape[3] % n == 0, "\(x.shape[3]) channels into \(n) frames")
    return exchange(x, shape: [x.shape[0] * n, x.shape[1], x.shape[2], x.shape[3] / n], n: n, toFrames: true)
  }

  public func framesToChannels(_ x: DeviceTensor, _ n: Int) -> DeviceTensor {
    precondition(x.shape[0] % n == 0, "\(x.shape[0]) frames in groups of \(n)")
    return exchange(x, shape: [x.shape[0] / n, x.shape[1], x.shape[2], x.shape[3] * n], n: n, toFrames: false)
  }

  public func joinChannels(_ x: DeviceTensor, _ y: DeviceTensor) -> DeviceTensor {
    precondition(x.shape.dropLast() == y.shape.dropLast(), "maps \(x.shape) and \(y.shape) side by side")
    let (a, b) = (x.shape[x.shape.count - 1], y.shape[y.shape.count - 1])
    let out = make(x.shape.dropLast() + [a + b])
    let (first, second, result) = (floats(x), floats(y), floats(out))
    withExtendedLifetime((x, y)) {
      parallel(x.count / a, grain: 4096) { range in
        for p in range {
          (result + p * (a + b)).update(from: first + p * a, count: a)
          (result + p * (a + b) + a).update(from: second + p * b, count: b)
        }
      }
    }
    return out
  }

  public func channelsLast(_ x: DeviceTensor) -> DeviceTensor {
    let (frames, channels, positions) = (x.shape[0], x.shape[1], x.shape[2] * x.shape[3])
    return transpose(
      x, shape: [frames, x.shape[2], x.shape[3], channels], batches: frames, rows: channels, columns: positions)
  }

  public func channelsFirst(_ x: DeviceTensor) -> DeviceTensor {
    let (frames, channels, positions) = (x.shape[0], x.shape[3], x.shape[1] * x.shape[2])
    return transpose(
      x, shape: [frames, channels, x.shape[1], x.shape[2]], batches: frames, rows: positions, columns: channels)
  }

  private func transpose(_ x: DeviceTensor, shape: [Int], batches: Int, rows: Int, columns: Int) -> DeviceTensor {
    let out = make(shape)
    let (source, result) = (floats(x), floats(out))
    withExtendedLifetime(x) {
      parallel(batches * columns, grain: max(1, 16384 / max(rows, 1))) { range in
        for item in range {
          let (batch, column) = (item / columns, item % columns)
          for row in 0..<rows { result[item * rows + row] = source[(batch * rows + row) * columns + column] }
        }
      }
    }
    return out
  }

  public func scaleChannels(_ x: DeviceTensor, scale: DeviceTensor, shift: DeviceTensor) -> DeviceTensor {
    let channels = x.shape.last ?? 1
    precondition(scale.count == channels && shift.count == channels, "\(scale.count) scales for \(channels) channels")
    let out = make(x.shape)
    let (source, result, a, b) = (floats(x), floats(out), floats(scale), floats(shift))
    withExtendedLifetime((x, scale, shift)) {
      parallel(x.count / channels, grain: 4096) { range in
        for p in range { for c in 0..<channels { result[p * channels + c] = source[p * channels + c] * a[c] + b[c] } }
      }
    }
    return out
  }
}
