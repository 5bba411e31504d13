import Compute
import Tensors

/// A causal convolution: what it sees of the past is the stream's history, zeros before the first frame.
struct CausalConvolution: Sendable {
  /// Key of the history, and name of the weights.
  let name: String
  let weight: ConvolutionWeight
  let padding: SpatialPadding

  init(_ name: String, _ source: WanVAESource) throws {
    self.name = name
    weight = try source.convolution(name, keepsSize: true)
    padding = .half(of: weight)
  }

  /// x `[frames, h, w, in]` → `[frames, h, w, out]`, added to `residual` if there is one.
  func forward(
    _ x: DeviceTensor, addedTo residual: DeviceTensor? = nil, _ stream: inout VideoStreamState, _ backend: any Backend
  ) -> DeviceTensor {
    let past = weight.kernel.frames - 1
    var history: DeviceTensor?
    if past > 0 {
      let seen = stream.history[name] ?? backend.zeros([past] + x.shape.dropFirst())
      stream.history[name] = backend.lastFrames(past, of: seen, then: x)
      history = seen
    }
    return backend.convolve(
      x, after: history, weight, stride: .one, padding: padding, addedTo: residual, activation: .none)
  }
}

/// norm, SiLU, convolution, twice, plus the input.
struct ResidualBlock: Sendable {
  let norm1, norm2: DeviceTensor
  let convolution1, convolution2: CausalConvolution
  let shortcut: CausalConvolution?

  init(_ name: String, changesWidth: Bool, _ source: WanVAESource) throws {
    norm1 = try source.vector("\(name).residual.0.gamma")
    convolution1 = try CausalConvolution("\(name).residual.2", source)
    norm2 = try source.vector("\(name).residual.3.gamma")
    convolution2 = try CausalConvolution("\(name).residual.6", source)
    shortcut = changesWidth ? try CausalConvolution("\(name).shortcut", source) : nil
  }

  func forward(_ x: DeviceTensor, _ stream: inout VideoStreamState, _ backend: any Backend) -> DeviceTensor {
    var y = backend.channelNorm(x, gamma: norm1, silu: true)
    y = convolution1.forward(y, &stream, backend)
    y = backend.channelNorm(y, gamma: norm2, silu: true)
    return convolution2.forward(y, addedTo: shortcut?.forward(x, &stream, backend) ?? x, &stream, backend)
  }
}

/// Attention among the positions of each frame, one head as wide as the map.
struct FrameAttention: Sendable {
  let norm: DeviceTensor
  let query, key, value, output: LinearWeight

  init(_ name: String, width: Int, _ source: WanVAESource) throws {
    norm = try source.vector("\(name).norm.gamma")
    // One 1x1 convolution makes all three; a 1x1 convolution is a linear layer of each position.
    let weight = try source.weights.tensor("\(name).to_qkv.weight")
    let bias = try source.weights.tensor("\(name).to_qkv.bias")
    let parts = (0..<3).map { part in
      let rows = part * width..<(part + 1) * width
      return source.backend.prepareLinear(weight: weight.rows(rows).reshaped([width, width]), bias: bias.rows(rows))
    }
    (query, key, value) = (parts[0], parts[1], parts[2])
    output = source.backend.prepareLinear(
      weight: try source.weights.tensor("\(name).proj.weight").reshaped([width, width]),
      bias: try source.weights.tensor("\(name).proj.bias"))
  }

  /// x `[frames, h, w, width]`.
  func forward(_ x: DeviceTensor, _ backend: any Backend) -> DeviceTensor {
    let (frames, positions, width) = (x.shape[0], x.shape[1] * x.shape[2], x.shape[3])
    let normed = backend.channelNorm(x, gamma: norm, silu: false).reshaped([frames * positions, width])
    let q = backend.linear(normed, query, activation: .none)
    let k = backend.linear(normed, key, activation: .none)
    let v = backend.linear(normed, value, activation: .none)
    let attended = (0..<frames).map { frame in
      let rows = frame * positions..<(frame + 1) * positions
      return backend.attention(
        queries: backend.slice(q, rows), keys: backend.slice(k, rows), values: backend.slice(v, rows), heads: 1,
        scale: 1 / Float(width).squareRoot(), bias: .none)
    }
    let rows = backend.linear(
      backend.concatenate(attended), output, addedTo: x.reshaped([frames * positions, width]), gate: nil)
    return rows.reshaped(x.shape)
  }
}

/// Halves space, then time if the level says so.
struct DownSampling: Sendable {
  let space: ConvolutionWeight
  let time: ConvolutionWeight?
  let name: String

  init(_ name: String, time: Bool, _ source: WanVAESource) throws {
    self.name = name
    space = try source.convolution("\(name).resample.1")
    self.time = time ? try source.convolution("\(name).time_conv") : nil
  }

  func forward(_ x: DeviceTensor, _ stream: inout VideoStreamState, _ backend: any Backend) -> DeviceTensor {
    // Zeros only below and to the right.
    let y = backend.convolve(
      x, after: nil, space, stride: ConvolutionStride(space: 2), padding: SpatialPadding(bottom: 1, right: 1),
      activation: .none)
    guard let time else { return y }
    // The first frame of a stream passes by; later frames come after the last one before them, without padding.
    let history = stream.history[name]
    stream.history[name] = backend.slice(y, y.shape[0] - 1..<y.shape[0])
    guard let history else { return y }
    return backend.convolve(
      y, after: history, time, stride: ConvolutionStride(frames: 2), padding: .all(0), activation: .none)
  }
}

/// Doubles time if the level says so, then space.
struct UpSampling: Sendable {
  let space: ConvolutionWeight
  let time: CausalConvolution?

  init(_ name: String, time: Bool, _ source: WanVAESource) throws {
    space = try source.convolution("\(name).resample.1", keepsSize: true)
    self.time = time ? try CausalConvolution("\(name).time_conv", source) : nil
  }

  func forward(_ x: DeviceTensor, _ stream: inout VideoStreamState, _ backend: any Backend) -> DeviceTensor {
    var y = x
    // The first latent frame is not doubled, and the doubling convolution never sees it: its history starts with zeros
    // at the second one.
    if let time, stream.frames > 0 { y = backend.channelsToFrames(time.forward(y, &stream, backend), 2) }
    return backend.convolveDoubled(y, space, activation: .none)
  }
}

/// One half of the autoencoder, from the first convolution to the last.
struct WanVAEHalf: Sendable {
  private enum Layer: Sendable {
    case residual(ResidualBlock)
    case attention(FrameAttention)
    case down(DownSampling)
    case up(UpSampling)
  }
  private let first, last: CausalConvolution
  private let layers: [Layer]
  private let norm: DeviceTensor

  init(_ half: WanVAELayout.Half, _ source: WanVAESource) throws {
    first = try CausalConvolution("\(half.name).conv1", source)
    layers = try half.layers.map { layer in
      switch layer.kind {
      case .residual(let input, let output):
        .residual(try ResidualBlock(layer.name, changesWidth: input != output, source))
      case .attention(let width): .attention(try FrameAttention(layer.name, width: width, source))
      case .down(_, let time): .down(try DownSampling(layer.name, time: time, source))
      case .up(_, _, let time): .up(try UpSampling(layer.name, time: time, source))
      }
    }
    norm = try source.vector("\(half.name).head.0.gamma")
    last = try CausalConvolution("\(half.name).head.2", source)
  }

  /// The next frames of a stream, `[frames, h, w, in]`.
  func forward(_ x: DeviceTensor, _ stream: inout VideoStreamState, _ backend: any Backend) -> DeviceTensor {
    let y = rest(0, first.forward(x, &stream, backend), &stream, backend)
    stream.frames += x.shape[0]
    return y
  }

  /// The layers from `start` on. Where a layer has doubled time, its frames go through the rest one after the other: the
  /// same numbers, since every later layer remembers what it saw, in a fraction of the memory.
  private func rest(
    _ start: Int, _ x: DeviceTensor, _ stream: inout VideoStreamState, _ backend: any Backend
  ) -> DeviceTensor {
    var y = x
    for i in start..<layers.count {
      switch layers[i] {
      case .residual(let block): y = block.forward(y, &stream, backend)
      case .attention(let block): y = block.forward(y, backend)
      case .down(let block): y = block.forward(y, &stream, backend)
      case .up(let block):
        let doubled = block.forward(y, &stream, backend)
        if doubled.shape[0] > y.shape[0] {
          let parts = (0..<doubled.shape[0]).map { frame in
            rest(i + 1, backend.slice(doubled, frame..<frame + 1), &stream, backend)
          }
          return backend.concatenate(parts)
        }
        y = doubled
      }
    }
    return last.forward(backend.channelNorm(y, gamma: norm, silu: true), &stream, backend)
  }
}

/// Where the layers find their weights, by original names.
struct WanVAESource {
  let weights: CheckedWeights
  let backend: any Backend

  func convolution(_ name: String, keepsSize: Bool = false) throws -> ConvolutionWeight {
    backend.prepareConvolution(
      weight: try weights.tensor(name + ".weight"), bias: try weights.tensor(name + ".bias"), keepsSize: keepsSize)
  }

  /// A gain `[C, 1, 1]` or `[C, 1, 1, 1]` as `[C]`.
  func vector(_ name: String) throws -> DeviceTensor {
    let gain = try weights.tensor(name)
    return backend.upload(gain.reshaped([gain.count]))
  }
}

extension Backend {
  /// The last n frames of x, of `history` and x together if x is shorter.
  func lastFrames(_ n: Int, of history: DeviceTensor, then x: DeviceTensor) -> DeviceTensor {
    let frames = x.shape[0]
    if frames == n { return x }
    if frames > n { return slice(x, frames - n..<frames) }
    let kept = history.shape[0]
    return concatenate([slice(history, kept - (n - frames)..<kept), x])
  }
}
