import CKernels

/// Pages in host memory: keys `[headDim][width]` with the tokens of a page side by side, values `[tokens][valueStride]`.
final class CPUPagePool: PagePool, @unchecked Sendable {
  let layout: PagePoolLayout
  let bytes: Int
  /// Tokens of a page rounded up to 16.
  let width: Int
  /// headDim rounded up to 16.
  let valueStride: Int
  private let keyMemory: HostStorage
  private let valueMemory: HostStorage
  private let temporalMemory: HostStorage?
  private let counts: HostStorage
  private let statistics: HostStorage
  /// Numbers of one page's statistics: mean key, mean value, dispersion, each padded to whole vectors.
  private let statisticsStride: Int

  init(_ layout: PagePoolLayout, memory: HostAllocator) {
    self.layout = layout
    width = (layout.tokensPerPage + 15) / 16 * 16
    valueStride = (layout.headDim + 15) / 16 * 16
    statisticsStride = 2 * valueStride + 16
    let pages = layout.layers * layout.heads * layout.slots
    let sizes = (
      keys: pages * layout.headDim * width * 4, values: pages * layout.tokensPerPage * valueStride * 4,
      temporal: pages * layout.tokensPerPage * layout.temporalChannels * 4, counts: pages * 4,
      statistics: pages * statisticsStride * 4
    )
    keyMemory = memory.allocate(sizes.keys)
    valueMemory = memory.allocate(sizes.values)
    temporalMemory = sizes.temporal > 0 ? memory.allocate(sizes.temporal) : nil
    counts = memory.allocate(sizes.counts)
    statistics = memory.allocate(sizes.statistics)
    // Padding is read by whole vectors, so it must be finite.
    keyMemory.floats.initialize(repeating: 0, count: sizes.keys / 4)
    valueMemory.floats.initialize(repeating: 0, count: sizes.values / 4)
    counts.integers.initialize(repeating: 0, count: pages)
    statistics.floats.initialize(repeating: 0, count: sizes.statistics / 4)
    bytes = sizes.keys + sizes.values + sizes.temporal + sizes.counts + sizes.statistics
  }

  /// Position of a slot among all pages.
  func page(layer: Int, head: Int, slot: Int32) -> Int {
    precondition(slot >= 0 && Int(slot) < layout.slots, "slot \(slot) of \(layout.slots)")
    return ((layer % layout.layers) * layout.heads + head) * layout.slots + Int(slot)
  }
  func keys(_ page: Int) -> UnsafeMutablePointer<Float> { keyMemory.floats + page * layout.headDim * width }
  func values(_ page: Int) -> UnsafeMutablePointer<Float> {
    valueMemory.floats + page * layout.tokensPerPage * valueStride
  }
  /// `[tokens][temporalChannels]`, before the temporal rotation.
  func temporal(_ page: Int) -> UnsafeMutablePointer<Float>? {
    temporalMemory.map { $0.floats + page * layout.tokensPerPage * layout.temporalChannels }
  }
  /// Tokens in a page; 0 before it is written.
  func count(_ page: Int) -> UnsafeMutablePointer<Int32> { counts.integers + page }
  func meanKey(_ page: Int) -> UnsafeMutablePointer<Float> { statistics.floats + page * statisticsStride }
  func meanValue(_ page: Int) -> UnsafeMutablePointer<Float> { meanKey(page) + valueStride }
  func dispersion(_ page: Int) -> UnsafeMutablePointer<Float> { meanKey(page) + 2 * valueStride }

  /// The memory of everything that is kept of a page, in the order of a snapshot. What a pool adds to a page belongs here.
  func fields(_ page: Int) -> [UnsafeMutableRawBufferPointer] {
    [
      UnsafeMutableRawBufferPointer(start: keys(page), count: layout.headDim * width * 4),
      UnsafeMutableRawBufferPointer(start: values(page), count: layout.tokensPerPage * valueStride * 4),
      UnsafeMutableRawBufferPointer(
        start: temporal(page), count: temporal(page) == nil ? 0 : layout.tokensPerPage * layout.temporalChannels * 4),
      UnsafeMutableRawBufferPointer(start: count(page), count: 4),
      UnsafeMutableRawBufferPointer(start: meanKey(page), count: statisticsStride * 4),
    ]
  }

  /// Takes the statistics of a page's keys anew.
  func summarizeKeys(_ page: Int) {
    lt_key_statistics_f32(
      keys(page), Int32(layout.headDim), Int32(width), count(page).pointee, meanKey(page), dispersion(page))
  }
}

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
    let (dim, pages) = (layout.headDim, tiles.count)
    precondition(slots.shape[0] == layout.heads && keys.shape == values.shape && keys.shape[1] == layout.heads * dim)
    precondition(tiles.rows == keys.shape[0] && slots.shape[1] == pages, "\(tiles.rows) rows, slots \(slots.shape)")
    let normed = rmsNorm(keys, epsilon: epsilon, weight: keyNorm, rotary: nil)
    let (key, value, slot) = (floats(normed), floats(values), integers(slots))
    let (cosines, sines) = (floats(rotary.cosines), floats(rotary.sines))
    withExtendedLifetime((normed, values, slots, rotary)) {
      parallel(layout.heads * pages, grain: 4) { range in
        for item in range {
          let (head, index) = (item / pages, item % pages)
          let page = pool.page(layer: layer, head: head, slot: slot[item])
          let (first, count) = (tiles[index].lowerBound, tiles[index].count)
          precondition(count <= layout.tokensPerPage, "\(count) tokens in a page of \(layout.tokensPerPage)")
          let (keyPage, valuePage, temporal) = (pool.keys(page), pool.values(page), pool.temporal(page))
          pool.count(page).pointee = Int32(count)
          withUnsafeTemporaryAllocation(of: Float.self, capacity: dim) { turned in
            guard let row = turned.baseAddress else { return }
            for t in 0..<count {
              let source = (first + t) * layout.heads * dim + head * dim
              row.update(from: key + source, count: dim)
              if let temporal {
                (temporal + t * layout.temporalChannels).update(from: row, count: layout.temporalChannels)
              }
              lt_rotate_pairs_f32(
                row, cosines + (first + t) * (dim / 2), sines + (first + t) * (dim / 2), Int32(dim / 2))
              for d in 0..<dim { keyPage[d * pool.width + t] = row[d] }
              (valuePage + t * pool.valueStride).update(from: value + source, count: dim)
            }
          }
          pool.summarizeKeys(page)
          lt_mean_rows_f32(valuePage, pool.valueStride, Int32(count), Int32(dim), pool.meanValue(page))
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
        for item in range where slot[item] >= 0 {
          let page = pool.page(layer: layer, head: item / n, slot: slot[item])
          guard let original = pool.temporal(page) else { continue }
          let keys = pool.keys(page)
          for t in 0..<Int(pool.count(page).pointee) {
            let row = (Int(position[item]) + t / layout.tokensPerFrame) * pairs
            for p in 0..<pairs {
              let (a, b) = (original[t * 2 * pairs + 2 * p], original[t * 2 * pairs + 2 * p + 1])
              keys[2 * p * pool.width + t] = a * cosines[row + p] - b * sines[row + p]
              keys[(2 * p + 1) * pool.width + t] = a * sines[row + p] + b * cosines[row + p]
            }
          }
          pool.summarizeKeys(page)
        }
      }
    }
  }

  public func attend(
    _ queries: DeviceTensor, tiles: RowTiles, pool: any PagePool, layer: Int, lists: PageLists, scale: Float,
    answers: AttentionAnswers
  ) -> Attended {
    let pool = host(pool)
    let (heads, dim, slots, rows) = (pool.layout.heads, pool.layout.headDim, pool.layout.slots, tiles.rows)
    let count = tiles.count
    let shared = lists.shared.shape[1]
    let own = lists.perTile?.shape[2] ?? 0
    precondition(queries.shape == [rows, heads * dim] && lists.shared.shape[0] == heads)
    precondition(lists.perTile.map { $0.shape[0] == heads && $0.shape[1] == count } ?? true)
    let out = make(queries.shape)
    let logSumExp = answers.contains(.logSumExp) ? make([heads, rows]) : nil
    let tail = lists.tail.map { TailRows(pool, layer: layer, slots: integers($0), count: $0.shape[1], memory: memory) }
    let tailSlots = lists.tail.map { integers($0) }
    // Each tile adds to masses of its own, which are then summed in order.
    let tileMass = answers.contains(.mass) ? memory.allocate(heads * count * slots * 4) : nil
    tileMass?.floats.initialize(repeating: 0, count: heads * count * slots)
    let (query, result, sharedSlots) = (floats(queries), floats(out), integers(lists.shared))
    let (ownSlots, sums) = (lists.perTile.map { integers($0) }, logSumExp.map { floats($0) })
    withExtendedLifetime((queries, lists)) {
      parallel(heads * count, grain: 1) { range in
        for item in range {
          let (head, tile) = (item / count, item % count)
          let (first, height) = (tiles[tile].lowerBound, tiles[tile].count)
          var listed = (0..<shared).compactMap { i in
            let slot = sharedSlots[head * shared + i]
            return slot < 0 ? nil : slot
          }
          if let ownSlots {
            for i in 0..<own where ownSlots[item * own + i] >= 0 { listed.append(ownSlots[item * own + i]) }
          }
          let start = first * heads * dim + head * dim
          var work = TileWork(
            query: query + start, stride: heads * dim, rows: height, dim: dim, scale: scale, width: pool.width,
            valueStride: pool.valueStride, result: result + start)
          for slot in listed {
            let page = pool.page(layer: layer, head: head, slot: slot)
            work.append(keys: pool.keys(page), values: pool.values(page), count: pool.count(page).pointee)
          }
          work.logSumExp = sums.map { $0 + head * rows + first }
          let masses = tileMass.map { $0.floats + item * slots }
          tail?.withRows(head: head, without: listed) { groups, biases in
            work.appendSummaries(groups, biases)
            work.run(pageMass: masses != nil) { pages, keys in
              guard let masses, let tail, let tailSlots else { return }
              for (i, slot) in listed.enumerated() { masses[Int(slot)] = pages[i] }
              for (i, group) in groups.enumerated() {
                for j in 0..<Int(group.count) {
                  let place = group.first + j
                  let slot = tailSlots[head * tail.count + place]
                  if slot >= 0, biases[place] > -.infinity { masses[Int(slot)] = keys[i * pool.width + j] }
                }
              }
            }
          }
          if tail == nil {
            work.run(pageMass: masses != nil) { pages, _ in
              if let masses { for (i, slot) in listed.enumerated() { masses[Int(slot)] = pages[i] } }
            }
          }
        }
      }
    }
    return Attended(output: out, logSumExp: logSumExp, mass: tileMass.map { total($0, heads, count, slots) })
  }

  /// `[heads, tiles, slots]` → `[heads, slots]`, tile after tile.
  private func total(_ tileMass: HostStorage, _ heads: Int, _ tiles: Int, _ slots: Int) -> DeviceTensor {
    let mass = make([heads, slots])
    let (sum, parts) = (floats(mass), tileMass.floats)
    sum.initialize(repeating: 0, count: heads * slots)
    for head in 0..<heads {
      for tile in 0..<tiles {
        for slot in 0..<slots { sum[head * slots + slot] += parts[(head * tiles + tile) * slots + slot] }
      }
    }
    return mass
  }

  public func attention(
    queries: DeviceTensor, keys: DeviceTensor, values: DeviceTensor, heads: Int, scale: Float, bias: AttentionBias
  ) -> DeviceTensor {
    let (n, m, dim) = (queries.shape[0], keys.shape[0], queries.shape[1] / heads)
    precondition(keys.shape == values.shape && keys.shape[1] == queries.shape[1] && dim * heads == queries.shape[1])
    // Keys and values are packed into pages of 64 once, and shared by all query tiles of a head.
    let (width, stride) = (64, (dim + 15) / 16 * 16)
    let pages = (m + width - 1) / width
    let keyPages = memory.allocate(heads * pages * dim * width * 4)
    let valuePages = memory.allocate(heads * pages * width * stride * 4)
    let (key, value, query) = (floats(keys), floats(values), floats(queries))
    let out = make(queries.shape)
    let result = floats(out)
    let biasNumbers: UnsafeMutablePointer<Float>?
    switch bias {
    case .none: biasNumbers = nil
    case .perKey(let table):
      precondition(table.count == m, "a bias of \(table.count) for \(m) keys")
      biasNumbers = floats(table)
    case .relative(let table):
      precondition(table.shape == [heads, n + m - 1], "a bias \(table.shape) for \(heads) heads, \(n) by \(m)")
      biasNumbers = floats(table)
    }
    withExtendedLifetime((queries, keys, values, bias, keyPages, valuePages)) {
      parallel(heads * pages, grain: 1) { range in
        for item in range {
          let (head, page) = (item / pages, item % pages)
          let (k, v) = (keyPages.floats + item * dim * width, valuePages.floats + item * width * stride)
          for t in 0..<width {
            let token = page * width + t
            let source = min(token, m - 1) * heads * dim + head * dim
            for d in 0..<dim { k[d * width + t] = token < m ? key[source + d] : 0 }
            for d in 0..<stride { v[t * stride + d] = token < m && d < dim ? value[source + d] : 0 }
          }
        }
      }
      let tile = 60
      let tiles = (n + tile - 1) / tile
      parallel(heads * tiles, grain: 1) { range in
        for item in range {
          let (head, first) = (item / tiles, item % tiles * tile)
          let start = first * heads * dim + head * dim
          var work = TileWork(
            query: query + start, stride: heads * dim, rows: min(tile, n - first), dim: dim, scale: scale, width: width,
            valueStride: stride, result: result + start)
          if case .relative = bias { work.biasRowStep = -1 }
          for page in 0..<pages {
            let numbers = biasNumbers.map { numbers -> UnsafePointer<Float> in
              switch bias {
              case .relative: UnsafePointer(numbers + head * (n + m - 1) + (n - 1 - first) + page * width)
              default: UnsafePointer(numbers + page * width)
              }
            }
            let item = head * pages + page
            work.append(
              keys: keyPages.floats + item * dim * width, values: valuePages.floats + item * width * stride,
              count: Int32(min(width, m - page * width)), bias: numbers)
          }
          work.run()
        }
      }
    }
    return out
  }
}
