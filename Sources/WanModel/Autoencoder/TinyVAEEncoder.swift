import Compute
import Tensors

/// The encoder of TAEHV: groups of four video frames, each one latent frame; the end is padded by repeating the last
/// frame. Latent frame k sees video frames 4k ... 4k + 3, though it decodes to 4k - 3 ... 4k.
public final class TinyVAEEncoder: VideoEncoder {
  private struct Stage: Sendable {
    let pooling: Int
    // [n, pooling n, 1, 1]
    let pool: ConvolutionWeight
    let down: ConvolutionWeight
    let blocks: [MemoryBlock]
  }
  public var state = VideoStreamState()
  private let backend: any Backend
  private let first, last: ConvolutionWeight
  private let stages: [Stage]
  private let scaling: (scale: DeviceTensor, shift: DeviceTensor)?

  init(_ configuration: TinyVAEConfiguration, _ source: TinyVAESource) throws {
    backend = source.backend
    first = try source.convolution("encoder.0")
    stages = try TinyVAE.pooling.enumerated().map { stage, pooling in
      let start = 2 + 5 * stage
      return Stage(
        pooling: pooling, pool: try source.convolution("encoder.\(start).conv", bias: false),
        down: try source.convolution("encoder.\(start + 1)", bias: false),
        blocks: try (start + 2..<start + 5).map { try MemoryBlock("encoder.\($0)", source) })
    }
    last = try source.convolution("encoder.17")
    if let mean = configuration.mean, let deviation = configuration.deviation {
      scaling = (
        backend.upload(Tensor(deviation.map { 1 / $0 }, shape: [deviation.count])),
        backend.upload(Tensor(zip(mean, deviation).map { -$0 / $1 }, shape: [mean.count]))
      )
    } else {
      scaling = nil
    }
  }

  private static let group = TinyVAE.pooling.reduce(1, *)

  /// Groups of four.
  public func videoFrames(of latent: Int) -> Range<Int> { Self.group * latent..<Self.group * (latent + 1) }

  /// Whole groups, so that the last latent frame sees what moves; a clip of fewer than four frames is one.
  static func latentFrames(of frames: Int) -> Int { max(1, frames / group) }
  public func latentFrames(of frames: Int) -> Int { Self.latentFrames(of: frames) }

  /// See ``VideoEncoder/encode(_:)``. Any number of frames; sizes are multiples of 8.
  public func encode(_ video: DeviceTensor) throws -> DeviceTensor {
    state = VideoStreamState()
    return try append(video)
  }

  /// See ``VideoEncoder/append(_:)``. A number of frames that four does not divide ends the stream.
  public func append(_ video: DeviceTensor) throws -> DeviceTensor {
    let (side, group) = (1 << TinyVAE.pooling.count, TinyVAE.pooling.reduce(1, *))
    precondition(
      video.shape.count == 4 && video.shape[0] > 0 && video.shape[1] % side == 0 && video.shape[2] % side == 0
        && video.shape[3] == 3,
      "video \(video.shape), wanted [frames, height, width, 3] with sides that \(side) divides")
    let count = video.shape[0]
    let end = backend.slice(video, count - 1..<count)
    let padded = backend.concatenate([video] + Array(repeating: end, count: (group - count % group) % group))
    let parts = stride(from: 0, to: padded.shape[0], by: group).map { start in
      state.frames += group
      return latent(backend.slice(padded, start..<start + group), &state)
    }
    var z = backend.concatenate(parts)
    if let scaling { z = backend.scaleChannels(z, scale: scaling.scale, shift: scaling.shift) }
    return backend.channelsFirst(z)
  }

  // Four frames [4, H, W, 3] → [1, H / 8, W / 8, channels].
  private func latent(_ frames: DeviceTensor, _ stream: inout VideoStreamState) -> DeviceTensor {
    var x = backend.convolve(frames, after: [], first, stride: .one, padding: .all(1), activation: .relu)
    for stage in stages {
      if stage.pooling > 1 { x = backend.framesToChannels(x, stage.pooling) }
      x = backend.convolve(x, after: [], stage.pool, stride: .one, padding: .all(0), activation: .none)
      x = backend.convolve(
        x, after: [], stage.down, stride: ConvolutionStride(space: 2), padding: .all(1), activation: .none)
      for block in stage.blocks { x = block.forward(x, &stream, backend) }
    }
    return backend.convolve(x, after: [], last, stride: .one, padding: .all(1), activation: .none)
  }
}
