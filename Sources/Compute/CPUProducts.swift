import CKernels
import COneDNN

// Products and convolutions of reduced precision.
extension CPUBackend {
  /// Rows of one part at most. Fixed, so that results do not depend on threads.
  private static let panelRows = 64

  /// A run of output columns of one of several layers.
  private struct Piece {
    let finish: Finish
    let column, columns: Int
    /// Of all panels but the last, and of that, which may be lower.
    let whole, last: PackedMatrix.Plan
    /// Bytes of the finished rows for the next layer, if they are whole here.
    let next: HostStorage?
  }

  /// `x W^T` of layers of one precision in panels, each finished while it is in cache.
  func products(_ x: DeviceTensor, _ jobs: [(layer: PackedLayer, finish: Finish)], inputs: Int) {
    let rows = x.count / inputs
    let bytes = jobs.first?.layer.scales != nil
    let source = bytes ? quantised(x, width: inputs) : rounded(x)
    let down = (rows + CPUBackend.panelRows - 1) / CPUBackend.panelRows
    // Of even size: a short last panel would leave a thread idle.
    let panelRows = (rows + down - 1) / down
    let tail = rows - (down - 1) * panelRows
    let pieces = jobs.flatMap { layer, finish -> [Piece] in
      let matrices = layer.matrices
      // What follows an activation in bytes is a layer in bytes.
      let isRounded = bytes && finish.out.form == .bf16 && matrices.count == 1
      let next =
        isRounded ? memory.allocate(rows * finish.width, form: .int8, scales: memory.allocate(rows * 4)) : nil
      return matrices.indices.map { i in
        func plan(_ rows: Int) -> PackedMatrix.Plan {
          var sizes = lt_dnn_sizes()
          sizes.rows = Int32(rows)
          return matrices[i].plan(sizes)
        }
        let last = plan(tail)
        return Piece(
          finish: finish, column: matrices[..<i].reduce(0) { $0 + $1.outputs }, columns: matrices[i].outputs,
          whole: down > 1 && tail != panelRows ? plan(panelRows) : last, last: last, next: next)
      }
    }
    // Panel after panel of the same columns, whose weights stay in the cache.
    workers.run(parts: down * pieces.count) { part in
      let (piece, panel) = (pieces[part / down], part % down)
      let plan = panel == down - 1 ? piece.last : piece.whole
      let row = panel * panelRows
      let height = panel == down - 1 ? tail : panelRows
      let (finish, columns) = (piece.finish, piece.columns)
      let sums = memory.allocate(height * columns * 4)
      let scratch = memory.allocate(plan.scratchBytes)
      withExtendedLifetime((sums, scratch)) {
        plan.run(source.address + row * inputs * (bytes ? 1 : 2), into: sums.floats, scratch: scratch.address)
        finish.apply(
          sums.floats, stride: columns, row: row, rows: height, column: piece.column, columns: columns,
          rowScales: source.scales.map { UnsafePointer($0.floats + row) })
        if let next = piece.next, let scales = next.scales {
          for r in row..<row + height {
            lt_quantise_row_bf16(
              scales.floats + r, next.bytes + r * columns, finish.out.halves + r * columns, Int32(columns))
          }
        }
      }
    }
    for piece in pieces { if let next = piece.next { piece.finish.out.keep(next) } }
  }

  /// Floats of sums that one part of a convolution makes at most: they are added to by each time tap.
  private static let bandFloats = 1 << 16
  /// Parts of a frame at least, for the threads.
  private static let bandsPerFrame = 8

  /// A convolution as one 2-D convolution per time tap, added up: the frames of a tap are read where they lie, in
  /// `history` or in `x`, and nothing is joined or unrolled.
  func convolve(
    _ x: DeviceTensor, after history: [DeviceTensor], _ weight: ConvolutionWeight, _ layer: PackedLayer,
    stride: ConvolutionStride, padding: SpatialPadding, shape: [Int], finish: Finish
  ) {
    let (height, width, channels) = (x.shape[1], x.shape[2], x.shape[3])
    let (outHeight, outWidth, outputs) = (shape[1], shape[2], shape[3])
    let kernel = weight.kernel
    let frameSize = height * width * channels
    let stored = (history + [x]).map { rounded($0) }
    let maps = FrameMaps(
      zip(history + [x], stored).flatMap { map, storage in
        (0..<map.shape[0]).map { UnsafePointer(storage.halves + $0 * frameSize) }
      })
    // Bands depend on the size of a map alone, not on how many frames come at once, so that every chunking of a stream
    // gives the same bytes.
    let band = max(
      1,
      min(
        (outHeight + CPUBackend.bandsPerFrame - 1) / CPUBackend.bandsPerFrame,
        CPUBackend.bandFloats / (outWidth * outputs)))
    let bands = (outHeight + band - 1) / band

    /// The rows of the map that a band reads, and the plan for them; nil if it reads padding only.
    struct Band {
      let source: Range<Int>
      let first, next: [PackedMatrix.Plan]
      let scratchBytes: Int
    }
    let direct = layer.isPointwise && stride.space == 1 && padding == .all(0)
    precondition(
      direct || !layer.isPointwise, "a kernel of one position takes neither steps nor padding in space")
    let all = (0..<bands).map { index -> Band? in
      let rows = min(band, outHeight - index * band)
      let start = index * band * stride.space - padding.top
      let end = start + (rows - 1) * stride.space + kernel.rows
      let inside = max(0, start)..<max(0, start, min(height, end))
      if inside.isEmpty { return nil }
      var sizes = lt_dnn_sizes()
      if direct {
        sizes.rows = Int32(rows * outWidth)
      } else {
        (sizes.height, sizes.width, sizes.stride) = (Int32(inside.count), Int32(width), Int32(stride.space))
        (sizes.top, sizes.bottom) = (Int32(inside.lowerBound - start), Int32(end - inside.upperBound))
        (sizes.left, sizes.right) = (Int32(padding.left), Int32(padding.right))
      }
      let first = layer.matrices.map { $0.plan(sizes) }
      sizes.adds = 1
      let next = kernel.frames > 1 ? layer.matrices.map { $0.plan(sizes) } : []
      return Band(
        source: inside, first: first, next: next, scratchBytes: (first + next).map(\.scratchBytes).max() ?? 0)
    }
    workers.run(parts: shape[0] * bands) { part in
      let (frame, index) = (part / bands, part % bands)
      let row = frame * outHeight + index * band
      let rows = min(band, outHeight - index * band)
      let sums = memory.allocate(rows * outWidth * outputs * 4)
      let scratch = memory.allocate(all[index]?.scratchBytes ?? 0)
      withExtendedLifetime((sums, scratch, stored)) {
        if let band = all[index] {
          for tap in 0..<kernel.frames {
            let map = maps[frame * stride.frames + tap]
            (tap == 0 ? band.first : band.next)[tap].run(
              map + band.source.lowerBound * width * channels, into: sums.floats, scratch: scratch.address)
          }
        } else {
          sums.floats.initialize(repeating: 0, count: rows * outWidth * outputs)
        }
        finish.apply(
          sums.floats, stride: outputs, row: row * outWidth, rows: rows * outWidth, column: 0, columns: outputs)
      }
    }
  }
}
