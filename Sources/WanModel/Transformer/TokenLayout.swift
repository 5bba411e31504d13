import Compute
import SparseAttention
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// How the numbers of a chunk's latents become tokens in page order and come back: two index lists, uploaded once.
public struct TokenLayout: Sendable {
  /// Latent frames of the chunk.
  public let frames: Int
  /// Tokens in page order.
  let tokens: [TokenPosition]
  /// `[tokens]`: the frame of each token.
  let frameOfToken: DeviceIndices
  /// `[tokens, 4 inputChannels]` into the latents: patches of 2 x 2, channel slowest (the order of a convolution weight).
  let patches: DeviceIndices
  /// `[frames, outputChannels, height, width]` into the head's rows `[tokens, 4 outputChannels]`, channel fastest.
  let pixels: DeviceIndices

  init(geometry: PageGeometry, frames: Int, configuration: TransformerConfiguration, on backend: any Backend) {
    self.frames = frames
    tokens = geometry.tokens(frames: frames)
    let (height, width) = (2 * geometry.rows, 2 * geometry.columns)
    let (inputs, outputs) = (configuration.inputChannels, configuration.outputChannels)
    var patches = [Int32]()
    patches.reserveCapacity(tokens.count * 4 * inputs)
    var pixels = [Int32](repeating: -1, count: frames * outputs * height * width)
    for (t, token) in tokens.enumerated() {
      for c in 0..<inputs {
        for (py, px) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
          let row = (token.frame * inputs + c) * height + 2 * token.row + py
          patches.append(Int32(row * width + 2 * token.column + px))
        }
      }
      for (corner, (py, px)) in [(0, 0), (0, 1), (1, 0), (1, 1)].enumerated() {
        for c in 0..<outputs {
          let row = (token.frame * outputs + c) * height + 2 * token.row + py
          pixels[row * width + 2 * token.column + px] = Int32((t * 4 + corner) * outputs + c)
        }
      }
    }
    frameOfToken = backend.upload(indices: tokens.map { Int32($0.frame) }, shape: [tokens.count])
    self.patches = backend.upload(indices: patches, shape: [tokens.count, 4 * inputs])
    self.pixels = backend.upload(indices: pixels, shape: [frames, outputs, height, width])
  }
}

/// The embedding of timesteps before the time MLP: cosines first, then sines, frequencies 10000^(-i / half)
/// (`wan/modules/model.py`, sinusoidal_embedding_1d).
enum TimeSinusoid {
  /// `[timesteps, count]`
  static func rows(_ timesteps: [Float], count: Int) -> Tensor {
    let half = count / 2
    let values = timesteps.flatMap { t -> [Float] in
      let angles = (0..<half).map { Double(t) * pow(10_000, -Double($0) / Double(half)) }
      return angles.map { Float(cos($0)) } + angles.map { Float(sin($0)) }
    }
    return Tensor(values, shape: [timesteps.count, 2 * half])
  }
}

enum Logarithm {
  static func natural(_ n: Int) -> Float { Float(log(Double(n))) }
}
