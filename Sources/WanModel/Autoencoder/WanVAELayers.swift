import Compute
import Tensors

/// A causal convolution: zeros before the first frame of a stream.
///
/// What it needs of the past is the stream's history: the last input frames, or, where there are fewer outputs than inputs
/// (the last layer), the sums that those frames add to the next outputs: 3 channels of pixels instead of 96.
struct CausalConvolution: Sendable {
  /// Key of the history, and name of the weights.
  let name: String
  private let past: Int
  private let padding: SpatialPadding
  private let form: Form

  private enum Form: Sendable {
    case frames(ConvolutionWeight)
    /// A weight for each time tap, that of the newest frame first.
    case sums([ConvolutionWeight])
  }

  /// - Parameter isSmall: Of maps as small as the latents, where the weights weigh more than the work: they are kept as they
  ///   are, without what the backend could add to make larger maps faster.
  init(_ name: String, isSmall: Bool = false, _ source: WanVAESource) throws {
    self.name = name
    let shape = try source.weights.tensor(name + ".weight").shape
    past = shape.count == 5 ? shape[2] - 1 : 0
    if past > 0, 2 * shape[0] <= shape[1] {
      let taps = try source.convolutionTaps(name)
      form = .sums(taps.reversed())
      padding = .half(of: taps[0])
    } else {
      let weight = try source.convolution(name, keepsSize: !isSmall)
      form = .frames(weight)
      padding = .half(of: weight)
    }
  }

  /// x `[frames, h, w, in]` → `[frames, h, w, out]`, added to `residual` if there is one.
  func forward(
    _ x: DeviceTensor, addedTo residual: DeviceTensor? = nil, _ stream: inout VideoStreamState, _ backend: any Backend
  ) -> DeviceTensor {
    switch form {
    case .frames(let weight): frames(x, weight, residual, &stream, backend)
    case .sums(let taps): sums(x, taps, residual, &stream, backend)
    }
  }

  private func frames(
    _ x: DeviceTensor, _ weight: ConvolutionWeight, _ residual: DeviceTensor?, _ stream: inout VideoStreamState,
    _ backend: any Backend
  ) -> DeviceTensor {
    var history: [DeviceTensor] = []
    if past > 0 {
      // A stream that was stored comes back in float32.
      history = (stream.history.removeValue(forKey: name) ?? []).map { backend.remembered($0, for: weight) }
      if history.isEmpty {
        let nothing = backend.remembered(backend.zeros([1] + x.shape.dropFirst()), for: weight)
        history = [DeviceTensor](repeating: nothing, count: past)
      }
    }
    let y = backend.convolve(
      x, after: history, weight, stride: .one, padding: padding, addedTo: residual, activation: .none)
    if past > 0 {
      // The oldest goes before the newest is made: at full size each takes tens of megabytes.
      let new = min(past, x.shape[0])
      history.removeFirst(new)
      history += backend.eachFrame(of: x).suffix(new).map { backend.remembered($0, for: weight) }
      stream.history[name] = history
    }
    return y
  }

  private func sums(
    _ x: DeviceTensor, _ taps: [ConvolutionWeight], _ residual: DeviceTensor?, _ stream: inout VideoStreamState,
    _ backend: any Backend
  ) -> DeviceTensor {
    // Of the next frame, the one behind it, and so on; none before the first frame.
    var waiting = stream.history.removeValue(forKey: name) ?? []
    let parts = backend.eachFrame(of: x).map { frame in
      let sums = taps.enumerated().map { age, weight in
        backend.convolve(
          frame, after: [], weight, stride: .one, padding: padding, addedTo: age < waiting.count ? waiting[age] : nil,
          activation: .none)
      }
      waiting = Array(sums.dropFirst())
      return sums[0]
    }
    stream.history[name] = waiting
    let y = backend.concatenate(parts)
    return residual.map { backend.add(y, $0) } ?? y
  }
}

/// norm, SiLU, convolution, twice, plus the input.
struct ResidualBlock: Sendable {
  let norm1, norm2: DeviceTensor
  let convolution1, convolution2: CausalConvolution
  let shortcut: CausalConvolution?

  init(_ name: String, changesWidth: Bool, isSmall: Bool, _ source: WanVAESource) throws {
    norm1 = try source.vector("\(name).residual.0.gamma")
    convolution1 = try CausalConvolution("\(name).residual.2", isSmall: isSmall, source)
    norm2 = try source.vector("\(name).residual.3.gamma")
    convolution2 = try CausalConvolution("\(name).residual.6", isSmall: isSmall, source)
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
      x, after: [], space, stride: ConvolutionStride(space: 2), padding: SpatialPadding(bottom: 1, right: 1),
      activation: .none)
    guard let time else { return y }
    // The first frame of a stream passes by; later frames come after the last one before them, without padding.
    let history = stream.history[name]
    stream.history[name] = [backend.lastFrame(of: y)]
    guard let history else { return y }
    return backend.convolve(
      y, after: history, time, stride: ConvolutionStride(frames: 2), padding: .all(0), activation: .none)
  }
}

/// Doubles time if the level says so, and space.
struct UpSampling: Sendable {
  let space: ConvolutionWeight
  let time: CausalConvolution?

  init(_ name: String, time: Bool, _ source: WanVAESource) throws {
    space = try source.convolution("\(name).resample.1", keepsSize: true)
    self.time = time ? try CausalConvolution("\(name).time_conv", source) : nil
  }

  /// x `[frames, h, w, in]`, twice as many frames, or as many.
  func doubleTime(_ x: DeviceTensor, _ stream: inout VideoStreamState, _ backend: any Backend) -> DeviceTensor {
    // The first latent frame is not doubled, and the doubling convolution never sees it: its history starts with zeros
    // at the second one.
    guard let time, stream.frames > 0 else { return x }
    return backend.channelsToFrames(time.forward(x, &stream, backend), 2)
  }

  /// x `[frames, h, w, in]` → `[frames, 2 h, 2 w, out]`.
  func doubleSpace(_ x: DeviceTensor, _ backend: any Backend) -> DeviceTensor {
    backend.convolveDoubled(x, space, activation: .none)
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
    // Of the decoder what comes before the first doubling, of the encoder what follows the last halving.
    let isSmall = half.layers.indices.map { i in
      !half.layers[..<i].contains { if case .up = $0.kind { true } else { false } }
        && !half.layers[i...].contains { if case .down = $0.kind { true } else { false } }
    }
    layers = try zip(half.layers, isSmall).map { layer, isSmall in
      switch layer.kind {
      case .residual(let input, let output):
        .residual(try ResidualBlock(layer.name, changesWidth: input != output, isSmall: isSmall, source))
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
    _ start: Int, _ x: consuming DeviceTensor, _ stream: inout VideoStreamState, _ backend: any Backend
  ) -> DeviceTensor {
    var y = consume x
    for i in start..<layers.count {
      switch layers[i] {
      case .residual(let block): y = block.forward(y, &stream, backend)
      case .attention(let block): y = block.forward(y, backend)
      case .down(let block): y = block.forward(y, &stream, backend)
      case .up(let block):
        let frames = block.doubleTime(y, &stream, backend)
        if frames.shape[0] == 1 {
          y = block.doubleSpace(consume frames, backend)
          // What this level's maps leave is of no use to the next one's, which are four times as large, nor theirs to it.
          backend.releaseUnusedMemory()
          continue
        }
        // A map is let go as soon as it is read.
        var waiting = backend.eachFrame(of: consume frames)
        var parts: [DeviceTensor] = []
        while !waiting.isEmpty {
          let doubled = block.doubleSpace(waiting.removeFirst(), backend)
          backend.releaseUnusedMemory()
          parts.append(rest(i + 1, consume doubled, &stream, backend))
          backend.releaseUnusedMemory()
        }
        return backend.concatenate(parts)
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

  /// A weight for each time tap, that of the oldest frame first; the newest one's has the bias.
  func convolutionTaps(_ name: String) throws -> [ConvolutionWeight] {
    let weight = try weights.tensor(name + ".weight")
    let (shape, values) = (weight.shape, weight.floats())
    let (pairs, taps, kernel) = (shape[0] * shape[1], shape[2], shape[3] * shape[4])
    return try (0..<taps).map { tap in
      var one: [Float] = []
      for pair in 0..<pairs {
        let first = (pair * taps + tap) * kernel
        one += values[first..<first + kernel]
      }
      return backend.prepareConvolution(
        weight: Tensor(one, shape: [shape[0], shape[1], 1, shape[3], shape[4]]),
        bias: tap == taps - 1 ? try weights.tensor(name + ".bias") : nil)
    }
  }

  /// A gain `[C, 1, 1]` or `[C, 1, 1, 1]` as `[C]`.
  func vector(_ name: String) throws -> DeviceTensor {
    let gain = try weights.tensor(name)
    return backend.upload(gain.reshaped([gain.count]))
  }
}

extension Backend {
  /// The frames of `[n, h, w, channels]`, `[1, h, w, channels]` each.
  func eachFrame(of x: DeviceTensor) -> [DeviceTensor] {
    x.shape[0] == 1 ? [x] : (0..<x.shape[0]).map { slice(x, $0..<$0 + 1) }
  }

  /// The last frame of `[n, h, w, channels]`.
  func lastFrame(of x: DeviceTensor) -> DeviceTensor {
    x.shape[0] == 1 ? x : slice(x, x.shape[0] - 1..<x.shape[0])
  }
}
