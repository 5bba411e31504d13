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

  /// A 1x1 convolution into `outputs` channels. A file may hold more, for growth in time that this decoder does not do;
  /// the last ones count.
  func growth(_ name: String, outputs: Int) throws -> ConvolutionWeight {
    let weight = try weights.tensor(name + ".weight")
    return backend.prepareConvolution(weight: weight.rows(weight.shape[0] - outputs..<weight.shape[0]), bias: nil)
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
    let past = stream.history[name] ?? backend.zeros([1] + x.shape.dropFirst())
    stream.history[name] = backend.lastFrames(1, of: past, then: x)
    var y = backend.convolve(
      x, after: past, convolutions[0], stride: .one, padding: .all(1), activation: .relu)
    y = backend.convolve(y, after: nil, convolutions[1], stride: .one, padding: .all(1), activation: .relu)
    return backend.convolve(
      y, after: nil, convolutions[2], stride: .one, padding: .all(1), addedTo: x, activation: .relu)
  }
}
