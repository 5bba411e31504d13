import Foundation

/// The generator behind `torch.manual_seed(seed)` and `torch.randn(count)` on the CPU in float32.
///
/// The integer stream is PyTorch's exactly: MT19937 seeded with the low 32 bits. Normals follow `aten/src/ATen/native/cpu/
/// DistributionTemplates.h` and agree within 1e-6; the rest is the vectorised logarithm, sine and cosine of that library,
/// which differ in the last bits from one processor to another.
///
/// - At 16 elements and more, 24-bit uniforms are drawn for all elements, and groups of 16 become normals in place,
///   element `j` with element `j + 8`, by Box-Muller. If the count is no multiple of 16, the last 16 elements are drawn
///   again.
/// - Below 16, each element takes 53-bit uniforms in double precision, and the second normal of a pair is kept for later.
public struct TorchGenerator: Sendable, Codable, Equatable {
  private var state: [UInt32]
  private var next = 624
  private var spare: Double?

  public init(seed: UInt64) {
    state = [UInt32(truncatingIfNeeded: seed)]
    for i in 1..<624 {
      let previous = state[i - 1]
      state.append(1_812_433_253 &* (previous ^ previous >> 30) &+ UInt32(i))
    }
  }

  /// - Throws: `DecodingError` for a state that no generator has.
  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    state = try values.decode([UInt32].self, forKey: .state)
    next = try values.decode(Int.self, forKey: .next)
    spare = try values.decodeIfPresent(Double.self, forKey: .spare)
    guard state.count == 624, (0...624).contains(next) else {
      throw DecodingError.dataCorruptedError(
        forKey: .state, in: values, debugDescription: "\(state.count) words at \(next); MT19937 has 624")
    }
  }

  /// The next 32 random bits.
  public mutating func bits() -> UInt32 {
    if next == 624 { twist() }
    var y = state[next]
    next += 1
    y ^= y >> 11
    y ^= y << 7 & 0x9D2C_5680
    y ^= y << 15 & 0xEFC6_0000
    return y ^ y >> 18
  }

  /// Passes over `count` random words.
  public mutating func skip(_ count: Int) {
    var left = count
    while left > 0 {
      if next == 624 { twist() }
      let step = min(left, 624 - next)
      next += step
      left -= step
    }
  }

  /// What `torch.randn(count)` gives next.
  public mutating func normals(_ count: Int) -> [Float] {
    if count < 16 { return (0..<count).map { _ in small() } }
    var values = (0..<count).map { _ in uniform() }
    for start in stride(from: 0, through: count - 16, by: 16) { TorchGenerator.transform(&values, start) }
    if count % 16 != 0 {
      for i in count - 16..<count { values[i] = uniform() }
      TorchGenerator.transform(&values, count - 16)
    }
    return values
  }

  /// The number of random words that `normals(count)` uses, for 16 and more.
  static func words(of count: Int) -> Int { count % 16 == 0 ? count : count + 16 }

  /// Uniform on [0, 1) in steps of 2^-24.
  private mutating func uniform() -> Float { Float(bits() & 0xFF_FFFF) * 0x1p-24 }

  private mutating func wideUniform() -> Double {
    let high = UInt64(bits()) << 32
    return Double((high | UInt64(bits())) & (1 << 53 - 1)) * 0x1p-53
  }

  private mutating func small() -> Float {
    if let kept = spare {
      spare = nil
      return Float(kept)
    }
    let angle = 2 * Double.pi * wideUniform()
    let radius = (-2 * log1p(-wideUniform())).squareRoot()
    spare = radius * sin(angle)
    return Float(radius * cos(angle))
  }

  /// Sixteen uniforms from `start` become normals.
  private static func transform(_ values: inout [Float], _ start: Int) {
    for i in start..<start + 8 {
      let radius = (-2 * Float(log(Double(1 - values[i])))).squareRoot()
      // The angle is rounded to float32 as PyTorch has it, then taken exactly.
      let angle = Double(Float(2 * Double.pi) * values[i + 8])
      values[i] = radius * Float(cos(angle))
      values[i + 8] = radius * Float(sin(angle))
    }
  }

  private mutating func twist() {
    for i in 0..<624 {
      let y = state[i] & 0x8000_0000 | state[(i + 1) % 624] & 0x7FFF_FFFF
      state[i] = state[(i + 397) % 624] ^ y >> 1 ^ (y & 1 == 0 ? 0 : 0x9908_B0DF)
    }
    next = 0
  }
}
