import CBLAS
import CKernels
import Tensors

/// The fast backend for processors: OpenBLAS (float32) or oneDNN (bf16, int8) for matrix products, `CKernels` for the
/// rest.
///
/// Every operation is cut into parts by its shapes alone, and the libraries run single-threaded inside a part, so the
/// same arguments give the same bytes on any number of threads.
public final class CPUBackend: Backend {
  let workers: WorkerPool
  let memory = HostAllocator()
  public let precision: Precision
  public let name: String
  /// What the bytes of a result depend on beside the arguments: precision, instruction set, library, format of pages.
  public let arithmetic: String
  /// How the pages of its pools are kept.
  public let pageFormat: PageFormat

  /// A backend on `threads` threads.
  ///
  /// - Parameters:
  ///   - precision: One that ``Precision/isSupported`` says yes to.
  ///   - pages: How keys and values are kept; nil to follow the precision. With any but float32, attention multiplies in
  ///     bf16 where the processor can, and adds in float32.
  public init(threads: Int, precision: Precision = .f32, pages: PageFormat? = nil) {
    precondition(precision.isSupported, "\(precision.rawValue) needs oneDNN and AVX-512 BF16")
    openblas_set_num_threads(1)
    workers = WorkerPool(threads: threads)
    self.precision = precision
    pageFormat = pages ?? .standard(for: precision)
    let library = precision == .f32 ? nil : Precision.library
    let parts = [CPUBackend.simdLevel, library].compactMap { $0 }.joined(separator: ", ")
    arithmetic = "\(precision.rawValue) (\(parts)), \(pageFormat.rawValue) pages"
    name = "cpu \(arithmetic), \(threads) thread\(threads == 1 ? "" : "s")"
  }

  /// The instruction set that the kernels use on this processor: `avx512-bf16`, `avx512`, `avx2` or `baseline`.
  public static var simdLevel: String { String(cString: lt_simd_level()) }

  // MARK: Storage

  func make(_ shape: [Int], _ form: HostStorage.Form = .f32) -> DeviceTensor {
    let bytes = shape.reduce(1, *) * form.elementBytes
    return DeviceTensor(shape: shape, storage: memory.allocate(bytes, form: form))
  }

  /// The numbers of a tensor. Valid while the tensor's handle lives; callers keep it through the operation.
  func floats(_ x: DeviceTensor) -> UnsafeMutablePointer<Float> { widened(x).floats }
  func integers(_ x: DeviceIndices) -> UnsafeMutablePointer<Int32> { host(x.storage).integers }

  func host(_ storage: any DeviceStorage) -> HostStorage {
    guard let storage = storage as? HostStorage else {
      preconditionFailure("a tensor of another backend was given to \(name)")
    }
    return storage
  }

  /// Runs `body` over ranges of `count` items, at least `grain` in each.
  func parallel(_ count: Int, grain: Int, _ body: (Range<Int>) -> Void) {
    let parts = max(1, (count + grain - 1) / grain)
    workers.run(parts: parts) { part in
      let range = part * grain..<min(count, (part + 1) * grain)
      if !range.isEmpty { body(range) }
    }
  }

  // MARK: Transfers

  public func upload(_ tensor: Tensor) -> DeviceTensor {
    let out = make(tensor.shape)
    tensor.copyFloats(to: UnsafeMutableBufferPointer(start: floats(out), count: tensor.count))
    return out
  }

  public func download(_ tensor: DeviceTensor) -> Tensor {
    // What is not in float32 is widened on the way: a copy kept beside it could be large, and nobody asks twice.
    Tensor(dtype: .f32, shape: tensor.shape) { out in
      guard let address = out.baseAddress else { return }
      withExtendedLifetime(tensor) { widen(tensor, into: address.assumingMemoryBound(to: Float.self)) }
    }
  }

  public func upload(indices: [Int32], shape: [Int]) -> DeviceIndices {
    precondition(shape.reduce(1, *) == indices.count, "\(indices.count) indices do not have the shape \(shape)")
    let storage = memory.allocate(indices.count * 4)
    indices.withUnsafeBytes {
      UnsafeMutableRawBufferPointer(start: storage.address, count: $0.count).copyMemory(from: $0)
    }
    return DeviceIndices(shape: shape, storage: storage)
  }

  public func download(_ indices: DeviceIndices) -> [Int32] {
    withExtendedLifetime(indices) { Array(UnsafeBufferPointer(start: integers(indices), count: indices.count)) }
  }

  /// Weight and bias of a layer as they lie in memory: `[outputs, inputs]`, taps before channels for convolutions.
  final class Layer: DeviceStorage, Sendable {
    let weight: HostStorage
    let bias: HostStorage?
    init(weight: HostStorage, bias: HostStorage?) {
      self.weight = weight
      self.bias = bias
    }
  }

  func layer(_ storage: any DeviceStorage) -> Layer {
    guard let layer = storage as? Layer else { preconditionFailure("a weight of another backend was given to \(name)") }
    return layer
  }

  public func prepareLinear(weight: Tensor, bias: Tensor?, role: LinearRole) -> LinearWeight {
    precondition(weight.shape.count == 2, "a linear weight is [outputs, inputs], not \(weight.shape)")
    precondition(
      bias.map { $0.shape == [weight.shape[0]] } ?? true, "bias \(bias?.shape ?? []) of weight \(weight.shape)")
    if precision != .f32 { return packLinear(weight: weight, bias: bias, role: role) }
    let layer = Layer(weight: host(upload(weight).storage), bias: bias.map { host(upload($0).storage) })
    return LinearWeight(inputs: weight.shape[1], outputs: weight.shape[0], storage: layer)
  }

  public func prepareConvolution(weight: Tensor, bias: Tensor?, keepsSize: Bool) -> ConvolutionWeight {
    let (shape, kernel) = ConvolutionShape.kernel(of: weight)
    if precision != .f32, keepsSize, WinogradLayer.takes(shape) {
      return packWinograd(weight: weight, shape: shape, bias: bias)
    }
    if precision != .f32 { return packConvolution(weight: weight, shape: shape, bias: bias) }
    let (out, inputs, taps) = (shape[0], shape[1], kernel.frames * kernel.rows * kernel.columns)
    // [out, in, taps] -> [out, taps, in], so that a column of im2col is a run of neighbouring channels.
    let packed = memory.allocate(weight.count * 4)
    let values = weight.floats()
    for o in 0..<out {
      for t in 0..<taps {
        for i in 0..<inputs { packed.floats[(o * taps + t) * inputs + i] = values[(o * inputs + i) * taps + t] }
      }
    }
    let layer = Layer(weight: packed, bias: bias.map { host(upload($0).storage) })
    return ConvolutionWeight(inputs: inputs, outputs: out, kernel: kernel, storage: layer)
  }

  public func releaseUnusedMemory() { memory.trim() }

  public func makePagePool(_ layout: PagePoolLayout) -> any PagePool {
    CPUPagePool(layout, format: pageFormat, memory: memory)
  }
}

/// Shape rules of convolutions, shared by the backends.
enum ConvolutionShape {
  /// `[out, in, kt, kh, kw]` of a 2-D or 3-D weight, and its kernel.
  static func kernel(of weight: Tensor) -> (shape: [Int], kernel: (frames: Int, rows: Int, columns: Int)) {
    let shape =
      weight.shape.count == 4 ? [weight.shape[0], weight.shape[1], 1, weight.shape[2], weight.shape[3]] : weight.shape
    precondition(shape.count == 5, "a convolution weight has 4 or 5 axes, not \(weight.shape)")
    return (shape, (shape[2], shape[3], shape[4]))
  }

  /// The same of a convolution behind a doubling.
  static func doubled(_ weight: Tensor, frames: Int) -> (shape: [Int], kernel: (frames: Int, rows: Int, columns: Int)) {
    let (shape, kernel) = kernel(of: weight)
    precondition(
      kernel == (1, 3, 3) && frames >= 1 && shape[0] % frames == 0,
      "\(weight.shape) behind a doubling, \(frames) frames")
    return (shape, kernel)
  }

  /// Output shape of ``Backend/convolve(_:after:_:stride:padding:activation:)``.
  static func output(
    _ x: [Int], history: [[Int]], _ weight: ConvolutionWeight, _ stride: ConvolutionStride, _ padding: SpatialPadding
  ) -> [Int] {
    precondition(x.count == 4 && x[3] == weight.inputs, "a map \(x) for a convolution of \(weight.inputs) channels")
    precondition(history.allSatisfy { $0.dropFirst() == x.dropFirst() }, "history \(history) in front of \(x)")
    let frames = x[0] + history.reduce(0) { $0 + $1[0] }
    let sizes = [
      (frames, weight.kernel.frames, stride.frames),
      (x[1] + padding.top + padding.bottom, weight.kernel.rows, stride.space),
      (x[2] + padding.left + padding.right, weight.kernel.columns, stride.space),
    ]
    return sizes.map { size, kernel, step in
      precondition(size >= kernel, "a kernel of \(kernel) over \(size) positions")
      return (size - kernel) / step + 1
    } + [weight.outputs]
  }
}
