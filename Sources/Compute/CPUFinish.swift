import CKernels

/// What a matrix product is followed by, while its sums are in cache:
/// `activation(residual + gate * (scale * sums + bias))`.
///
/// Holds addresses: made inside one operation, whose tensors outlive it.
struct Finish {
  /// Columns of a whole row of the output, and of the residual.
  let width: Int
  var bias: UnsafePointer<Float>?
  /// Scales of int8 weights, one per column.
  var columnScales: UnsafePointer<Float>?
  var gate: Gate?
  var residual: HostStorage?
  var activation = Activation.none
  let out: HostStorage

  /// One row of modulation per group of rows.
  struct Gate {
    let table: UnsafePointer<Float>
    let groups: UnsafePointer<Int32>
    let stride: Int
  }

  /// Finishes a part of the output.
  ///
  /// - Parameters:
  ///   - sums: Of row `row` and column `column` first, `stride` floats between rows. May be the output itself.
  ///   - rowScales: Scales of int8 rows, that of row `row` first.
  func apply(
    _ sums: UnsafePointer<Float>, stride: Int, row: Int, rows: Int, column: Int, columns: Int,
    rowScales: UnsafePointer<Float>? = nil
  ) {
    let start = row * width + column
    var a = lt_finish_arguments()
    (a.sums, a.sum_stride, a.rows, a.columns) = (sums, stride, Int32(rows), Int32(columns))
    (a.row_scales, a.column_scales, a.bias) = (rowScales, columnScales.map { $0 + column }, bias.map { $0 + column })
    if let gate { (a.gates, a.groups, a.gate_stride) = (gate.table + column, gate.groups + row, gate.stride) }
    if let residual {
      if residual.form == .bf16 {
        a.residual_bf16 = UnsafePointer(residual.halves + start)
      } else {
        a.residual = UnsafePointer(residual.floats + start)
      }
    }
    a.activation = activation.code
    if out.form == .bf16 { a.out_bf16 = out.halves + start } else { a.out = out.floats + start }
    a.out_stride = width
    lt_finish_rows(&a)
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
