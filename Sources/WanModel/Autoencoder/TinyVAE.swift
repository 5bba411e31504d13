import Compute
import Tensors

/// A tiny autoencoder of the TAEHV architecture (madebyollin/taehv): plain convolutions, and blocks that see their own
/// input one time step back. 4 x 8 x 8 pixels per latent position; pixels in 0...1.
public struct TinyVAE {
  /// By how much each decoder stage multiplies time.
  static let growth = [1, 2, 2]
  /// How many time steps each encoder stage merges.
  static let pooling = [2, 2, 1]

  public let configuration: TinyVAEConfiguration
  private let source: TinyVAESource

  /// Checks the weights; headers are enough.
  ///
  /// - Throws: ``ModelError/weights(module:label:missing:extra:misshapen:)``
  public init(_ configuration: TinyVAEConfiguration, weights source: any WeightSource, on backend: any Backend) throws {
    self.configuration = configuration
    self.source = TinyVAESource(weights: try configuration.weightTable.check(source), backend: backend)
  }

  /// A decoder at the start of a stream.
  public func makeDecoder() throws -> TinyVAEDecoder { try TinyVAEDecoder(configuration, source) }

  /// An encoder.
  public func makeEncoder() throws -> TinyVAEEncoder { try TinyVAEEncoder(configuration, source) }
}

/// Where the layers find their weights.
struct TinyVAESource {
  let weights: CheckedWeights
  let backend: any Backend

  func convolution(_ name: String, bias: Bool = true) throws -> ConvolutionWeight {
    backend.prepareConvolution(
      weight: try weights.tensor(name + ".weight"), bias: bias ? try weights.tensor(name + ".bias") : nil)
  }

  /// A 1x1 convolution `name`, into `growth` frames, and the 3x3 convolution `next` of each, which nothing stands between but
  /// a doubling of space: one convolution `[growth outputs, n, 3, 3]` that both make. Neither has a bias, so that a border of
  /// zeros stays one. A file may hold more growth in time than this decoder does; the last channels count.
  func growing(_ name: String, _ growth: Int, into next: String) throws -> Tensor {
    let (grow, out) = (try weights.tensor(name + ".weight"), try weights.tensor(next + ".weight"))
    let (outputs, width, taps) = (out.shape[0], out.shape[1], out.shape[2] * out.shape[3])
    let inputs = grow.shape[1]
    let first = grow.rows(grow.shape[0] - width * growth..<grow.shape[0]).floats()
    let second = out.floats()
    var joined = [Float](repeating: 0, count: growth * outputs * inputs * taps)
    var row = [Double](repeating: 0, count: inputs * taps)
    for frame in 0..<growth {
      for output in 0..<outputs {
        for i in row.indices { row[i] = 0 }
        for middle in 0..<width {
          for input in 0..<inputs {
            let factor = Double(first[(frame * width + middle) * inputs + input])
            for tap in 0..<taps {
              row[input * taps + tap] += factor * Double(second[(output * width + middle) * taps + tap])
            }
          }
        }
        let to = (frame * outputs + output) * inputs * taps
        for i in row.indices { joined[to + i] = Float(row[i]) }
      }
    }
    return Tensor(joined, shape: [growth * outputs, inputs, out.shape[2], out.shape[3]])
  }
}

/// `relu(C4 relu(C2 relu(C0 [x | past])) + x)`, past being the block's input one time step earlier, zeros at the start.
///
/// C0's convolution over [x | past] is one over two time steps, which is how it is stored here: `[n, n, 2, 3, 3]`, the
/// past first.
struct MemoryBlock: Sendable {
  let name: String
  let convolutions: [ConvolutionWeight]

  init(_ name: String, _ source: TinyVAESource) throws {
    self.name = name
    let joined = try source.weights.tensor("\(name).conv.0.weight")
    let (outputs, width, taps) = (joined.shape[0], joined.shape[1] / 2, joined.shape[2] * joined.shape[3])
    let values = joined.floats()
    var weight = [Float](repeating: 0, count: values.count)
    for output in 0..<outputs {
      for input in 0..<width {
        for tap in 0..<taps {
          let to = ((output * width + input) * 2) * taps + tap
          weight[to] = values[(output * 2 * width + width + input) * taps + tap]
          weight[to + taps] = values[(output * 2 * width + input) * taps + tap]
        }
      }
    }
    let first = source.backend.prepareConvolution(
      weight: Tensor(weight, shape: [outputs, width, 2, joined.shape[2], joined.shape[3]]),
      bias: try source.weights.tensor("\(name).conv.0.bias"))
    convolutions = [
      first, try source.convolution("\(name).conv.2"), try source.convolution("\(name).conv.4"),
    ]
  }

  /// x `[frames, h, w, n]`, the next frames of the stream.
  func forward(_ x: DeviceTensor, _ stream: inout VideoStreamState, _ backend: any Backend) -> DeviceTensor {
    let past = stream.history[name] ?? [backend.zeros([1] + x.shape.dropFirst())]
    stream.history[name] = [backend.lastFrame(of: x)]
    var y = backend.convolve(
      x, after: past, convolutions[0], stride: .one, padding: .all(1), activation: .relu)
    y = backend.convolve(y, after: [], convolutions[1], stride: .one, padding: .all(1), activation: .relu)
    return backend.convolve(
      y, after: [], convolutions[2], stride: .one, padding: .all(1), addedTo: x, activation: .relu)
  }
}
