import CKernels
import COneDNN
import Synchronization
import Tensors

/// A matrix or a kernel in the order that oneDNN reads fastest.
final class PackedMatrix: @unchecked Sendable {
  let outputs: Int
  private let handle: OpaquePointer

  /// - Parameter values: bf16 or bytes, `[outputs, inputs, kernel.rows, kernel.columns]`.
  init(
    _ values: UnsafeRawPointer, type: Int, outputs: Int, inputs: Int, kernel: (rows: Int, columns: Int) = (0, 0)
  ) {
    var shape = lt_dnn_shape(
      type: Int32(type), outputs: Int32(outputs), inputs: Int32(inputs), kernel_rows: Int32(kernel.rows),
      kernel_columns: Int32(kernel.columns))
    guard let handle = lt_dnn_pack(&shape, values) else {
      preconditionFailure("oneDNN has no product for a weight \([outputs, inputs, kernel.rows, kernel.columns])")
    }
    self.handle = handle
    self.outputs = outputs
  }

  deinit { lt_dnn_free(handle) }

  var bytes: Int { lt_dnn_bytes(handle) }

  /// Code for one size of call.
  func plan(_ sizes: lt_dnn_sizes) -> Plan {
    var sizes = sizes
    guard let plan = lt_dnn_plan_for(handle, &sizes) else { preconditionFailure("oneDNN has no plan for \(sizes)") }
    return Plan(plan: plan, weight: handle, scratchBytes: lt_dnn_scratch_bytes(plan))
  }

  /// oneDNN's name for the code of a product of so many rows.
  func implementation(rows: Int) -> String {
    var sizes = lt_dnn_sizes()
    sizes.rows = Int32(rows)
    return plan(sizes).implementation
  }

  /// Code for one size of call with this matrix, which must outlive it.
  struct Plan {
    fileprivate let plan: OpaquePointer
    fileprivate let weight: OpaquePointer
    let scratchBytes: Int
    /// oneDNN's name of it.
    var implementation: String { String(cString: lt_dnn_implementation(plan)) }

    /// Runs on the calling thread. `scratch` has `scratchBytes`, aligned to 64.
    func run(_ source: UnsafeRawPointer, into sums: UnsafeMutablePointer<Float>, scratch: UnsafeMutableRawPointer) {
      let status = lt_dnn_run(plan, weight, source, sums, scratch)
      precondition(status == 0, "oneDNN failed with status \(status) in \(implementation)")
    }
  }
}

/// A weight for oneDNN, with its bias and scales.
final class PackedLayer: DeviceStorage, Sendable {
  /// Of a linear layer: runs of output columns, side by side. Of a convolution: its time taps, first frame first. Made when
  /// they are first asked for, which for a convolution with a kernel of its own may be never.
  var matrices: [PackedMatrix] {
    packed.withLock { packed in
      if let packed { return packed }
      let made = make()
      packed = made
      return made
    }
  }
  private let packed: Mutex<[PackedMatrix]?>
  private let make: @Sendable () -> [PackedMatrix]
  /// Of a convolution that `CKernels` has a kernel for.
  let small: SmallConvolution?
  let bias: HostStorage?
  /// Of a weight in bytes: one per output.
  let scales: HostStorage?
  /// Of a kernel of one position: `matrices` are matrices and not kernels.
  let isPointwise: Bool

  init(matrices: [PackedMatrix], bias: HostStorage?, scales: HostStorage?, isPointwise: Bool = false) {
    packed = Mutex(matrices)
    make = { matrices }
    (small, self.bias, self.scales, self.isPointwise) = (nil, bias, scales, isPointwise)
  }

  init(small: SmallConvolution, bias: HostStorage?, matrices: @escaping @Sendable () -> [PackedMatrix]) {
    packed = Mutex(nil)
    make = matrices
    (self.small, self.bias, scales, isPointwise) = (small, bias, nil, false)
  }
}

extension CPUBackend {
  /// Output columns of one matrix at most, so that a layer of few rows has work for several threads and the sums of a part
  /// stay in the second-level cache.
  private static let columns = 1536

  /// `weight` `[outputs, inputs]` in the backend's precision.
  func packLinear(weight: Tensor, bias: Tensor?, role: LinearRole) -> LinearWeight {
    let (outputs, inputs) = (weight.shape[0], weight.shape[1])
    let bytes = precision == .int8 && role == .block
    let pieces = (outputs + CPUBackend.columns - 1) / CPUBackend.columns
    let run = ((outputs + pieces - 1) / pieces + 63) / 64 * 64
    let starts = Array(stride(from: 0, to: outputs, by: run))
    let values = bytes ? rowsInBytes(weight) : halves(of: weight)
    let matrices = withExtendedLifetime(values) {
      starts.map { first in
        PackedMatrix(
          values.address + first * inputs * (bytes ? 1 : 2), type: bytes ? LT_DNN_INT8 : LT_DNN_BF16,
          outputs: min(run, outputs - first), inputs: inputs)
      }
    }
    return LinearWeight(
      inputs: inputs, outputs: outputs,
      storage: PackedLayer(matrices: matrices, bias: bias.map { host(upload($0).storage) }, scales: values.scales))
  }

  /// `weight` of `shape` `[outputs, inputs, frames, rows, columns]` as bf16 kernels, one per time tap.
  func packConvolution(weight: Tensor, shape: [Int], bias: Tensor?) -> ConvolutionWeight {
    let (outputs, inputs, frames) = (shape[0], shape[1], shape[2])
    let taps = shape[3] * shape[4]
    let values = halves(of: weight)
    let pointwise = taps == 1
    let memory = memory
    let matrices: @Sendable () -> [PackedMatrix] = {
      let one = memory.allocate(outputs * inputs * taps * 2, form: .bf16)
      return withExtendedLifetime((values, one)) {
        (0..<frames).map { frame in
          for pair in 0..<outputs * inputs {
            (one.halves + pair * taps).update(from: values.halves + (pair * frames + frame) * taps, count: taps)
          }
          return PackedMatrix(
            one.address, type: LT_DNN_BF16, outputs: outputs, inputs: inputs,
            kernel: pointwise ? (0, 0) : (shape[3], shape[4]))
        }
      }
    }
    let biases = bias.map { host(upload($0).storage) }
    let small = SmallConvolution(weight, shape: shape, bias: bias, doubles: false, frames: 1, memory: memory)
    return ConvolutionWeight(
      inputs: inputs, outputs: outputs, kernel: (frames, shape[3], shape[4]),
      storage: small.map { PackedLayer(small: $0, bias: biases, matrices: matrices) }
        ?? PackedLayer(matrices: matrices(), bias: biases, scales: nil, isPointwise: pointwise))
  }

  private func halves(of weight: Tensor) -> HostStorage {
    let out = memory.allocate(weight.count * 2, form: .bf16)
    if weight.dtype == .bf16 {
      weight.withUnsafeBytes {
        UnsafeMutableRawBufferPointer(start: out.address, count: $0.count).copyMemory(from: $0)
      }
      return out
    }
    return rounded(upload(weight))
  }

  /// A weight in bytes, a scale for each output: its rows are quantised like those of an input.
  private func rowsInBytes(_ weight: Tensor) -> HostStorage { quantised(upload(weight), width: weight.shape[1]) }
}
