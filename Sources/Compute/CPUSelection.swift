import CBLAS
import CKernels

// What selectors compose: means, scores and the best pages, without reading a score back.
extension CPUBackend {
  public func pageStatistics(of pool: any PagePool, layer: Int, slots: DeviceIndices) -> PageStatistics {
    let pool = host(pool)
    let (heads, n, dim) = (slots.shape[0], slots.shape[1], pool.layout.headDim)
    let (meanKeys, meanValues) = (make([heads, n, dim]), make([heads, n, dim]))
    let (counts, dispersion) = (make([heads, n]), make([heads, n]))
    let slot = integers(slots)
    withExtendedLifetime(slots) {
      for item in 0..<heads * n {
        let (key, value) = (floats(meanKeys) + item * dim, floats(meanValues) + item * dim)
        if slot[item] < 0 {
          key.initialize(repeating: 0, count: dim)
          value.initialize(repeating: 0, count: dim)
          floats(counts)[item] = 0
          floats(dispersion)[item] = 0
        } else {
          let page = pool.page(layer: layer, head: item / n, slot: slot[item])
          key.update(from: pool.meanKey(page), count: dim)
          value.update(from: pool.meanValue(page), count: dim)
          floats(counts)[item] = Float(pool.count(page).pointee)
          floats(dispersion)[item] = pool.dispersion(page).pointee
        }
      }
    }
    return PageStatistics(meanKeys: meanKeys, meanValues: meanValues, counts: counts, dispersion: dispersion)
  }

  public func tileMeans(_ x: DeviceTensor, tiles: RowTiles, heads: Int) -> DeviceTensor {
    let width = x.shape[1]
    precondition(x.shape == [tiles.rows, width] && width % heads == 0, "\(x.shape) for \(heads) heads")
    let (dim, count) = (width / heads, tiles.count)
    let out = make([heads, count, dim])
    let (source, result) = (floats(x), floats(out))
    withExtendedLifetime(x) {
      parallel(heads * count, grain: 16) { range in
        for item in range {
          let rows = tiles[item % count]
          lt_mean_rows_f32(
            source + rows.lowerBound * width + item / count * dim, width, Int32(rows.count), Int32(dim),
            result + item * dim)
        }
      }
    }
    return out
  }

  public func pageScores(
    _ means: DeviceTensor, pool: any PagePool, layer: Int, slots: DeviceIndices, scale: Float
  ) -> DeviceTensor {
    let pool = host(pool)
    let (heads, tiles, dim, n) = (means.shape[0], means.shape[1], means.shape[2], slots.shape[1])
    precondition(slots.shape[0] == heads && dim == pool.layout.headDim)
    let out = make([heads, tiles, n])
    let keys = memory.allocate(max(1, heads * n * dim) * 4)
    let (query, slot, result) = (floats(means), integers(slots), floats(out))
    withExtendedLifetime((means, slots, keys)) {
      parallel(heads, grain: 1) { range in
        for head in range where n > 0 {
          let rows = keys.floats + head * n * dim
          for j in 0..<n {
            let s = slot[head * n + j]
            if s < 0 {
              (rows + j * dim).initialize(repeating: 0, count: dim)
            } else {
              (rows + j * dim).update(from: pool.meanKey(pool.page(layer: layer, head: head, slot: s)), count: dim)
            }
          }
          let scores = result + head * tiles * n
          cblas_sgemm(
            CblasRowMajor, CblasNoTrans, CblasTrans, Int32(tiles), Int32(n), Int32(dim), scale,
            query + head * tiles * dim, Int32(dim), rows, Int32(dim), 0, scores, Int32(n))
          for j in 0..<n where slot[head * n + j] < 0 {
            for tile in 0..<tiles { scores[tile * n + j] = -.infinity }
          }
        }
      }
    }
    return out
  }

  public func pageMass(_ scores: DeviceTensor) -> DeviceTensor {
    let (heads, tiles, n) = (scores.shape[0], scores.shape[1], scores.shape[2])
    let out = make([heads, n])
    let (source, result) = (floats(scores), floats(out))
    withExtendedLifetime(scores) {
      parallel(heads, grain: 1) { range in
        for head in range {
          let mass = result + head * n
          mass.initialize(repeating: 0, count: n)
          withUnsafeTemporaryAllocation(of: Float.self, capacity: max(1, n)) { weights in
            for tile in 0..<tiles {
              let row = source + (head * tiles + tile) * n
              var top = -Float.infinity
              for j in 0..<n where row[j] > top { top = row[j] }
              if top == -.infinity { continue }
              var sum: Float = 0
              for j in 0..<n {
                weights[j] = exp(row[j] - top)
                sum += weights[j]
              }
              for j in 0..<n { mass[j] += weights[j] / sum }
            }
          }
        }
      }
    }
    return out
  }

  public func groupMeans(_ scores: DeviceTensor, groups: DeviceIndices, count: Int) -> DeviceTensor {
    let (heads, tiles, n) = (scores.shape[0], scores.shape[1], scores.shape[2])
    precondition(groups.shape == [heads, n], "groups \(groups.shape) of scores \(scores.shape)")
    let out = make([heads, tiles, count])
    let (source, group, result) = (floats(scores), integers(groups), floats(out))
    withExtendedLifetime((scores, groups)) {
      parallel(heads * tiles, grain: 64) { range in
        withUnsafeTemporaryAllocation(of: Float.self, capacity: max(1, count)) { members in
          for item in range {
            let (row, of, mean) = (source + item * n, group + item / tiles * n, result + item * count)
            mean.initialize(repeating: 0, count: count)
            members.initialize(repeating: 0)
            for j in 0..<n where of[j] >= 0 {
              mean[Int(of[j])] += row[j]
              members[Int(of[j])] += 1
            }
            for g in 0..<count { mean[g] = members[g] == 0 ? -.infinity : mean[g] / members[g] }
          }
        }
      }
    }
    return out
  }

  public func keepGroups(_ scores: DeviceTensor, groups: DeviceIndices, kept: DeviceIndices) -> DeviceTensor {
    let (heads, tiles, n, r) = (scores.shape[0], scores.shape[1], scores.shape[2], kept.shape[2])
    precondition(groups.shape == [heads, n] && kept.shape[0] == heads && kept.shape[1] == tiles)
    let out = make(scores.shape)
    let (source, group, keep, result) = (floats(scores), integers(groups), integers(kept), floats(out))
    withExtendedLifetime((scores, groups, kept)) {
      parallel(heads * tiles, grain: 64) { range in
        for item in range {
          let (row, of, list) = (item * n, group + item / tiles * n, keep + item * r)
          for j in 0..<n {
            var stays = of[j] < 0
            for i in 0..<r where list[i] == of[j] { stays = true }
            result[row + j] = stays ? source[row + j] : -.infinity
          }
        }
      }
    }
    return out
  }

  public func topPages(_ scores: DeviceTensor, count: Int, slots: DeviceIndices?, forced: DeviceIndices?)
    -> DeviceIndices
  {
    let (heads, tiles, n) = (scores.shape[0], scores.shape[1], scores.shape[2])
    precondition(slots.map { $0.shape == [heads, n] } ?? true && forced.map { $0.shape == [heads, n] } ?? true)
    let out = DeviceIndices(shape: [heads, tiles, count], storage: memory.allocate(max(1, heads * tiles * count) * 4))
    let (source, result) = (floats(scores), integers(out))
    let (slot, force) = (slots.map { integers($0) }, forced.map { integers($0) })
    withExtendedLifetime((scores, slots, forced)) {
      parallel(heads * tiles, grain: 32) { range in
        withUnsafeTemporaryAllocation(of: UInt32.self, capacity: max(1, n)) { scratch in
          for item in range {
            let head = item / tiles * n
            lt_top_f32(
              source + item * n, slot.map { $0 + head }, force.map { $0 + head }, Int32(n), Int32(count),
              scratch.baseAddress, result + item * count)
          }
        }
      }
    }
    return out
  }

  public func listedPages(_ lists: PageLists, tiles: Int) -> DeviceTensor {
    let heads = lists.shared.shape[0]
    let out = make([heads])
    let result = floats(out)
    withExtendedLifetime(lists) {
      func listed(_ list: UnsafeMutablePointer<Int32>, _ count: Int) -> Int {
        var sum = 0
        for i in 0..<count { sum += list[i] >= 0 ? 1 : 0 }
        return sum
      }
      let shared = lists.shared.shape[1]
      for head in 0..<heads {
        var sum = tiles * listed(integers(lists.shared) + head * shared, shared)
        if let own = lists.perTile {
          precondition(own.shape[1] == tiles, "lists \(own.shape) of \(tiles) tiles")
          sum += listed(integers(own) + head * tiles * own.shape[2], tiles * own.shape[2])
        }
        result[head] = Float(sum)
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
