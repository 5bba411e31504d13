import Compute
import Tensors

/// The streaming decoder of Wan 2.1: one latent frame at a time, with the last inputs of every causal convolution kept.
///
/// The first latent frame gives one video frame, because both doublings of time pass it by; later ones give four.
/// Latents are scaled back by the configuration's mean and deviation first.
public final class WanVAEDecoder: VideoDecoder {
  public let latentChannels: Int
  public let framesPerLatent: Int
  public let pixelsPerLatent: Int
  public var state = VideoStreamState()

  private let network: WanVAEHalf
  private let entry: CausalConvolution
  private let backend: any Backend
  // [channels]: deviation and mean of the latents; [3]: from -1...1 to 0...1.
  private let deviation, mean, half: DeviceTensor

  init(_ configuration: WanVAEConfiguration, _ layout: WanVAELayout.Half, _ source: WanVAESource) throws {
    backend = source.backend
    latentChannels = configuration.latentChannels
    framesPerLatent = configuration.framesPerLatent
    pixelsPerLatent = configuration.pixelsPerLatent
    network = try WanVAEHalf(layout, source)
    entry = try CausalConvolution("conv2", source)
    deviation = backend.upload(Tensor(configuration.deviation, shape: [latentChannels]))
    mean = backend.upload(Tensor(configuration.mean, shape: [latentChannels]))
    half = backend.upload(Tensor([0.5, 0.5, 0.5], shape: [3]))
  }

  public func reset() { state = VideoStreamState() }

  /// See ``VideoDecoder/decode(_:)``. Peak memory is that of one latent frame's maps, whatever the portion.
  public func decode(_ latents: DeviceTensor) throws -> DeviceTensor {
    precondition(
      latents.shape.count == 4 && latents.shape[0] > 0 && latents.shape[1] == latentChannels,
      "latents \(latents.shape), wanted [frames, \(latentChannels), h, w]")
    let rows = backend.scaleChannels(backend.channelsLast(latents), scale: deviation, shift: mean)
    let parts = (0..<latents.shape[0]).map { frame in
      let z = entry.forward(backend.slice(rows, frame..<frame + 1), &state, backend)
      let pixels = network.forward(z, &state, backend)
      return backend.clamp(backend.scaleChannels(pixels, scale: half, shift: half), to: 0...1)
    }
    return backend.concatenate(parts)
  }
}
