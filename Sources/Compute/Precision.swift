import COneDNN

/// How exact the matrix products of a backend are. Sums, norms, softmax and modulation are float32 in each.
public enum Precision: String, Sendable, CaseIterable, Codable {
  /// float32 throughout: the path that agrees with the published PyTorch classes.
  case f32
  /// Weights, and what is multiplied with them, rounded to bfloat16.
  case bf16
  /// Weights of blocks in bytes with a scale for each output, their inputs in bytes with a scale for each row; all else
  /// as in ``bf16``.
  case int8

  /// Whether this build and this processor have it: float32 always, the others with oneDNN and AVX-512 BF16 (and VNNI).
  public var isSupported: Bool {
    switch self {
    case .f32: true
    case .bf16: lt_dnn_supports(Int32(LT_DNN_BF16)) != 0
    case .int8: lt_dnn_supports(Int32(LT_DNN_BF16)) != 0 && lt_dnn_supports(Int32(LT_DNN_INT8)) != 0
    }
  }

  /// The default: bf16 where there is hardware for it.
  public static var standard: Precision { bf16.isSupported ? .bf16 : .f32 }

  /// The library's name for its code for such products here, such as `brg:avx512_core_bf16`; nil for float32.
  public var implementation: String? {
    guard self != .f32, isSupported else { return nil }
    let type = self == .bf16 ? LT_DNN_BF16 : LT_DNN_INT8
    let zeros = [UInt16](repeating: 0, count: 64 * 64)
    return zeros.withUnsafeBytes { bytes in
      bytes.baseAddress.map { PackedMatrix($0, type: type, outputs: 64, inputs: 64).implementation(rows: 64) }
    }
  }

  /// The library behind the reduced precisions, such as `oneDNN 2.6.3`; nil if this was built without.
  public static var library: String? { lt_dnn_version().map { "oneDNN " + String(cString: $0) } }
}

/// What a linear layer is for.
public enum LinearRole: Sendable {
  /// A layer inside a block: one of many, where time is spent.
  case block
  /// A layer that everything passes through, such as the time embedding or the head: at least bfloat16.
  case sensitive
}
