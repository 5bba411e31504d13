import CKernels
import COneDNN
import Tensors

/// A kernel of 3 x 3 in the transformed domain (`CKernels/winograd.c`), with its bias.
final class WinogradLayer: DeviceStorage, Sendable {
  /// 16, of `[outputs, taps x inputs]` each.
  let positions: [PackedMatrix]
  let bias: HostStorage?

  init(positions: [PackedMatrix], bias: HostStorage?) {
    self.positions = positions
    self.bias = bias
  }

  /// Channels from which the products outweigh the transforms.
  private static let fewestChannels = 64

  /// Whether a weight `[outputs, inputs, frames, rows, columns]` is of this kind.
  static func takes(_ shape: [Int]) -> Bool {
    shape[3] == 3 && shape[4] == 3 && shape[..<2].allSatisfy { $0 >= fewestChannels && $0 % 16 == 0 }
  }
}

// Convolutions of 3 x 3 from 16 products for four outputs instead of 36, of reduced precision.
extension CPUBackend {
  /// Tiles of 2 x 2 outputs in one part: enough rows for a product, few enough for the cache. Fixed, so that results do not
  /// depend on threads, nor on how many frames come at once.
  private static let tilesOfPart = 96
  /// Tiles that are brought back from the transformed domain at once.
  private static let tilesOfRun = 8

  /// `weight` of `shape` `[outputs, inputs, frames, 3, 3]`.
  func packWinograd(weight: Tensor, shape: [Int], bias: Tensor?) -> ConvolutionWeight {
    let (outputs, inputs, taps) = (shape[0], shape[1], shape[2])
    let (count, kernel) = (outputs * inputs * taps, inputs * taps)
    let values = memory.allocate(count * 9 * 4)
    weight.copyFloats(to: UnsafeMutableBufferPointer(start: values.floats, count: count * 9))
    let transformed = memory.allocate(Int(LT_WINOGRAD_POSITIONS) * count * 2, form: .bf16)
    let matrices = withExtendedLifetime((values, transformed)) {
      parallel(outputs, grain: 8) { range in
        lt_winograd_kernels(
          values.floats + range.lowerBound * kernel * 9, Int32(range.count), Int32(inputs), Int32(taps),
          transformed.halves + range.lowerBound * kernel, count)
      }
      return (0..<Int(LT_WINOGRAD_POSITIONS)).map { position in
        PackedMatrix(transformed.halves + position * count, type: LT_DNN_BF16, outputs: outputs, inputs: kernel)
      }
    }
    return ConvolutionWeight(
      inputs: inputs, outputs: outputs, kernel: (taps, 3, 3),
      storage: WinogradLayer(positions: matrices, bias: bias.map { host(upload($0).storage) }))
  }

  public func convolveDoubled(_ x: DeviceTensor, _ weight: ConvolutionWeight, activation: Activation) -> DeviceTensor {
    guard let layer = weight.storage as? WinogradLayer else {
      return convolve(
        upsampleTwice(x), after: [], weight, stride: .one, padding: .half(of: weight), activation: activation)
    }
    precondition(
      weight.kernel.frames == 1 && x.shape[3] == weight.inputs, "a map \(x.shape) for \(weight.inputs) channels")
    return convolve(
      x, after: [], weight, layer, doubled: true, shape: [x.shape[0], 2 * x.shape[1], 2 * x.shape[2], weight.outputs],
      addedTo: nil, activation: activation)
  }

  /// A convolution of `shape` `[frames, height, width, outputs]`; with `doubled`, of a map half as high and wide.
  func convolve(
    _ x: DeviceTensor, after history: [DeviceTensor], _ weight: ConvolutionWeight, _ layer: WinogradLayer,
    doubled: Bool,
    shape: [Int], addedTo residual: DeviceTensor?, activation: Activation
  ) -> DeviceTensor {
    let out = make(shape, .bf16)
    var finish = Finish(width: weight.outputs, activation: activation, out: host(out.storage))
    finish.bias = layer.bias.map { UnsafePointer($0.floats) }
    finish.residual = residual.map { host($0.storage) }
    // What is remembered may be in bytes, which are read as they are.
    let stored = (history + [x]).map { host($0.storage).form == .int8 ? host($0.storage) : rounded($0) }
    let frames = zip(history + [x], stored).flatMap { map, storage in
      (0..<map.shape[0]).map { WinogradJob.Frame(storage: storage, position: $0 * x.shape[1] * x.shape[2]) }
    }
    let job = WinogradJob(
      frames: frames, height: x.shape[1],
      width: x.shape[2], inputs: weight.inputs, taps: weight.kernel.frames, outputs: weight.outputs, doubled: doubled,
      finish: finish)
    let perFrame = (job.tiles + CPUBackend.tilesOfPart - 1) / CPUBackend.tilesOfPart
    let last = job.tiles - (perFrame - 1) * CPUBackend.tilesOfPart
    let plans = job.positions.map { position -> (whole: PackedMatrix.Plan, last: PackedMatrix.Plan) in
      func plan(_ rows: Int) -> PackedMatrix.Plan {
        var sizes = lt_dnn_sizes()
        sizes.rows = Int32(rows)
        return layer.positions[position].plan(sizes)
      }
      let tail = plan(last)
      return (perFrame > 1 && last != CPUBackend.tilesOfPart ? plan(CPUBackend.tilesOfPart) : tail, tail)
    }
    withExtendedLifetime((x, history, weight, residual)) {
      workers.run(parts: shape[0] * perFrame) { part in
        let (frame, index) = (part / perFrame, part % perFrame)
        let first = index * CPUBackend.tilesOfPart
        let isLast = index == perFrame - 1
        convolve(
          job, frame: frame, tiles: first..<(isLast ? job.tiles : first + CPUBackend.tilesOfPart),
          plans: plans.map { isLast ? $0.last : $0.whole })
      }
    }
    return out
  }

  /// Some tiles of one output frame: transform, a product for each position, and back, row by row.
  private func convolve(_ job: WinogradJob, frame: Int, tiles: Range<Int>, plans: [PackedMatrix.Plan]) {
    let (count, kernel) = (tiles.count, job.taps * job.inputs)
    let inputs = memory.allocate(plans.count * count * kernel * 2, form: .bf16)
    let products = memory.allocate(plans.count * count * job.outputs * 4)
    let rows = memory.allocate(4 * CPUBackend.tilesOfRun * job.outputs * 4)
    let scratch = memory.allocate(plans.map(\.scratchBytes).max() ?? 0)
    withExtendedLifetime((inputs, products, rows, scratch)) {
      for tap in 0..<job.taps {
        var a = lt_winograd_input_arguments()
        let (storage, position) = (job.frames[frame + tap].storage, job.frames[frame + tap].position)
        if storage.form == .int8 {
          a.bytes = UnsafePointer(storage.bytes + position * job.inputs)
          a.scales = storage.scales.map { UnsafePointer($0.floats + position) }
        } else {
          a.map = UnsafePointer(storage.halves + position * job.inputs)
        }
        (a.height, a.width, a.channels) = (Int32(job.height), Int32(job.width), Int32(job.inputs))
        (a.doubled, a.first, a.count) = (job.doubled ? 1 : 0, Int32(tiles.lowerBound), Int32(count))
        (a.out, a.position_stride, a.tile_stride) = (inputs.halves + tap * job.inputs, count * kernel, kernel)
        lt_winograd_input(&a)
      }
      for (i, plan) in plans.enumerated() {
        plan.run(
          inputs.halves + i * count * kernel, into: products.floats + i * count * job.outputs, scratch: scratch.address)
      }
      var tile = tiles.lowerBound
      while tile < tiles.upperBound {
        let (y, x) = (tile / job.across, tile % job.across)
        let run = min(CPUBackend.tilesOfRun, tiles.upperBound - tile, job.across - x)
        var arguments = lt_winograd_output_arguments(
          products: products.floats + (tile - tiles.lowerBound) * job.outputs, position_stride: count * job.outputs,
          doubled: job.doubled ? 1 : 0, count: Int32(run), channels: Int32(job.outputs), out: rows.floats)
        lt_winograd_output(&arguments)
        // The last row and column of tiles may reach beyond the map.
        for half in 0..<min(2, job.outHeight - 2 * y) {
          job.finish.apply(
            rows.floats + half * 2 * run * job.outputs, stride: job.outputs,
            row: (frame * job.outHeight + 2 * y + half) * job.outWidth + 2 * x,
            rows: min(2 * run, job.outWidth - 2 * x), column: 0, columns: job.outputs)
        }
        tile += run
      }
    }
  }
}

/// What all parts of one convolution share. Holds addresses: made inside one operation, whose tensors outlive it.
private struct WinogradJob {
  /// One frame of a stored map, from `position` on.
  struct Frame {
    let storage: HostStorage
    let position: Int
  }
  /// Of history and input together.
  let frames: [Frame]
  /// Of the input.
  let height, width, inputs: Int
  let taps, outputs: Int
  let doubled: Bool
  let finish: Finish

  var outHeight: Int { doubled ? 2 * height : height }
  var outWidth: Int { doubled ? 2 * width : width }
  /// Tiles in a row.
  var across: Int { (outWidth + 1) / 2 }
  var tiles: Int { across * ((outHeight + 1) / 2) }
  /// The positions that are computed.
  var positions: [Int] {
    (0..<Int(doubled ? LT_WINOGRAD_DOUBLED_POSITIONS : LT_WINOGRAD_POSITIONS)).map {
      Int(lt_winograd_position(doubled ? 1 : 0, Int32($0)))
    }
  }
}
