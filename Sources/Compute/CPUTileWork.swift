import CKernels

/// One call of the attention kernel: a tile of queries and the pages that it reads.
///
/// Holds raw addresses for the length of one operation; the operation keeps their owners.
struct TileWork {
  let query: UnsafePointer<Float>
  /// From one row of queries, and of results, to the next.
  let stride: Int
  let rows: Int
  let dim: Int
  let scale: Float
  /// Padded tokens of a page.
  let width: Int
  let valueStride: Int
  let result: UnsafeMutablePointer<Float>
  /// `[rows]`, if asked.
  var logSumExp: UnsafeMutablePointer<Float>?
  var biasRowStep = 0

  private var keys: [UnsafePointer<Float>?] = []
  private var values: [UnsafePointer<Float>?] = []
  private var biases: [UnsafePointer<Float>?] = []
  private var counts: [Int32] = []
  private var summaries = 0

  init(
    query: UnsafePointer<Float>, stride: Int, rows: Int, dim: Int, scale: Float, width: Int, valueStride: Int,
    result: UnsafeMutablePointer<Float>
  ) {
    (self.query, self.stride, self.rows, self.dim, self.scale) = (query, stride, rows, dim, scale)
    (self.width, self.valueStride, self.result) = (width, valueStride, result)
  }

  mutating func append(
    keys: UnsafePointer<Float>, values: UnsafePointer<Float>, count: Int32, bias: UnsafePointer<Float>? = nil
  ) {
    self.keys.append(keys)
    self.values.append(values)
    biases.append(bias)
    counts.append(count)
  }

  /// Pages that hold summary rows, `biases[first + j]` being that of row j; after all other pages.
  mutating func appendSummaries(_ groups: [TailRows.Group], _ biases: UnsafePointer<Float>) {
    for group in groups {
      append(keys: group.keys, values: group.values, count: group.count, bias: biases + group.first)
    }
    summaries += groups.count
  }

  /// Computes the tile. `masses` gets the weight of each page, and of each summary row `[group][width]`.
  func run(
    pageMass: Bool = false,
    masses: (_ pages: UnsafeMutablePointer<Float>, _ rows: UnsafeMutablePointer<Float>) -> Void = { _, _ in }
  ) {
    let (work, exact) = (rows * (valueStride + 66), keys.count - summaries)
    let extra = pageMass ? exact + summaries * width + 2 * rows * keys.count : 0
    withUnsafeTemporaryAllocation(byteCount: max(1, work + extra) * 4, alignment: 64) { scratch in
      guard let floats = scratch.baseAddress?.assumingMemoryBound(to: Float.self) else { return }
      let (pages, perRow) = (floats + work, floats + work + exact)
      keys.withUnsafeBufferPointer { keys in
        values.withUnsafeBufferPointer { values in
          counts.withUnsafeBufferPointer { counts in
            biases.withUnsafeBufferPointer { biases in
              var arguments = lt_attend_f32_arguments(
                queries: query, query_stride: stride, rows: Int32(rows), head_dim: Int32(dim), scale: scale,
                keys: keys.baseAddress, values: values.baseAddress, biases: biases.baseAddress,
                bias_row_step: biasRowStep, counts: counts.baseAddress, pages: Int32(keys.count), width: Int32(width),
                value_stride: Int32(valueStride), output: result, output_stride: stride, scratch: floats,
                log_sum_exp: logSumExp, keyed_from: Int32(exact), page_mass: pageMass ? pages : nil,
                key_mass: perRow, mass_scratch: perRow + summaries * width)
              lt_attend_f32(&arguments)
            }
          }
        }
      }
      if pageMass { masses(pages, perRow) }
    }
  }
}

/// The centroids of pages, packed as pages of their own: one row per page, its mean key and its mean value.
///
/// Packed once per head for all of its query tiles; a tile leaves out the pages that it reads by a bias of -inf.
final class TailRows {
  /// Up to `width` neighbouring rows.
  struct Group {
    let keys: UnsafePointer<Float>
    let values: UnsafePointer<Float>
    let count: Int32
    /// Place of the first row among the tail's pages.
    let first: Int
  }
  /// Pages of one head in the tail's list, those of -1 included.
  let count: Int
  private let pool: CPUPagePool
  private let slots: UnsafePointer<Int32>
  private let keyRows: HostStorage
  private let valueRows: HostStorage
  private let logarithms: HostStorage
  private var groups: Int { (count + pool.width - 1) / pool.width }

  /// - Parameter slots: `[heads][count]`, kept by the caller.
  init(_ pool: CPUPagePool, layer: Int, slots: UnsafePointer<Int32>, count: Int, memory: HostAllocator) {
    (self.pool, self.slots, self.count) = (pool, slots, count)
    let (heads, dim, width, stride) = (pool.layout.heads, pool.layout.headDim, pool.width, pool.valueStride)
    let pages = heads * ((count + width - 1) / width)
    keyRows = memory.allocate(pages * dim * width * 4)
    valueRows = memory.allocate(pages * stride * width * 4)
    logarithms = memory.allocate(heads * count * 4)
    keyRows.floats.initialize(repeating: 0, count: pages * dim * width)
    valueRows.floats.initialize(repeating: 0, count: pages * stride * width)
    for head in 0..<heads {
      for place in 0..<count {
        let slot = slots[head * count + place]
        guard slot >= 0 else {
          logarithms.floats[head * count + place] = -.infinity
          continue
        }
        let page = pool.page(layer: layer, head: head, slot: slot)
        let (group, column) = (head * groups + place / width, place % width)
        let (key, value) = (pool.meanKey(page), pool.meanValue(page))
        for d in 0..<dim { keyRows.floats[(group * dim + d) * width + column] = key[d] }
        (valueRows.floats + (group * width + column) * stride).update(from: value, count: dim)
        logarithms.floats[head * count + place] = log(Float(pool.count(page).pointee))
      }
    }
  }

  /// The rows of a head, and the bias of each: -inf for the pages that are `listed`. Groups of nothing else are left out.
  func withRows(head: Int, without listed: [Int32], _ body: ([Group], UnsafePointer<Float>) -> Void) {
    let (dim, width, stride) = (pool.layout.headDim, pool.width, pool.valueStride)
    withUnsafeTemporaryAllocation(of: Bool.self, capacity: pool.layout.slots) { read in
      read.initialize(repeating: false)
      for slot in listed { read[Int(slot)] = true }
      // The kernel reads biases by whole pages of summary rows.
      withUnsafeTemporaryAllocation(of: Float.self, capacity: max(1, groups * width)) { biases in
        biases.initialize(repeating: -.infinity)
        guard let numbers = biases.baseAddress else { return }
        var kept: [Group] = []
        for group in 0..<groups {
          let places = group * width..<min(count, (group + 1) * width)
          var any = false
          for place in places {
            let slot = slots[head * count + place]
            if slot < 0 || read[Int(slot)] { continue }
            numbers[place] = logarithms.floats[head * count + place]
            any = true
          }
          if any {
            let page = head * groups + group
            kept.append(
              Group(
                keys: keyRows.floats + page * dim * width, values: valueRows.floats + page * stride * width,
                count: Int32(places.count), first: places.lowerBound))
          }
        }
        body(kept, numbers)
      }
    }
  }
}

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif
