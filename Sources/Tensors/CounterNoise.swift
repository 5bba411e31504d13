import Foundation

/// The default noise: each element is a function of (seed, purpose, chunk, step, place), so that a rollout can be resumed,
/// split or edited at any chunk, in any order and on any number of threads, and continues exactly.
///
/// Element `4 b + j` of a tensor, counted in row-major order, is normal number `j` of the Philox counter
/// `(b, step, chunk, purpose)` under the key `seed`. Words `(w0, w1)` and `(w2, w3)` give a pair each by Box-Muller:
/// `u = (w + 1/2) / 2^32`, `r = sqrt(-2 ln u0)`, `(r cos 2 pi u1, r sin 2 pi u1)`, in double precision, then rounded.
/// The largest magnitude is 6.7.
public struct CounterNoise: ChunkNoise, Codable, Equatable {
  /// What numbers are for; the same (chunk, step) never gives the same numbers for two purposes.
  public enum Purpose: UInt32, Sendable {
    case initial = 0
    case renoise = 1
    case context = 2
  }

  public let seed: UInt64

  public init(seed: UInt64) { self.seed = seed }

  public mutating func initial(chunk: Int, frames: Int, channels: Int, height: Int, width: Int) -> Tensor {
    normals(.initial, chunk: chunk, step: 0, shape: [frames, channels, height, width])
  }

  public mutating func renoise(
    chunk: Int, step: Int, frames: Int, channels: Int, height: Int, width: Int
  ) -> Tensor {
    normals(.renoise, chunk: chunk, step: step, shape: [frames, channels, height, width])
  }

  public mutating func context(chunk: Int, frames: Int, channels: Int, height: Int, width: Int) -> Tensor? {
    normals(.context, chunk: chunk, step: 0, shape: [frames, channels, height, width])
  }

  /// Standard normals in float32 for `chunk` and `step` (both below 2^32), at most 2^34 elements.
  public func normals(_ purpose: Purpose, chunk: Int, step: Int, shape: [Int]) -> Tensor {
    Tensor(dtype: .f32, shape: shape) { memory in
      let out = memory.bindMemory(to: Float.self)
      precondition(out.count <= 1 << 34, "\(out.count) elements; one tensor of noise has at most 2^34")
      let key = (UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32))
      var counter = SIMD4(0, UInt32(step), UInt32(chunk), purpose.rawValue)
      for start in stride(from: 0, to: out.count, by: 4) {
        counter[0] = UInt32(start / 4)
        let words = Philox.words(counter: counter, key: key)
        let (a, b) = CounterNoise.pair(words[0], words[1])
        let (c, d) = CounterNoise.pair(words[2], words[3])
        let block = SIMD4(a, b, c, d)
        for i in 0..<min(4, out.count - start) { out[start + i] = block[i] }
      }
    }
  }

  @inline(__always) private static func pair(_ w0: UInt32, _ w1: UInt32) -> (Float, Float) {
    let radius = (-2 * log((Double(w0) + 0.5) * 0x1p-32)).squareRoot()
    let angle = 2 * Double.pi * ((Double(w1) + 0.5) * 0x1p-32)
    return (Float(radius * cos(angle)), Float(radius * sin(angle)))
  }
}
