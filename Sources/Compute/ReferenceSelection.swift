import Foundation

// Page selection as its formulas read.
extension ReferenceBackend {
  public func download(_ indices: DeviceIndices) -> [Int32] { values(indices).map(Int32.init) }

  /// Mean key, mean value, tokens and dispersion of a page.
  func summary(_ page: ReferencePagePool.Page) -> (key: [Float], value: [Float], count: Float, dispersion: Float) {
    func mean(_ rows: [[Float]]) -> [Float] {
      (rows.first ?? []).indices.map { d in rows.reduce(0) { $0 + $1[d] } / Float(rows.count) }
    }
    let key = mean(page.keys)
    let squares = page.keys.map { row in zip(row, key).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) } }
    let dispersion = (squares.reduce(0, +) / Float(max(1, squares.count))).squareRoot()
    return (key, mean(page.values), Float(page.keys.count), dispersion)
  }

  public func pageStatistics(of pool: any PagePool, layer: Int, slots: DeviceIndices) -> PageStatistics {
    let pool = reference(pool)
    let (heads, n, dim) = (slots.shape[0], slots.shape[1], pool.layout.headDim)
    let zero = [Float](repeating: 0, count: dim)
    let all = values(slots).enumerated().map { item, slot in
      slot < 0
        ? (key: zero, value: zero, count: 0, dispersion: 0)
        : summary(pool.pages[pool.index(layer: layer, head: item / n, slot: slot)])
    }
    return PageStatistics(
      meanKeys: tensor(all.flatMap(\.key), [heads, n, dim]), meanValues: tensor(all.flatMap(\.value), [heads, n, dim]),
      counts: tensor(all.map(\.count), [heads, n]), dispersion: tensor(all.map(\.dispersion), [heads, n]))
  }

  public func tileMeans(_ x: DeviceTensor, tiles: RowTiles, heads: Int) -> DeviceTensor {
    let (input, width) = (values(x), x.shape[1])
    var out = [Float]()
    for head in 0..<heads {
      for tile in 0..<tiles.count {
        for d in head * width / heads..<(head + 1) * width / heads {
          out.append(tiles[tile].reduce(0) { $0 + input[$1 * width + d] } / Float(tiles[tile].count))
        }
      }
    }
    return tensor(out, [heads, tiles.count, width / heads])
  }

  public func pageScores(
    _ means: DeviceTensor, pool: any PagePool, layer: Int, slots: DeviceIndices, scale: Float
  ) -> DeviceTensor {
    let (heads, tiles, dim, n) = (means.shape[0], means.shape[1], means.shape[2], slots.shape[1])
    let (query, slot) = (values(means), values(slots))
    let keys = values(pageStatistics(of: pool, layer: layer, slots: slots).meanKeys)
    var out = [Float]()
    for head in 0..<heads {
      for tile in 0..<tiles {
        for j in 0..<n {
          var sum: Float = 0
          for d in 0..<dim { sum += query[(head * tiles + tile) * dim + d] * keys[(head * n + j) * dim + d] }
          out.append(slot[head * n + j] < 0 ? -.infinity : scale * sum)
        }
      }
    }
    return tensor(out, [heads, tiles, n])
  }

  public func pageMass(_ scores: DeviceTensor) -> DeviceTensor {
    let (heads, tiles, n) = (scores.shape[0], scores.shape[1], scores.shape[2])
    let all = values(scores)
    var out = [Float](repeating: 0, count: heads * n)
    for item in 0..<heads * tiles {
      let row = all[item * n..<(item + 1) * n]
      guard let top = row.max(), top > -.infinity else { continue }
      let total = row.reduce(0) { $0 + exp($1 - top) }
      for (j, score) in row.enumerated() { out[item / tiles * n + j] += exp(score - top) / total }
    }
    return tensor(out, [heads, n])
  }

  public func groupMeans(_ scores: DeviceTensor, groups: DeviceIndices, count: Int) -> DeviceTensor {
    let (heads, tiles, n) = (scores.shape[0], scores.shape[1], scores.shape[2])
    let (all, group) = (values(scores), values(groups))
    var out = [Float]()
    for item in 0..<heads * tiles {
      for g in 0..<count {
        let members = (0..<n).filter { group[item / tiles * n + $0] == g }.map { all[item * n + $0] }
        out.append(members.isEmpty ? -.infinity : members.reduce(0, +) / Float(members.count))
      }
    }
    return tensor(out, [heads, tiles, count])
  }

  public func keepGroups(_ scores: DeviceTensor, groups: DeviceIndices, kept: DeviceIndices) -> DeviceTensor {
    let (tiles, n, r) = (scores.shape[1], scores.shape[2], kept.shape[2])
    let (all, group, keep) = (values(scores), values(groups), values(kept))
    let out = all.indices.map { i -> Float in
      let (item, g) = (i / n, group[i / n / tiles * n + i % n])
      return g < 0 || keep[item * r..<(item + 1) * r].contains(g) ? all[i] : -.infinity
    }
    return tensor(out, scores.shape)
  }

  public func topPages(_ scores: DeviceTensor, count: Int, slots: DeviceIndices?, forced: DeviceIndices?)
    -> DeviceIndices
  {
    let (heads, tiles, n) = (scores.shape[0], scores.shape[1], scores.shape[2])
    let (all, slot, force) = (values(scores), slots.map { values($0) }, forced.map { values($0) })
    var out = [Int32]()
    for item in 0..<heads * tiles {
      let head = item / tiles * n
      let places = (0..<n).filter { j in
        (slot.map { $0[head + j] >= 0 } ?? true) && (all[item * n + j] > -.infinity || force?[head + j] == 1)
      }
      func rank(_ j: Int) -> Float { force?[head + j] == 1 ? .infinity : all[item * n + j] }
      let best = places.sorted { rank($0) != rank($1) ? rank($0) > rank($1) : $0 < $1 }.prefix(count).sorted()
      out += best.map { Int32(slot?[head + $0] ?? $0) } + Array(repeating: -1, count: count - best.count)
    }
    return upload(indices: out, shape: [heads, tiles, count])
  }

  public func listedPages(_ lists: PageLists, tiles: Int) -> DeviceTensor {
    let heads = lists.shared.shape[0]
    func listed(_ list: DeviceIndices, _ head: Int) -> Int {
      let row = list.shape.dropFirst().reduce(1, *)
      return values(list)[head * row..<(head + 1) * row].count { $0 >= 0 }
    }
    return tensor(
      (0..<heads).map { head in
        Float(tiles * listed(lists.shared, head) + (lists.perTile.map { listed($0, head) } ?? 0))
      }, [heads])
  }
}
