import Compute
import Tensors

/// The encoder of Wan 2.1: the first video frame alone, then groups of four, each one latent frame.
///
/// Gives the mean of the posterior (no sampling), normalised by the configuration's mean and deviation.
public final class WanVAEEncoder: VideoEncoder {
  public var state = VideoStreamState()
  private let configuration: WanVAEConfiguration
  private let network: WanVAEHalf
  private let backend: any Backend
  private let exit: ConvolutionWeight
  private let scale, shift: DeviceTensor
  // [3]: from 0...1 to -1...1.
  private let two, minusOne: DeviceTensor

  init(_ configuration: WanVAEConfiguration, _ layout: WanVAELayout.Half, _ source: WanVAESource) throws {
    self.configuration = configuration
    backend = source.backend
    network = try WanVAEHalf(layout, source)
    // The last convolution would give mean and log-variance; only the means' rows are kept.
    let z = configuration.latentChannels
    exit = backend.prepareConvolution(
      weight: try source.weights.tensor("conv1.weight").rows(0..<z),
      bias: try source.weights.tensor("conv1.bias").rows(0..<z))
    scale = backend.upload(Tensor(configuration.deviation.map { 1 / $0 }, shape: [z]))
    shift = backend.upload(Tensor(zip(configuration.mean, configuration.deviation).map { -$0 / $1 }, shape: [z]))
    two = backend.upload(Tensor([2, 2, 2] as [Float], shape: [3]))
    minusOne = backend.upload(Tensor([-1, -1, -1] as [Float], shape: [3]))
  }

  /// One frame, then groups of four.
  public func videoFrames(of latent: Int) -> Range<Int> {
    let group = configuration.framesPerLatent
    return latent == 0 ? 0..<1 : group * (latent - 1) + 1..<group * latent + 1
  }

  public func latentFrames(of frames: Int) -> Int { (frames - 1) / configuration.framesPerLatent + 1 }

  /// See ``VideoEncoder/encode(_:)``. The clip has `4 n + 1` frames, and sizes are multiples of 8.
  public func encode(_ video: DeviceTensor) throws -> DeviceTensor {
    state = VideoStreamState()
    return try append(video)
  }

  /// See ``VideoEncoder/append(_:)``: `4 n + 1` frames at the beginning of a stream, `4 n` later.
  public func append(_ video: DeviceTensor) throws -> DeviceTensor {
    let (group, side) = (configuration.framesPerLatent, configuration.pixelsPerLatent)
    let early = state.frames == 0 ? 1 : 0
    precondition(
      video.shape.count == 4 && video.shape[0] > 0 && (video.shape[0] - early) % group == 0
        && video.shape[1] % side == 0 && video.shape[2] % side == 0 && video.shape[3] == 3,
      "video \(video.shape), wanted [\(group) n + \(early), height, width, 3] with sides that \(side) divides")
    let x = backend.scaleChannels(video, scale: two, shift: minusOne)
    var parts: [DeviceTensor] = []
    var start = 0
    while start < video.shape[0] {
      let end = start + (state.frames == 0 ? 1 : group)
      let y = network.forward(backend.slice(x, start..<end), &state, backend)
      parts.append(backend.convolve(y, after: [], exit, stride: .one, padding: .all(0), activation: .none))
      start = end
    }
    return backend.channelsFirst(backend.scaleChannels(backend.concatenate(parts), scale: scale, shift: shift))
  }
}
