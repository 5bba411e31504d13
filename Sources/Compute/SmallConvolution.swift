import CKernels
import Synchronization
import Tensors

/// A convolution of few channels in the order of `CKernels/convolve_bf16.c`: 3 x 3 over one or two frames, or behind a
/// doubling of height and width.
final class SmallConvolution: DeviceStorage, @unchecked Sendable {
  let shape: lt_convolution_shape
  let weights: HostStorage
  let bias: HostStorage

  /// - Parameter weight: `[frames x outputs, inputs, times, 3, 3]`.
  /// - Returns: nil where the kernel does not have it: other sizes, or a processor without AVX-512 BF16.
  init?(_ weight: Tensor, shape s: [Int], bias values: Tensor?, doubles: Bool, frames: Int, memory: HostAllocator) {
    guard s[3] == 3, s[4] == 3, s[2] <= 2, s[0] <= 64, s[1] <= 64 else { return nil }
    var shape = lt_convolution_shape(
      inputs: Int32(s[1]), outputs: Int32(s[0] / frames), times: Int32(s[2]), doubles: doubles ? 1 : 0,
      frames: Int32(frames))
    guard lt_convolves(&shape) != 0 else { return nil }
    self.shape = shape
    weights = memory.allocate(Int(lt_convolution_weights(&shape)) * 2, form: .bf16)
    bias = memory.allocate(Int(lt_convolution_biases(&shape)) * 4)
    let (numbers, biases) = (weight.floats(), values?.floats())
    lt_pack_convolution(&shape, numbers, biases, weights.halves, bias.floats)
  }
}

extension CPUBackend {
  /// Parts of a map at least, for the threads.
  private static let parts = 16

  /// Each frame of `x` behind the one before it, the first behind `history`, if the convolution is over two.
  ///
  /// - Parameters:
  ///   - shape: Of the output `[frames, height, width, outputs]`.
  ///   - residual: bf16, like the output.
  func convolve(
    _ x: DeviceTensor, after history: [DeviceTensor], _ layer: SmallConvolution, shape: [Int], residual: HostStorage?,
    rectified: Bool, into out: HostStorage
  ) {
    let (frames, height, width) = (x.shape[0], x.shape[1], x.shape[2])
    let map = height * width * x.shape[3]
    let outMap = shape[1] * shape[2] * shape[3]
    let (source, before) = (rounded(x), history.first.map { rounded($0) })
    let made = Int(layer.shape.frames)
    var s = layer.shape
    let scratchBytes = Int(lt_convolution_scratch(&s, Int32(width))) * 2
    // A position's sum does not depend on which part it is in.
    parallel(frames * height, grain: max(1, (frames * height + CPUBackend.parts - 1) / CPUBackend.parts)) { range in
      let scratch = memory.allocate(scratchBytes)
      withExtendedLifetime(scratch) {
        for frame in range.lowerBound / height...(range.upperBound - 1) / height {
          let rows = range.clamped(to: frame * height..<(frame + 1) * height)
          var a = lt_convolve_arguments()
          (a.shape, a.weights, a.bias) = (
            layer.shape, UnsafePointer(layer.weights.halves), UnsafePointer(layer.bias.floats)
          )
          a.maps.0 = UnsafePointer(source.halves + frame * map)
          if layer.shape.times == 2 {
            a.maps.1 = a.maps.0
            a.maps.0 = UnsafePointer(frame > 0 ? source.halves + (frame - 1) * map : (before ?? source).halves)
          }
          (a.height, a.width) = (Int32(height), Int32(width))
          (a.first_row, a.rows) = (Int32(rows.lowerBound - frame * height), Int32(rows.count))
          a.relu = rectified ? 1 : 0
          let start = frame * made * outMap
          a.residual = residual.map { UnsafePointer($0.halves + start) }
          if out.form == .bf16 { a.out_bf16 = out.halves + start } else { a.out = out.floats + start }
          a.frame_stride = Int64(outMap)
          a.scratch = scratch.halves
          lt_convolve(&a)
        }
      }
    }
  }

  public func prepareDoubledConvolution(weight: Tensor, frames: Int) -> ConvolutionWeight {
    let (shape, kernel) = ConvolutionShape.doubled(weight, frames: frames)
    if precision != .f32,
      let small = SmallConvolution(weight, shape: shape, bias: nil, doubles: true, frames: frames, memory: memory)
    {
      return ConvolutionWeight(inputs: shape[1], outputs: shape[0], kernel: kernel, storage: small)
    }
    return prepareConvolution(weight: weight, bias: nil)
  }

  public func convolveDoubled(_ x: DeviceTensor, _ weight: ConvolutionWeight, frames: Int, activation: Activation)
    -> DeviceTensor
  {
    guard let small = weight.storage as? SmallConvolution else {
      return doubledThenConvolved(x, weight, frames: frames, activation: activation)
    }
    precondition(x.shape.count == 4 && x.shape[3] == weight.inputs && Int(small.shape.frames) == frames)
    let shape = [x.shape[0] * frames, 2 * x.shape[1], 2 * x.shape[2], weight.outputs / frames]
    let out = make(shape, .bf16)
    withExtendedLifetime((x, weight)) {
      convolve(
        x, after: [], small, shape: shape, residual: nil, rectified: activation == .relu, into: host(out.storage))
    }
    return activation == .none || activation == .relu ? out : activate(out, activation)
  }
}

extension Backend {
  /// ``convolveDoubled(_:_:frames:activation:)`` in steps.
  func doubledThenConvolved(_ x: DeviceTensor, _ weight: ConvolutionWeight, frames: Int, activation: Activation)
    -> DeviceTensor
  {
    let y = convolve(
      upsampleTwice(x), after: [], weight, stride: .one, padding: .all(1), activation: activation)
    return frames == 1 ? y : channelsToFrames(y, frames)
  }
}
