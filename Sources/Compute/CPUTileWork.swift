import CKernels

/// One call of the attention kernel: a tile of queries and the pages that it reads.
///
/// Holds raw addresses for the length of one operation; the operation keeps their owners.
struct TileWork {
  let format: PageFormat
  let query: UnsafePointer<Float>
  /// From one row of queries, and of results, to the next.
  let stride: Int
  let rows: Int
  let dim: Int
  let scale: Float
  /// Tokens of a full page, and what its keys take up.
  let tokens: Int
  let width: Int
  let result: UnsafeMutablePointer<Float>
  /// `[rows]`, if asked.
  var logSumExp: UnsafeMutablePointer<Float>?
  var biasRowStep = 0

  private var keys: [UnsafeRawPointer?] = []
  private var values: [UnsafeRawPointer?] = []
  private var biases: [UnsafePointer<Float>?] = []
  private var counts: [Int32] = []
  private var summaries = 0

  init(
    format: PageFormat, query: UnsafePointer<Float>, stride: Int, rows: Int, dim: Int, scale: Float, tokens: Int,
    result: UnsafeMutablePointer<Float>
  ) {
    (self.format, self.query, self.stride, self.rows) = (format, query, stride, rows)
    (self.dim, self.scale, self.tokens, self.result) = (dim, scale, tokens, result)
    width = Int(lt_page_width(format.code, Int32(tokens)))
  }

  mutating func append(
    keys: UnsafeRawPointer, values: UnsafeRawPointer, count: Int32, bias: UnsafePointer<Float>? = nil
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
    let (work, exact) = (Int(lt_attend_scratch(format.code, Int32(rows), Int32(dim))), keys.count - summaries)
    let extra = pageMass ? exact + summaries * width + 2 * rows * keys.count : 0
    withUnsafeTemporaryAllocation(byteCount: (work + extra) * 4, alignment: 64) { scratch in
      guard let floats = scratch.baseAddress?.assumingMemoryBound(to: Float.self) else { return }
      let (pages, perRow) = (floats + work, floats + work + exact)
      keys.withUnsafeBufferPointer { keys in
        values.withUnsafeBufferPointer { values in
          counts.withUnsafeBufferPointer { counts in
            biases.withUnsafeBufferPointer { biases in
              var arguments = lt_attend_arguments(
                format: format.code, queries: query, query_stride: stride, rows: Int32(rows), head_dim: Int32(dim),
                scale: scale, keys: keys.baseAddress, values: values.baseAddress, biases: biases.baseAddress,
                bias_row_step: biasRowStep, counts: counts.baseAddress, pages: Int32(keys.count),
                tokens: Int32(tokens), width: Int32(width), output: result, output_stride: stride, scratch: floats,
                log_sum_exp: logSumExp, keyed_from: Int32(exact), page_mass: pageMass ? pages : nil,
                key_mass: perRow, mass_scratch: perRow + summaries * width)
              lt_attend(&arguments)
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
  /// Up to a page of neighbouring rows.
  struct Group {
    let keys: UnsafeRawPointer
    let values: UnsafeRawPointer
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
  private let keyBytes: Int
  private let valueBytes: Int
  private var tokens: Int { pool.layout.tokensPerPage }
  private var groups: Int { (count + tokens - 1) / tokens }

  /// - Parameter slots: `[heads][count]`, kept by the caller.
  init(_ pool: CPUPagePool, layer: Int, slots: UnsafePointer<Int32>, count: Int, on backend: CPUBackend) {
    (self.pool, self.slots, self.count) = (pool, slots, count)
    // Means of many tokens are worth more than a step of one page's channel.
    let format = pool.format == .int8 ? PageFormat.bf16 : pool.format
    let (heads, dim, tokens) = (pool.layout.heads, pool.layout.headDim, pool.layout.tokensPerPage)
    let groups = (count + tokens - 1) / tokens
    keyBytes = Int(lt_key_page_bytes(format.code, Int32(dim), Int32(tokens)))
    valueBytes = Int(lt_value_page_bytes(format.code, Int32(dim), Int32(tokens)))
    keyRows = backend.memory.allocate(heads * groups * keyBytes)
    valueRows = backend.memory.allocate(heads * groups * valueBytes)
    logarithms = backend.memory.allocate(heads * count * 4)
    let (keyPages, valuePages, numbers) = (keyRows.address, valueRows.address, logarithms.floats)
    let (keyBytes, valueBytes) = (keyBytes, valueBytes)
    backend.parallel(heads * groups, grain: 1) { range in
      // Mean keys, mean values, and what the kernel asks for.
      withUnsafeTemporaryAllocation(byteCount: (2 * tokens * dim + 64 * (dim + 15)) * 4, alignment: 64) { scratch in
        guard let rows = scratch.baseAddress?.assumingMemoryBound(to: Float.self) else { return }
        rows.initialize(repeating: 0, count: 2 * tokens * dim)
        for item in range {
          let (head, first) = (item / groups, item % groups * tokens)
          let places = first..<min(count, first + tokens)
          for place in places {
            let (slot, row) = (slots[head * count + place], rows + (place - first) * dim)
            guard slot >= 0 else {
              numbers[head * count + place] = -.infinity
              row.update(repeating: 0, count: dim)
              (row + tokens * dim).update(repeating: 0, count: dim)
              continue
            }
            let page = pool.page(layer: layer, head: head, slot: slot)
            row.update(from: pool.meanKey(page), count: dim)
            (row + tokens * dim).update(from: pool.meanValue(page), count: dim)
            numbers[head * count + place] = log(Float(pool.count(page).pointee))
          }
          memset(valuePages + item * valueBytes, 0, valueBytes)
          var arguments = lt_write_page_arguments(
            packing: rows, rows + tokens * dim, stride: dim, count: places.count, dim: dim, tokens: tokens, as: format,
            into: keyPages + item * keyBytes, valuePages + item * valueBytes, scratch: rows + 2 * tokens * dim)
          lt_write_page(&arguments)
        }
      }
    }
  }

  /// The rows of a head, and the bias of each: -inf for the pages that are `listed`. Groups of nothing else are left out.
  func withRows(head: Int, without listed: [Int32], _ body: ([Group], UnsafePointer<Float>) -> Void) {
    withUnsafeTemporaryAllocation(of: Bool.self, capacity: pool.layout.slots) { read in
      read.initialize(repeating: false)
      for slot in listed { read[Int(slot)] = true }
      withUnsafeTemporaryAllocation(of: Float.self, capacity: max(1, count)) { biases in
        biases.initialize(repeating: -.infinity)
        guard let numbers = biases.baseAddress else { return }
        var kept: [Group] = []
        for group in 0..<groups {
          let places = group * tokens..<min(count, (group + 1) * tokens)
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
                keys: keyRows.address + page * keyBytes, values: valueRows.address + page * valueBytes,
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
