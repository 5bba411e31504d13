import CKernels

// Attention over pages, and over dense keys and values, which are packed into pages first.
extension CPUBackend {
  /// From so many parts on, two neighbouring tiles that read the same pages go through them together: each page is brought
  /// to the core's own cache half as often.
  private static let partsToJoin = 128

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
    let tail = lists.tail.map { TailRows(pool, layer: layer, slots: integers($0), count: $0.shape[1], on: self) }
    let tailSlots = lists.tail.map { integers($0) }
    let span = lists.perTile == nil && heads * count >= CPUBackend.partsToJoin ? 2 : 1
    let groups = (count + span - 1) / span
    // Each part adds to masses of its own, which are then summed in order.
    let partMass = answers.contains(.mass) ? memory.allocate(heads * groups * slots * 4) : nil
    partMass?.floats.initialize(repeating: 0, count: heads * groups * slots)
    let (query, result, sharedSlots) = (floats(queries), floats(out), integers(lists.shared))
    let (ownSlots, sums) = (lists.perTile.map { integers($0) }, logSumExp.map { floats($0) })
    withExtendedLifetime((queries, lists)) {
      parallel(heads * groups, grain: 1) { range in
        for item in range {
          let (head, tile) = (item / groups, item % groups * span)
          let first = tiles[tile].lowerBound
          let height = tiles[min(tile + span, count) - 1].upperBound - first
          var listed = (0..<shared).compactMap { i in
            let slot = sharedSlots[head * shared + i]
            return slot < 0 ? nil : slot
          }
          if let ownSlots {
            let start = (head * count + tile) * own
            for i in start..<start + own where ownSlots[i] >= 0 { listed.append(ownSlots[i]) }
          }
          let start = first * heads * dim + head * dim
          var work = TileWork(
            format: pool.format, query: query + start, stride: heads * dim, rows: height, dim: dim, scale: scale,
            tokens: pool.layout.tokensPerPage, result: result + start)
          for slot in listed {
            let page = pool.page(layer: layer, head: head, slot: slot)
            work.append(keys: pool.keys(page), values: pool.values(page), count: pool.count(page).pointee)
          }
          work.logSumExp = sums.map { $0 + head * rows + first }
          let masses = partMass.map { $0.floats + item * slots }
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
    return Attended(output: out, logSumExp: logSumExp, mass: partMass.map { total($0, heads, groups, slots) })
  }

  /// `[heads, parts, slots]` → `[heads, slots]`, part after part.
  private func total(_ partMass: HostStorage, _ heads: Int, _ count: Int, _ slots: Int) -> DeviceTensor {
    let mass = make([heads, slots])
    let (sum, parts) = (floats(mass), partMass.floats)
    sum.initialize(repeating: 0, count: heads * slots)
    for head in 0..<heads {
      for part in 0..<count {
        for slot in 0..<slots { sum[head * slots + slot] += parts[(head * count + part) * slots + slot] }
      }
    }
    return mass
  }

  public func attention(
    queries: DeviceTensor, keys: DeviceTensor, values: DeviceTensor, heads: Int, scale: Float, bias: AttentionBias
  ) -> DeviceTensor {
    let (n, m, dim) = (queries.shape[0], keys.shape[0], queries.shape[1] / heads)
    precondition(keys.shape == values.shape && keys.shape[1] == queries.shape[1] && dim * heads == queries.shape[1])
    // Keys and values are packed into pages of 64 once, and shared by all query tiles of a head. A bias by distance is that
    // of a text encoder, whose logits are not scaled down and whose work is done once: that stays in float32.
    let format: PageFormat
    if case .relative = bias { format = .f32 } else { format = pageFormat == .f32 ? .f32 : .bf16 }
    let width = 64
    let pages = (m + width - 1) / width
    let keyBytes = Int(lt_key_page_bytes(format.code, Int32(dim), Int32(width)))
    let valueBytes = Int(lt_value_page_bytes(format.code, Int32(dim), Int32(width)))
    let keyPages = memory.allocate(heads * pages * keyBytes)
    let valuePages = memory.allocate(heads * pages * valueBytes)
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
        withUnsafeTemporaryAllocation(byteCount: 64 * (dim + 15) * 4, alignment: 64) { scratch in
          for item in range {
            let (first, start) = (item % pages * width, item % pages * width * heads * dim + item / pages * dim)
            // Channels beyond the head's own are read by whole vectors.
            if dim % 16 != 0 { memset(valuePages.address + item * valueBytes, 0, valueBytes) }
            var arguments = lt_write_page_arguments(
              packing: key + start, value + start, stride: heads * dim, count: min(width, m - first), dim: dim,
              tokens: width, as: format, into: keyPages.address + item * keyBytes,
              valuePages.address + item * valueBytes, scratch: scratch.baseAddress?.assumingMemoryBound(to: Float.self))
            lt_write_page(&arguments)
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
            format: format, query: query + start, stride: heads * dim, rows: min(tile, n - first), dim: dim,
            scale: scale, tokens: width, result: result + start)
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
              keys: keyPages.address + item * keyBytes, values: valuePages.address + item * valueBytes,
              count: Int32(min(width, m - page * width)), bias: numbers)
          }
          work.run()
        }
      }
    }
    return out
  }
}

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif
