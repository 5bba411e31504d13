/// Philox 4x32 with ten rounds: a bijection of 128-bit counters under a 64-bit key, whose values are random numbers.
///
/// Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", 2011; checked against the known answers of
/// Random123.
public enum Philox {
  /// Four random words for one counter.
  @inlinable public static func words(
    counter: SIMD4<UInt32>, key: (UInt32, UInt32)
  ) -> SIMD4<UInt32> {
    var c = counter
    var (k0, k1) = key
    for _ in 0..<10 {
      let p0 = UInt64(0xD251_1F53) &* UInt64(c[0])
      let p1 = UInt64(0xCD9E_8D57) &* UInt64(c[2])
      c = SIMD4(
        UInt32(truncatingIfNeeded: p1 >> 32) ^ c[1] ^ k0, UInt32(truncatingIfNeeded: p1),
        UInt32(truncatingIfNeeded: p0 >> 32) ^ c[3] ^ k1, UInt32(truncatingIfNeeded: p0))
      k0 &+= 0x9E37_79B9
      k1 &+= 0xBB67_AE85
    }
    return c
  }
}
