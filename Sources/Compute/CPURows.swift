import CBLAS
import CKernels

// Linear layers and norms over rows.
extension CPUBackend {
  /// Rows and output columns of one part of a matrix product. Fixed, so that results do not depend on threads.
  private static let panelRows = 128
  private static let panelColumns = 512

  /// `out = x W^T` in panels, each followed by `finish(first row, rows, first column, columns)` while it is in cache.
  private func product(
    _ x: UnsafePointer<Float>, rows: Int, inputs: Int, _ weight: UnsafePointer<Float>, outputs: Int,
    into out: UnsafeMutablePointer<Float>, finish: (_ row: Int, _ column: Int, _ columns: Int) -> Void
  ) {
    let down = (rows + CPUBackend.panelRows - 1) / CPUBackend.panelRows
    let across = (outputs + CPUBackend.panelColumns - 1) / CPUBackend.panelColumns
    workers.run(parts: down * across) { part in
      let row = part / across * CPUBackend.panelRows
      let column = part % across * CPUBackend.panelColumns
      let height = min(CPUBackend.panelRows, rows - row)
      let width = min(CPUBackend.panelColumns, outputs - column)
      CPUBackend.multiply(
        x + row * inputs, stride: inputs, rows: height, inputs: inputs, weight + column * inputs, outputs: width,
        into: out + row * outputs + column, outputStride: outputs)
      for r in row..<row + height { finish(r, column, width) }
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
    let rows = x.count / weight.inputs
    precondition(x.shape.last == weight.inputs, "rows \(x.shape) for a layer of \(weight.inputs) inputs")
    let out = make(x.shape.dropLast() + [weight.outputs])
    let layer = layer(weight.storage)
    let (result, bias, kind) = (floats(out), layer.bias?.floats, activation.code)
    withExtendedLifetime((x, weight)) {
      product(floats(x), rows: rows, inputs: weight.inputs, layer.weight.floats, outputs: weight.outputs, into: result)
      {
        row, column, columns in
        lt_bias_activate_f32(result + row * weight.outputs + column, bias.map { $0 + column }, Int64(columns), kind)
      }
    }
    return out
  }

  public func linear(
    _ x: DeviceTensor, _ weight: LinearWeight, addedTo residual: DeviceTensor, gate: ModulationRow?
  ) -> DeviceTensor {
    let rows = x.count / weight.inputs
    precondition(x.shape.last == weight.inputs, "rows \(x.shape) for a layer of \(weight.inputs) inputs")
    precondition(residual.count == rows * weight.outputs, "residual \(residual.shape) of \(rows) x \(weight.outputs)")
    let out = make(residual.shape)
    let layer = layer(weight.storage)
    let (result, bias, base) = (floats(out), layer.bias?.floats, floats(residual))
    let gateOf = gate.map { rowPointer($0, width: weight.outputs) }
    withExtendedLifetime((x, weight, residual, gate)) {
      product(floats(x), rows: rows, inputs: weight.inputs, layer.weight.floats, outputs: weight.outputs, into: result)
      {
        row, column, columns in
        let start = row * weight.outputs + column
        lt_bias_gate_add_f32(
          result + start, bias.map { $0 + column }, gateOf.map { $0(row) + column }, base + start, Int64(columns))
      }
    }
    return out
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
    let out = make(x.shape)
    let (source, result) = (floats(x), floats(out))
    let (shiftOf, scaleOf) = (rowPointer(shift, width: width), rowPointer(scale, width: width))
    withExtendedLifetime((x, shift, scale)) {
      parallel(x.count / width, grain: 32) { range in
        for r in range {
          lt_layer_norm_f32(result + r * width, source + r * width, scaleOf(r), 1, shiftOf(r), epsilon, Int32(width))
        }
      }
    }
    return out
  }

  public func layerNorm(_ x: DeviceTensor, epsilon: Float, weight: DeviceTensor, bias: DeviceTensor) -> DeviceTensor {
    let width = x.shape.last ?? 1
    precondition(
      weight.count == width && bias.count == width, "norm parameters of \(weight.count) for rows of \(width)")
    let out = make(x.shape)
    let (source, result, multiply, plus) = (floats(x), floats(out), floats(weight), floats(bias))
    withExtendedLifetime((x, weight, bias)) {
      parallel(x.count / width, grain: 32) { range in
        for r in range {
          lt_layer_norm_f32(result + r * width, source + r * width, multiply, 0, plus, epsilon, Int32(width))
        }
      }
    }
    return out
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

extension Activation {
  /// The number that the C kernels know it by.
  var code: Int32 {
    switch self {
    case .none: Int32(LT_NONE)
    case .relu: Int32(LT_RELU)
    case .silu: Int32(LT_SILU)
    case .geluTanh: Int32(LT_GELU_TANH)
    case .softClamp3: Int32(LT_SOFT_CLAMP_3)
    }
  }
}
