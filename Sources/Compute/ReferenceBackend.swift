import Foundation
import Tensors

/// The judge of all other backends: every operation as its formula reads, in float32, one number after another.
///
/// Slow by design and kept for ever. It shares no code with the fast backends but the rules of shapes.
public final class ReferenceBackend: Backend {
  public let name = "reference f32"
  public init() {}

  final class Values: DeviceStorage, Sendable {
    let floats: [Float]
    init(_ floats: [Float]) { self.floats = floats }
  }
  final class Indices: DeviceStorage, Sendable {
    let values: [Int]
    init(_ values: [Int]) { self.values = values }
  }
  final class Layer: DeviceStorage, Sendable {
    let weight: [Float]
    let bias: [Float]?
    init(_ weight: [Float], _ bias: [Float]?) {
      self.weight = weight
      self.bias = bias
    }
  }

  func tensor(_ values: [Float], _ shape: [Int]) -> DeviceTensor {
    precondition(values.count == shape.reduce(1, *), "\(values.count) numbers for \(shape)")
    return DeviceTensor(shape: shape, storage: Values(values))
  }
  func values(_ x: DeviceTensor) -> [Float] {
    guard let storage = x.storage as? Values else { preconditionFailure("a tensor of another backend") }
    return storage.floats
  }
  func values(_ x: DeviceIndices) -> [Int] {
    guard let storage = x.storage as? Indices else { preconditionFailure("indices of another backend") }
    return storage.values
  }
  func layer(_ storage: any DeviceStorage) -> Layer {
    guard let layer = storage as? Layer else { preconditionFailure("a weight of another backend") }
    return layer
  }

  // MARK: Transfers

  public func upload(_ tensor: Tensor) -> DeviceTensor { self.tensor(tensor.floats(), tensor.shape) }
  public func download(_ tensor: DeviceTensor) -> Tensor { Tensor(values(tensor), shape: tensor.shape) }
  public func upload(indices: [Int32], shape: [Int]) -> DeviceIndices {
    precondition(shape.reduce(1, *) == indices.count)
    return DeviceIndices(shape: shape, storage: Indices(indices.map(Int.init)))
  }
  public func prepareLinear(weight: Tensor, bias: Tensor?, role: LinearRole) -> LinearWeight {
    LinearWeight(
      inputs: weight.shape[1], outputs: weight.shape[0], storage: Layer(weight.floats(), bias?.floats()))
  }
  public func prepareConvolution(weight: Tensor, bias: Tensor?, keepsSize: Bool) -> ConvolutionWeight {
    let (shape, kernel) = ConvolutionShape.kernel(of: weight)
    return ConvolutionWeight(
      inputs: shape[1], outputs: shape[0], kernel: kernel, storage: Layer(weight.floats(), bias?.floats()))
  }
  public func releaseUnusedMemory() {}

  public func makePagePool(_ layout: PagePoolLayout) -> any PagePool { ReferencePagePool(layout) }

  // MARK: Rows

  public func linear(_ x: DeviceTensor, _ weight: LinearWeight, activation: Activation) -> DeviceTensor {
    let (input, layer) = (values(x), layer(weight.storage))
    precondition(x.shape.last == weight.inputs)
    var out = [Float]()
    for r in 0..<x.count / weight.inputs {
      for o in 0..<weight.outputs {
        var sum: Float = 0
        for i in 0..<weight.inputs { sum += input[r * weight.inputs + i] * layer.weight[o * weight.inputs + i] }
        out.append(apply(activation, sum + (layer.bias?[o] ?? 0)))
      }
    }
    return tensor(out, x.shape.dropLast() + [weight.outputs])
  }

  public func linear(
    _ x: DeviceTensor, _ weight: LinearWeight, addedTo residual: DeviceTensor, gate: ModulationRow?
  ) -> DeviceTensor {
    let (product, base) = (values(linear(x, weight, activation: .none)), values(residual))
    let width = weight.outputs
    let gates = gate.map { rows($0, width: width) }
    return tensor(
      base.indices.map { i in base[i] + (gates.map { $0(i / width, i % width) } ?? 1) * product[i] }, residual.shape)
  }

  /// Entry c of the modulation of row r.
  private func rows(_ m: ModulationRow, width: Int) -> (_ r: Int, _ c: Int) -> Float {
    let (table, groups, count) = (values(m.table), values(m.groups), m.table.shape[1])
    return { r, c in table[(groups[r] * count + m.row) * width + c] }
  }

  private func normalized(_ x: DeviceTensor, epsilon: Float, _ finish: (_ r: Int, _ c: Int, _ x: Float) -> Float)
    -> DeviceTensor
  {
    let (input, width) = (values(x), x.shape.last ?? 1)
    var out = [Float]()
    for r in 0..<input.count / width {
      let row = input[r * width..<(r + 1) * width]
      let mean = row.reduce(0, +) / Float(width)
      let variance = row.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Float(width)
      for (c, v) in row.enumerated() { out.append(finish(r, c, (v - mean) / (variance + epsilon).squareRoot())) }
    }
    return tensor(out, x.shape)
  }

  public func layerNorm(_ x: DeviceTensor, epsilon: Float, shift: ModulationRow, scale: ModulationRow) -> DeviceTensor {
    let width = x.shape.last ?? 1
    let (shifts, scales) = (rows(shift, width: width), rows(scale, width: width))
    return normalized(x, epsilon: epsilon) { r, c, v in v * (1 + scales(r, c)) + shifts(r, c) }
  }

  public func layerNorm(_ x: DeviceTensor, epsilon: Float, weight: DeviceTensor, bias: DeviceTensor) -> DeviceTensor {
    let (w, b) = (values(weight), values(bias))
    return normalized(x, epsilon: epsilon) { _, c, v in v * w[c] + b[c] }
  }

  public func rmsNorm(_ x: DeviceTensor, epsilon: Float, weight: DeviceTensor, rotary: Rotary?) -> DeviceTensor {
    let (input, w, width) = (values(x), values(weight), x.shape.last ?? 1)
    var out = [Float]()
    for r in 0..<input.count / width {
      let row = input[r * width..<(r + 1) * width]
      let meanSquare = row.reduce(0) { $0 + $1 * $1 } / Float(width)
      for (c, v) in row.enumerated() { out.append(v / (meanSquare + epsilon).squareRoot() * w[c]) }
    }
    if let rotary { rotate(&out, width: width, rotary) }
    return tensor(out, x.shape)
  }

  /// Turns pairs (2p, 2p + 1) of each head of each row.
  func rotate(_ x: inout [Float], width: Int, _ rotary: Rotary) {
    let (cosines, sines, pairs) = (values(rotary.cosines), values(rotary.sines), rotary.headDim / 2)
    for r in 0..<x.count / width {
      for pair in 0..<width / 2 {
        let i = r * width + 2 * pair
        let (c, s) = (cosines[r * pairs + pair % pairs], sines[r * pairs + pair % pairs])
        (x[i], x[i + 1]) = (x[i] * c - x[i + 1] * s, x[i] * s + x[i + 1] * c)
      }
    }
  }

  func apply(_ activation: Activation, _ x: Float) -> Float {
    switch activation {
    case .none: x
    case .relu: x < 0 ? 0 : x
    case .silu: x / (1 + exp(-x))
    case .geluTanh: 0.5 * x * (1 + tanh(Float(2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
    case .softClamp3: 3 * tanh(x / 3)
    }
  }
}
