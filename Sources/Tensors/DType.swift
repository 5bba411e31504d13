/// Element types that checkpoints, latents and token ids come in.
public enum DType: String, Sendable, Hashable, CaseIterable {
  case f32, bf16, f16, i8, u8, i32, i64

  /// Bytes of one element.
  public var size: Int {
    switch self {
    case .i8, .u8: 1
    case .bf16, .f16: 2
    case .f32, .i32: 4
    case .i64: 8
    }
  }
}

/// bfloat16 is the upper half of a float32.
public enum BFloat16 {
  /// The float32 of a bfloat16's bits; exact.
  @inlinable public static func decode(_ bits: UInt16) -> Float { Float(bitPattern: UInt32(bits) << 16) }

  /// Rounds to nearest, ties to even; NaN stays NaN.
  @inlinable public static func encode(_ value: Float) -> UInt16 {
    if value.isNaN { return 0x7FC0 }
    let bits = value.bitPattern
    return UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ ((bits >> 16) & 1)) >> 16)
  }
}

/// IEEE half precision, converted by hand because `Float16` is not available on every platform that Swift runs on.
public enum Float16Bits {
  /// The float32 of a half's bits; exact, subnormals included.
  public static func decode(_ half: UInt16) -> Float {
    let sign = UInt32(half >> 15) << 31
    let exponent = UInt32(half >> 10) & 0x1F
    let fraction = UInt32(half) & 0x3FF
    if exponent == 0x1F { return Float(bitPattern: sign | 0x7F80_0000 | fraction << 13) }
    if exponent == 0 {
      let magnitude = Float(fraction) * 0x1p-24
      return sign == 0 ? magnitude : -magnitude
    }
    return Float(bitPattern: sign | (exponent + 112) << 23 | fraction << 13)
  }

  /// Rounds to nearest, ties to even; overflow gives infinity.
  public static func encode(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    let sign = UInt16(bits >> 16) & 0x8000
    let magnitude = bits & 0x7FFF_FFFF
    if magnitude > 0x7F80_0000 { return sign | 0x7E00 }
    if magnitude >= 0x4780_0000 { return sign | 0x7C00 }
    if magnitude < 0x3880_0000 {
      // Subnormal: scale so that the unit in the last place is one, and let the float unit round.
      return sign | UInt16((Float(bitPattern: magnitude) * 0x1p24).rounded(.toNearestOrEven))
    }
    let rounded = magnitude &+ 0xFFF &+ ((magnitude >> 13) & 1)
    return sign | UInt16((rounded >> 13) &- (112 << 10))
  }
}
