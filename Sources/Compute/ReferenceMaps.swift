import Foundation
import Tensors

extension ReferenceBackend {
  // MARK: Feature maps

  /// A map built position by position.
  private func map(_ shape: [Int], _ value: (_ f: Int, _ y: Int, _ x: Int, _ c: Int) -> Float) -> DeviceTensor {
    var out = [Float]()
    out.reserveCapacity(shape.reduce(1, *))
    for f in 0..<shape[0] {
      for y in 0..<shape[1] {
        for x in 0..<shape[2] { for c in 0..<shape[3] { out.append(value(f, y, x, c)) } }
      }
    }
    return tensor(out, shape)
  }

  public func convolve(
    _ x: DeviceTensor, after history: [DeviceTensor], _ weight: ConvolutionWeight, stride: ConvolutionStride,
    padding: SpatialPadding, addedTo residual: DeviceTensor?, activation: Activation
  ) -> DeviceTensor {
    let shape = ConvolutionShape.output(x.shape, history: history.map(\.shape), weight, stride, padding)
    let (height, width, inputs, kernel) = (x.shape[1], x.shape[2], x.shape[3], weight.kernel)
    let input = history.flatMap { values($0) } + values(x)
    let layer = layer(weight.storage)
    let added = residual.map { values($0) }
    return map(shape) { f, y, x, o in
      var sum: Float = (layer.bias?[o] ?? 0) + (added?[((f * shape[1] + y) * shape[2] + x) * shape[3] + o] ?? 0)
      for t in 0..<kernel.frames {
        for ky in 0..<kernel.rows {
          for kx in 0..<kernel.columns {
            let (row, column) = (y * stride.space - padding.top + ky, x * stride.space - padding.left + kx)
            guard (0..<height).contains(row), (0..<width).contains(column) else { continue }
            let position = (((f * stride.frames + t) * height + row) * width + column) * inputs
            for i in 0..<inputs {
              let tap = (((o * inputs + i) * kernel.frames + t) * kernel.rows + ky) * kernel.columns + kx
              sum += input[position + i] * layer.weight[tap]
            }
          }
        }
      }
      return apply(activation, sum)
    }
  }

  public func channelNorm(_ x: DeviceTensor, gamma: DeviceTensor, silu: Bool) -> DeviceTensor {
    let (input, factors, channels) = (values(x), values(gamma), x.shape.last ?? 1)
    var out = [Float]()
    for p in 0..<input.count / channels {
      let position = input[p * channels..<(p + 1) * channels]
      let length = max(position.reduce(0) { $0 + $1 * $1 }.squareRoot(), 1e-12)
      for (c, v) in position.enumerated() {
        let normed = v / length * Float(channels).squareRoot() * factors[c]
        out.append(silu ? apply(.silu, normed) : normed)
      }
    }
    return tensor(out, x.shape)
  }

  public func upsampleTwice(_ x: DeviceTensor) -> DeviceTensor {
    let (input, s) = (values(x), x.shape)
    return map([s[0], 2 * s[1], 2 * s[2], s[3]]) { f, y, x, c in input[((f * s[1] + y / 2) * s[2] + x / 2) * s[3] + c] }
  }

  public func prepareDoubledConvolution(weight: Tensor, frames: Int) -> ConvolutionWeight {
    _ = ConvolutionShape.doubled(weight, frames: frames)
    return prepareConvolution(weight: weight, bias: nil)
  }

  public func convolveDoubled(_ x: DeviceTensor, _ weight: ConvolutionWeight, frames: Int, activation: Activation)
    -> DeviceTensor
  { doubledThenConvolved(x, weight, frames: frames, activation: activation) }

  public func channelsToFrames(_ x: DeviceTensor, _ n: Int) -> DeviceTensor {
    let (input, s) = (values(x), x.shape)
    let c = s[3] / n
    return map([s[0] * n, s[1], s[2], c]) { f, y, x, i in input[((f / n * s[1] + y) * s[2] + x) * s[3] + f % n * c + i]
    }
  }

  public func framesToChannels(_ x: DeviceTensor, _ n: Int) -> DeviceTensor {
    let (input, s) = (values(x), x.shape)
    return map([s[0] / n, s[1], s[2], s[3] * n]) { f, y, x, i in
      input[(((f * n + i / s[3]) * s[1] + y) * s[2] + x) * s[3] + i % s[3]]
    }
  }

  public func joinChannels(_ x: DeviceTensor, _ y: DeviceTensor) -> DeviceTensor {
    let (a, b, n, m) = (values(x), values(y), x.shape.last ?? 1, y.shape.last ?? 1)
    var out = [Float]()
    for p in 0..<x.count / n {
      out += a[p * n..<(p + 1) * n]
      out += b[p * m..<(p + 1) * m]
    }
    return tensor(out, x.shape.dropLast() + [n + m])
  }

  public func channelsLast(_ x: DeviceTensor) -> DeviceTensor {
    let (input, s) = (values(x), x.shape)
    return map([s[0], s[2], s[3], s[1]]) { f, y, x, c in input[((f * s[1] + c) * s[2] + y) * s[3] + x] }
  }

  public func channelsFirst(_ x: DeviceTensor) -> DeviceTensor {
    let (input, s) = (values(x), x.shape)
    return map([s[0], s[3], s[1], s[2]]) { f, c, y, x in input[((f * s[1] + y) * s[2] + x) * s[3] + c] }
  }

  public func scaleChannels(_ x: DeviceTensor, scale: DeviceTensor, shift: DeviceTensor) -> DeviceTensor {
    let (input, a, b) = (values(x), values(scale), values(shift))
    return tensor(input.indices.map { input[$0] * a[$0 % a.count] + b[$0 % b.count] }, x.shape)
  }

  // MARK: Any shape

  public func slice(_ x: DeviceTensor, _ range: Range<Int>) -> DeviceTensor {
    let row = x.count / max(1, x.shape[0])
    return tensor(
      Array(values(x)[range.lowerBound * row..<range.upperBound * row]), [range.count] + x.shape.dropFirst())
  }

  public func concatenate(_ parts: [DeviceTensor]) -> DeviceTensor {
    tensor(parts.flatMap { values($0) }, [parts.reduce(0) { $0 + $1.shape[0] }] + parts[0].shape.dropFirst())
  }

  public func gather(_ x: DeviceTensor, _ indices: DeviceIndices, shape: [Int]) -> DeviceTensor {
    let input = values(x)
    return tensor(values(indices).map { $0 < 0 ? 0 : input[$0] }, shape)
  }

  public func combine(_ a: Float, _ x: DeviceTensor, _ b: Float, _ y: DeviceTensor) -> DeviceTensor {
    precondition(x.shape == y.shape)
    return tensor(zip(values(x), values(y)).map { a * $0 + b * $1 }, x.shape)
  }

  public func add(_ x: DeviceTensor, _ y: DeviceTensor) -> DeviceTensor {
    let (a, b) = (values(x), values(y))
    return tensor(a.indices.map { a[$0] + b[$0 % b.count] }, x.shape)
  }

  public func multiply(_ x: DeviceTensor, _ y: DeviceTensor) -> DeviceTensor {
    precondition(x.shape == y.shape)
    return tensor(zip(values(x), values(y)).map(*), x.shape)
  }

  public func activate(_ x: DeviceTensor, _ activation: Activation) -> DeviceTensor {
    tensor(values(x).map { apply(activation, $0) }, x.shape)
  }

  public func clamp(_ x: DeviceTensor, to range: ClosedRange<Float>) -> DeviceTensor {
    tensor(values(x).map { $0.isNaN ? $0 : min(max($0, range.lowerBound), range.upperBound) }, x.shape)
  }

  public func allFinite(_ x: DeviceTensor) -> Bool { values(x).allSatisfy(\.isFinite) }

  public func downloadPixels(_ x: DeviceTensor) -> Tensor? {
    allFinite(x) ? Tensor(values(x).map { UInt8(max(0, min(255, $0 * 255))) }, shape: x.shape) : nil
  }
}
