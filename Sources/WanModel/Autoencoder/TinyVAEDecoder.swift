import Compute
import Tensors

/// The streaming decoder of TAEHV: every latent frame makes four raw frames, of which the stream's first three are
/// dropped, so that frames fall where the Wan autoencoder puts them.
public final class TinyVAEDecoder: VideoDecoder {
  public let latentChannels: Int
  public let framesPerLatent = TinyVAE.growth.reduce(1, *)
  public let pixelsPerLatent = 1 << TinyVAE.growth.count
  public var state = VideoStreamState()

  private struct Stage: Sendable {
    let blocks: [MemoryBlock]
    let growth: Int
    // Growth in time and the convolution behind the doubling of space, as one: [growth next, n, 3, 3].
    let out: ConvolutionWeight
  }
  private let backend: any Backend
  private let first, last: ConvolutionWeight
  private let stages: [Stage]
  private let scaling: (deviation: DeviceTensor, mean: DeviceTensor)?

  init(_ configuration: TinyVAEConfiguration, _ source: TinyVAESource) throws {
    backend = source.backend
    latentChannels = configuration.latentChannels
    first = try source.convolution("decoder.1")
    stages = try TinyVAE.growth.enumerated().map { stage, growth in
      let start = 3 + 6 * stage
      return Stage(
        blocks: try (start..<start + 3).map { try MemoryBlock("decoder.\($0)", source) }, growth: growth,
        out: source.backend.prepareDoubledConvolution(
          weight: try source.growing("decoder.\(start + 4).conv", growth, into: "decoder.\(start + 5)"),
          frames: growth))
    }
    last = try source.convolution("decoder.22")
    if let mean = configuration.mean, let deviation = configuration.deviation {
      scaling = (
        backend.upload(Tensor(deviation, shape: [deviation.count])), backend.upload(Tensor(mean, shape: [mean.count]))
      )
    } else {
      scaling = nil
    }
  }

  public func operations(height: Int, width: Int) -> Double {
    func of(_ weight: ConvolutionWeight) -> Double {
      Double(weight.inputs * weight.outputs * weight.kernel.frames * weight.kernel.rows * weight.kernel.columns)
    }
    var (positions, frames, sum) = (Double(height * width), 1.0, 0.0)
    sum += positions * of(first)
    for stage in stages {
      sum += positions * frames * stage.blocks.flatMap(\.convolutions).reduce(0) { $0 + of($1) }
      positions *= 4
      // The weight holds the frames that come out of one.
      sum += positions * frames * of(stage.out)
      frames *= Double(stage.growth)
    }
    return 2 * (sum + positions * frames * of(last))
  }

  public func reset() { state = VideoStreamState() }

  /// See ``VideoDecoder/decode(_:)``.
  public func decode(_ latents: DeviceTensor) throws -> DeviceTensor {
    precondition(
      latents.shape.count == 4 && latents.shape[0] > 0 && latents.shape[1] == latentChannels,
      "latents \(latents.shape), wanted [frames, \(latentChannels), h, w]")
    var rows = backend.channelsLast(latents)
    if let scaling { rows = backend.scaleChannels(rows, scale: scaling.deviation, shift: scaling.mean) }
    let parts = (0..<latents.shape[0]).map { frame in
      let pixels = raw(backend.slice(rows, frame..<frame + 1))
      let kept = state.frames == 0 ? backend.slice(pixels, framesPerLatent - 1..<framesPerLatent) : pixels
      state.frames += 1
      return backend.clamp(kept, to: 0...1)
    }
    return backend.concatenate(parts)
  }

  // z [1, h, w, channels] → [4, 8 h, 8 w, 3], not limited.
  private func raw(_ z: DeviceTensor) -> DeviceTensor {
    var x = backend.convolve(
      backend.activate(z, .softClamp3), after: [], first, stride: .one, padding: .all(1), activation: .relu)
    for (index, stage) in stages.enumerated() {
      for block in stage.blocks { x = block.forward(x, &state, backend) }
      x = backend.convolveDoubled(
        x, stage.out, frames: stage.growth, activation: index == stages.count - 1 ? .relu : .none)
    }
    return backend.convolve(x, after: [], last, stride: .one, padding: .all(1), activation: .none)
  }
}
