import Compute
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Rotary embedding of (frame, row, column), interleaved pairs, each axis with its own channels and frequencies
/// (Wan 2.1; `wan/modules/model.py`, rope_params and rope_apply).
///
/// Of D channels the axes row and column take 2 * floor(D / 6) each and time the rest: 44, 42, 42 of 128. Pair p of an
/// axis with n channels turns by `position * 10000^(-2p / n)`. Angles are computed in double precision for any position,
/// so there is no table that a long rollout could leave.
public struct RotaryEmbedding: Sendable, Equatable {
  public let headDim: Int
  /// Channels that turn with time, the first of each head.
  public let temporalChannels: Int
  /// Channels that turn with the row, and as many with the column.
  public let spatialChannels: Int

  public init(headDim: Int) {
    self.headDim = headDim
    spatialChannels = headDim / 6 * 2
    temporalChannels = headDim - 2 * spatialChannels
  }

  /// Angles of one axis of `channels` channels at `position`, in radians, one per pair.
  static func angles(_ position: Int, channels: Int) -> [Double] {
    (0..<channels / 2).map { Double(position) * pow(10_000, -2 * Double($0) / Double(channels)) }
  }

  /// Cosines and sines for tokens in page order; `framePositions[f]` is the temporal position of the chunk's frame f.
  /// Result: `[tokens, headDim / 2]` each.
  public func rotary(_ tokens: [TokenPosition], framePositions: [Int], on backend: any Backend) -> Rotary {
    func table(_ count: Int, _ channels: Int, _ position: (Int) -> Int) -> [[Double]] {
      (0..<count).map { RotaryEmbedding.angles(position($0), channels: channels) }
    }
    let time = table(framePositions.count, temporalChannels) { framePositions[$0] }
    let side = 1 + (tokens.map { max($0.row, $0.column) }.max() ?? 0)
    let space = table(side, spatialChannels) { $0 }
    // The turns of each axis once, not of each token.
    func turns(_ function: (Double) -> Double) -> DeviceTensor {
      let (time, space) = (time.map { $0.map { Float(function($0)) } }, space.map { $0.map { Float(function($0)) } })
      var rows: [Float] = []
      rows.reserveCapacity(tokens.count * headDim / 2)
      for token in tokens {
        rows += time[token.frame]
        rows += space[token.row]
        rows += space[token.column]
      }
      return backend.upload(Tensor(rows, shape: [tokens.count, headDim / 2]))
    }
    return Rotary(cosines: turns { cos($0) }, sines: turns { sin($0) }, headDim: headDim)
  }

  /// Turns of the temporal channels alone, one row per position.
  func temporal(_ positions: Range<Int>, on backend: any Backend) -> Rotary {
    make(
      positions.map { RotaryEmbedding.angles($0, channels: temporalChannels) }, headDim: temporalChannels, on: backend)
  }

  private func make(_ angles: [[Double]], headDim: Int, on backend: any Backend) -> Rotary {
    let flat = angles.joined()
    let shape = [angles.count, headDim / 2]
    return Rotary(
      cosines: backend.upload(Tensor(flat.map { Float(cos($0)) }, shape: shape)),
      sines: backend.upload(Tensor(flat.map { Float(sin($0)) }, shape: shape)), headDim: headDim)
  }
}

/// What temporal position a key has.
public enum PositionMode: String, Sendable, Codable, CaseIterable {
  /// Its frame's index since the start of the video.
  case absolute
  /// Its rank among the frames in memory, renewed once per chunk.
  case window
}
