import CBLAS
import CKernels

// Linear layers and norms over rows.
extension CPUBackend {
  /// Rows and output columns of one part of a matrix product. Fixed, so that results do not depend on threads.
  private static let panelRows = 128
  private static let panelColumns = 512

  /// `x W^T` in float32, in panels, each written to the output and finished while it is in cache.
  private func product(_ x: DeviceTensor, _ layer: Layer, inputs: Int, finish: Finish) {
    let (rows, outputs) = (x.count / inputs, finish.width)
    let (source, weight, out) = (floats(x), layer.weight.floats, finish.out.floats)
    let down = (rows + CPUBackend.panelRows - 1) / CPUBackend.panelRows
    let across = (outputs + CPUBackend.panelColumns - 1) / CPUBackend.panelColumns
    workers.run(parts: down * across) { part in
      let row = part / across * CPUBackend.panelRows
      let column = part % across * CPUBackend.panelColumns
      let height = min(CPUBackend.panelRows, rows - row)
      let width = min(CPUBackend.panelColumns, outputs - column)
      let target = out + row * outputs + column
      CPUBackend.multiply(
        source + row * inputs, stride: inputs, rows: height, inputs: inputs, weight + column * inputs, outputs: width,
        into: target, outputStride: outputs)
      finish.apply(target, stride: outputs, row: row, rows: height, column: column, columns: width)
    }
  }

  /// `out = x W^T` on one thread.
  static func multiply(
    _ x: UnsafePointer<Float>, stride: Int, rows: Int, inputs: Int, _ weight: UnsafePointer<Float>, outputs: Int,
    into out: UnsafeMutablePointer<Float>, outputStride: Int
  ) {
    cblas_sgemm(
      CblasRowMajor, CblasNoTrans, CblasTrans, Int32(rows), Int32(outputs), Int32(inputs), 1, x, Int32(stride), weight,
      Int32(inputs), 0, out, Int32(outputStride))
  }

  public func linear(_ x: DeviceTensor, _ weight: LinearWeight, activation: Activation) -> DeviceTensor {
    // What follows an activation is a linear layer again, which would round it anyway.
    let form: HostStorage.Form = activation != .none && weight.storage is PackedLayer ? .bf16 : .f32
    let out = make(x.shape.dropLast() + [weight.outputs], form)
    affine(x, weight, Finish(width: weight.outputs, activation: activation, out: host(out.storage)))
    return out
  }

  public func linear(
    _ x: DeviceTensor, _ weight: LinearWeight, addedTo residual: DeviceTensor, gate: ModulationRow?
  ) -> DeviceTensor {
    let rows = x.count / weight.inputs
    precondition(residual.count == rows * weight.outputs, "residual \(residual.shape) of \(rows) x \(weight.outputs)")
    let out = make(residual.shape)
    var finish = Finish(width: weight.outputs, out: host(out.storage))
    finish.residual = host(residual.storage)
    if let gate {
      let (table, extent) = (floats(gate.table), gate.table.shape)
      precondition(extent[2] == weight.outputs, "modulation \(extent) of rows of \(weight.outputs)")
      finish.gate = Finish.Gate(
        table: table + gate.row * extent[2], groups: integers(gate.groups), stride: extent[1] * extent[2])
    }
    withExtendedLifetime((residual, gate)) { affine(x, weight, finish) }
    return out
  }

  public func linears(_ x: DeviceTensor, _ weights: [LinearWeight]) -> [DeviceTensor] {
    let layers = weights.compactMap { $0.storage as? PackedLayer }
    guard let first = layers.first, layers.count == weights.count,
      layers.allSatisfy({ ($0.scales == nil) == (first.scales == nil) })
    else { return weights.map { linear(x, $0, activation: .none) } }
    precondition(weights.allSatisfy { x.shape.last == $0.inputs }, "rows \(x.shape) for layers of other inputs")
    let outs = weights.map { make(x.shape.dropLast() + [$0.outputs]) }
    withExtendedLifetime((x, weights)) {
      products(
        x,
        zip(layers, outs).map { layer, out in
          var finish = Finish(width: out.shape[out.shape.count - 1], out: host(out.storage))
          finish.bias = layer.bias.map { UnsafePointer($0.floats) }
          finish.columnScales = layer.scales.map { UnsafePointer($0.floats) }
          return (layer, finish)
        }, inputs: weights[0].inputs)
    }
    return outs
  }

  private func affine(_ x: DeviceTensor, _ weight: LinearWeight, _ finish: Finish) {
    precondition(x.shape.last == weight.inputs, "rows \(x.shape) for a layer of \(weight.inputs) inputs")
    var finish = finish
    withExtendedLifetime((x, weight)) {
      if let packed = weight.storage as? PackedLayer {
        finish.bias = packed.bias.map { UnsafePointer($0.floats) }
        finish.columnScales = packed.scales.map { UnsafePointer($0.floats) }
        products(x, [(packed, finish)], inputs: weight.inputs)
      } else {
        let layer = layer(weight.storage)
        finish.bias = layer.bias.map { UnsafePointer($0.floats) }
        product(x, layer, inputs: weight.inputs, finish: finish)
      }
    }
  }

  /// Where the modulation of row r of x begins.
  private func rowPointer(_ modulation: ModulationRow, width: Int) -> (Int) -> UnsafePointer<Float> {
    let table = floats(modulation.table)
    let groups = integers(modulation.groups)
    let rows = modulation.table.shape[1]
    precondition(modulation.table.shape[2] == width, "modulation \(modulation.table.shape) of rows of \(width)")
    return { r in UnsafePointer(table + (Int(groups[r]) * rows + modulation.row) * width) }
  }

  public func layerNorm(_ x: DeviceTensor, epsilon: Float, shift: ModulationRow, scale: ModulationRow) -> DeviceTensor {
    let width = x.shape.last ?? 1
    let (shiftOf, scaleOf) = (rowPointer(shift, width: width), rowPointer(scale, width: width))
    return withExtendedLifetime((shift, scale)) {
      normedRows(x, width: width) { row, out, source in
        lt_layer_norm_f32(out, source, scaleOf(row), 1, shiftOf(row), epsilon, Int32(width))
      }
    }
  }

  /// Rows that linear layers read next, and nothing else: in bf16 these would round float32 anyway. Bytes are made of what
  /// was not rounded before.
  private func normedRows(
    _ x: DeviceTensor, width: Int, _ norm: (Int, UnsafeMutablePointer<Float>, UnsafePointer<Float>) -> Void
  ) -> DeviceTensor {
    let rounds = precision == .bf16
    let out = make(x.shape, rounds ? .bf16 : .f32)
    let (source, result) = (floats(x), host(out.storage))
    let next = bytesForm(rows: x.count / width, width: width)
    withExtendedLifetime(x) {
      parallel(x.count / width, grain: 32) { range in
        withUnsafeTemporaryAllocation(of: Float.self, capacity: width) { buffer in
          guard let row = buffer.baseAddress else { return }
          for r in range {
            norm(r, rounds ? row : result.floats + r * width, source + r * width)
            if rounds { lt_round_bf16(result.halves + r * width, row, Int64(width)) }
            if let next, let scales = next.scales {
              lt_quantise_row_f32(
                scales.floats + r, next.bytes + r * width, result.floats + r * width, Int32(width))
            }
          }
        }
      }
    }
    if let next { host(out.storage).keep(next) }
    return out
  }

  public func layerNorm(_ x: DeviceTensor, epsilon: Float, weight: DeviceTensor, bias: DeviceTensor) -> DeviceTensor {
    let width = x.shape.last ?? 1
    precondition(
      weight.count == width && bias.count == width, "norm parameters of \(weight.count) for rows of \(width)")
    let (multiply, plus) = (floats(weight), floats(bias))
    return withExtendedLifetime((weight, bias)) {
      normedRows(x, width: width) { _, out, source in
        lt_layer_norm_f32(out, source, multiply, 0, plus, epsilon, Int32(width))
      }
    }
  }

  public func rmsNorm(_ x: DeviceTensor, epsilon: Float, weight: DeviceTensor, rotary: Rotary?) -> DeviceTensor {
    let width = x.shape.last ?? 1
    precondition(weight.count == width, "a norm weight of \(weight.count) for rows of \(width)")
    let out = make(x.shape)
    let (source, result, factors) = (floats(x), floats(out), floats(weight))
    let turn = rotary.map { (cosines: floats($0.cosines), sines: floats($0.sines), headDim: $0.headDim) }
    withExtendedLifetime((x, weight, rotary)) {
      parallel(x.count / width, grain: 32) { range in
        for r in range {
          lt_rms_norm_f32(result + r * width, source + r * width, factors, epsilon, Int32(width))
          guard let turn else { continue }
          let pairs = turn.headDim / 2
          for head in 0..<width / turn.headDim {
            lt_rotate_pairs_f32(
              result + r * width + head * turn.headDim, turn.cosines + r * pairs, turn.sines + r * pairs, Int32(pairs))
          }
        }
      }
    }
    return out
  }
}
