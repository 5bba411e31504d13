import CKernels

/// Pages in host memory, in the order of `CKernels/pages.h`.
///
/// All of a pool is plain bytes: pages hold no addresses, so that their memory may be copied whole.
final class CPUPagePool: PagePool, @unchecked Sendable {
  let layout: PagePoolLayout
  let format: PageFormat
  let bytes: Int
  /// Tokens that the keys of a page take up.
  let width: Int
  private let keyBytes: Int
  private let valueBytes: Int
  private let keyMemory: HostStorage
  private let valueMemory: HostStorage
  private let temporalMemory: HostStorage?
  private let counts: HostStorage
  private let statistics: HostStorage
  /// Numbers of one page's statistics: mean key, mean value, dispersion, each padded to whole vectors.
  private let statisticsStride: Int
  private let channels: Int

  init(_ layout: PagePoolLayout, format: PageFormat, memory: HostAllocator) {
    self.layout = layout
    self.format = format
    let (dim, tokens) = (Int32(layout.headDim), Int32(layout.tokensPerPage))
    width = Int(lt_page_width(format.code, tokens))
    keyBytes = Int(lt_key_page_bytes(format.code, dim, tokens))
    valueBytes = Int(lt_value_page_bytes(format.code, dim, tokens))
    channels = (layout.headDim + 15) / 16 * 16
    statisticsStride = 2 * channels + 16
    let pages = layout.layers * layout.heads * layout.slots
    let sizes = (
      keys: pages * keyBytes, values: pages * valueBytes,
      temporal: pages * layout.tokensPerPage * layout.temporalChannels * 4, counts: pages * 4,
      statistics: pages * statisticsStride * 4
    )
    // Padding is read by whole vectors, so it must be finite.
    keyMemory = memory.allocateZeros(sizes.keys)
    valueMemory = memory.allocateZeros(sizes.values)
    temporalMemory = sizes.temporal > 0 ? memory.allocateZeros(sizes.temporal) : nil
    counts = memory.allocateZeros(sizes.counts)
    statistics = memory.allocateZeros(sizes.statistics)
    bytes = sizes.keys + sizes.values + sizes.temporal + sizes.counts + sizes.statistics
  }

  /// Position of a slot among all pages.
  func page(layer: Int, head: Int, slot: Int32) -> Int {
    precondition(slot >= 0 && Int(slot) < layout.slots, "slot \(slot) of \(layout.slots)")
    return ((layer % layout.layers) * layout.heads + head) * layout.slots + Int(slot)
  }
  func keys(_ page: Int) -> UnsafeMutableRawPointer { keyMemory.address + page * keyBytes }
  func values(_ page: Int) -> UnsafeMutableRawPointer { valueMemory.address + page * valueBytes }
  /// `[tokens][temporalChannels]`, before the temporal rotation.
  func temporal(_ page: Int) -> UnsafeMutablePointer<Float>? {
    temporalMemory.map { $0.floats + page * layout.tokensPerPage * layout.temporalChannels }
  }
  /// Tokens in a page; 0 before it is written.
  func count(_ page: Int) -> UnsafeMutablePointer<Int32> { counts.integers + page }
  func meanKey(_ page: Int) -> UnsafeMutablePointer<Float> { statistics.floats + page * statisticsStride }
  func meanValue(_ page: Int) -> UnsafeMutablePointer<Float> { meanKey(page) + channels }
  func dispersion(_ page: Int) -> UnsafeMutablePointer<Float> { meanKey(page) + 2 * channels }

  /// The memory of everything that is kept of a page, in the order of a snapshot. What a pool adds to a page belongs here.
  func fields(_ page: Int) -> [UnsafeMutableRawBufferPointer] {
    [
      UnsafeMutableRawBufferPointer(start: keys(page), count: keyBytes),
      UnsafeMutableRawBufferPointer(start: values(page), count: valueBytes),
      UnsafeMutableRawBufferPointer(
        start: temporal(page), count: temporal(page) == nil ? 0 : layout.tokensPerPage * layout.temporalChannels * 4),
      UnsafeMutableRawBufferPointer(start: count(page), count: 4),
      UnsafeMutableRawBufferPointer(start: meanKey(page), count: statisticsStride * 4),
    ]
  }
}

extension PageFormat {
  /// The number that the C kernels know it by.
  var code: Int32 {
    switch self {
    case .f32: Int32(LT_F32)
    case .bf16: Int32(LT_BF16)
    case .int8: Int32(LT_INT8)
    }
  }
}

// Writing pages and giving them new positions.
extension CPUBackend {
  func host(_ pool: any PagePool) -> CPUPagePool {
    guard let pool = pool as? CPUPagePool else { preconditionFailure("a page pool of another backend") }
    return pool
  }

  public func writePages(
    keys: DeviceTensor, keyNorm: DeviceTensor, epsilon: Float, rotary: Rotary, values: DeviceTensor,
    to pool: any PagePool, layer: Int, tiles: RowTiles, slots: DeviceIndices
  ) {
    let pool = host(pool)
    let layout = pool.layout
    let (dim, pages, rows, width) = (layout.headDim, tiles.count, tiles.rows, layout.heads * layout.headDim)
    precondition(slots.shape[0] == layout.heads && keys.shape == values.shape && keys.shape[1] == width)
    precondition(rows == keys.shape[0] && slots.shape[1] == pages, "\(rows) rows, slots \(slots.shape)")
    precondition(keyNorm.count == width, "a norm weight of \(keyNorm.count) for rows of \(width)")
    let (key, value, norm, slot) = (floats(keys), floats(values), floats(keyNorm), integers(slots))
    let (cosines, sines) = (floats(rotary.cosines), floats(rotary.sines))
    let inverses = memory.allocate(rows * 4)
    withExtendedLifetime((keys, keyNorm, values, slots, rotary, inverses)) {
      // A row's norm is that of all its heads; the rest is done page by page.
      parallel(rows, grain: 32) { range in
        lt_inverse_rms_f32(
          inverses.floats + range.lowerBound, key + range.lowerBound * width, width, Int32(range.count), epsilon,
          Int32(width))
      }
      parallel(layout.heads * pages, grain: 4) { range in
        withUnsafeTemporaryAllocation(byteCount: 64 * (dim + 15) * 4, alignment: 64) { scratch in
          for item in range {
            let (head, index) = (item / pages, item % pages)
            let page = pool.page(layer: layer, head: head, slot: slot[item])
            let (first, count) = (tiles[index].lowerBound, tiles[index].count)
            precondition(count <= layout.tokensPerPage, "\(count) tokens in a page of \(layout.tokensPerPage)")
            pool.count(page).pointee = Int32(count)
            let start = first * width + head * dim
            var arguments = lt_write_page_arguments(
              format: pool.format.code, head_dim: Int32(dim), tokens: Int32(layout.tokensPerPage), count: Int32(count),
              keys: key + start, values: value + start, stride: width, inverse: inverses.floats + first,
              norm: norm + head * dim, cosines: cosines + first * (dim / 2), sines: sines + first * (dim / 2),
              temporal: pool.temporal(page), temporal_channels: Int32(layout.temporalChannels),
              key_page: pool.keys(page), value_page: pool.values(page), mean_key: pool.meanKey(page),
              dispersion: pool.dispersion(page), scratch: scratch.baseAddress?.assumingMemoryBound(to: Float.self))
            lt_write_page(&arguments)
            lt_mean_rows_f32(value + start, width, Int32(count), Int32(dim), pool.meanValue(page))
          }
        }
      }
    }
  }

  public func repositionPages(
    in pool: any PagePool, layer: Int, slots: DeviceIndices, positions: DeviceIndices, table: Rotary
  ) {
    let pool = host(pool)
    let layout = pool.layout
    precondition(layout.temporalChannels > 0, "a pool that keeps no unrotated channels cannot be repositioned")
    precondition(slots.shape == positions.shape && table.headDim == layout.temporalChannels)
    let pairs = layout.temporalChannels / 2
    let n = slots.shape[1]
    let (slot, position, cosines, sines) = (
      integers(slots), integers(positions), floats(table.cosines), floats(table.sines)
    )
    withExtendedLifetime((slots, positions, table)) {
      parallel(layout.heads * n, grain: 16) { range in
        withUnsafeTemporaryAllocation(byteCount: 128 * (layout.headDim + 15) * 4, alignment: 64) { scratch in
          for item in range where slot[item] >= 0 {
            let page = pool.page(layer: layer, head: item / n, slot: slot[item])
            let row = Int(position[item]) * pairs
            var arguments = lt_turn_page_arguments(
              format: pool.format.code, head_dim: Int32(layout.headDim), tokens: Int32(layout.tokensPerPage),
              count: pool.count(page).pointee, temporal: pool.temporal(page),
              temporal_channels: Int32(layout.temporalChannels), tokens_per_frame: Int32(layout.tokensPerFrame),
              cosines: cosines + row, sines: sines + row, key_page: pool.keys(page), mean_key: pool.meanKey(page),
              dispersion: pool.dispersion(page), scratch: scratch.baseAddress?.assumingMemoryBound(to: Float.self))
            lt_turn_page(&arguments)
          }
        }
      }
    }
  }
}

extension lt_write_page_arguments {
  /// Packs `count` rows of one head as they are.
  ///
  /// - Parameter scratch: 64 rows of the head's channels, rounded up to 16.
  init(
    packing keys: UnsafePointer<Float>, _ values: UnsafePointer<Float>, stride: Int, count: Int, dim: Int, tokens: Int,
    as format: PageFormat, into keyPage: UnsafeMutableRawPointer, _ valuePage: UnsafeMutableRawPointer,
    scratch: UnsafeMutablePointer<Float>?
  ) {
    self.init()
    (self.format, head_dim, self.tokens, self.count) = (format.code, Int32(dim), Int32(tokens), Int32(count))
    self.keys = keys
    self.values = values
    self.stride = stride
    key_page = keyPage
    value_page = valuePage
    self.scratch = scratch
  }
}
