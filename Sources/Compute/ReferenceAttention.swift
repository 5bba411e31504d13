import Foundation
import Tensors

/// Pages as plain arrays, one of each per layer, head and slot.
final class ReferencePagePool: PagePool, @unchecked Sendable {
  struct Page {
    /// `[tokens][headDim]`
    var keys: [[Float]] = []
    var values: [[Float]] = []
    /// `[tokens][temporalChannels]`
    var temporal: [[Float]] = []
  }
  let layout: PagePoolLayout
  let format = PageFormat.f32
  var pages: [Page]

  init(_ layout: PagePoolLayout) {
    self.layout = layout
    pages = Array(repeating: Page(), count: layout.layers * layout.heads * layout.slots)
  }
  var bytes: Int { pages.count * layout.tokensPerPage * layout.numbersPerToken * 4 }
  var snapshotFormat: String { "reference f32" }
  /// The number of tokens, then keys, values and unrotated channels, each of a full page.
  var snapshotBytes: Int { 4 * (1 + layout.tokensPerPage * layout.numbersPerToken) }

  func snapshot(_ places: [PagePlace]) -> Tensor {
    Tensor(dtype: .u8, shape: [places.count, snapshotBytes]) { memory in
      let numbers = memory.bindMemory(to: Float.self)
      numbers.update(repeating: 0)
      for (i, place) in places.enumerated() {
        let page = pages[index(layer: place.layer, head: place.head, slot: Int(place.slot))]
        var at = i * snapshotBytes / 4
        numbers[at] = Float(page.keys.count)
        at += 1
        for (rows, width) in [
          (page.keys, layout.headDim), (page.values, layout.headDim), (page.temporal, layout.temporalChannels),
        ] {
          for (t, row) in rows.enumerated() { for (d, x) in row.enumerated() { numbers[at + t * width + d] = x } }
          at += layout.tokensPerPage * width
        }
      }
    }
  }

  func restore(_ places: [PagePlace], from stored: Tensor) {
    precondition(stored.dtype == .u8 && stored.shape == [places.count, snapshotBytes])
    stored.withUnsafeBytes { memory in
      for (i, place) in places.enumerated() {
        func number(_ n: Int) -> Float {
          memory.loadUnaligned(fromByteOffset: i * snapshotBytes + 4 * n, as: Float.self)
        }
        func rows(_ start: Int, _ width: Int) -> [[Float]] {
          (0..<Int(number(0))).map { t in (0..<width).map { number(start + t * width + $0) } }
        }
        let size = layout.tokensPerPage * layout.headDim
        pages[index(layer: place.layer, head: place.head, slot: Int(place.slot))] = Page(
          keys: rows(1, layout.headDim), values: rows(1 + size, layout.headDim),
          temporal: rows(1 + 2 * size, layout.temporalChannels))
      }
    }
  }

  func index(layer: Int, head: Int, slot: Int) -> Int {
    precondition(slot >= 0 && slot < layout.slots)
    return ((layer % layout.layers) * layout.heads + head) * layout.slots + slot
  }
}

extension ReferenceBackend {
  func reference(_ pool: any PagePool) -> ReferencePagePool {
    guard let pool = pool as? ReferencePagePool else { preconditionFailure("a page pool of another backend") }
    return pool
  }

  public func writePages(
    keys: DeviceTensor, keyNorm: DeviceTensor, epsilon: Float, rotary: Rotary, values: DeviceTensor,
    to pool: any PagePool, layer: Int, tiles: RowTiles, slots: DeviceIndices
  ) {
    let pool = reference(pool)
    let layout = pool.layout
    let (dim, width, rows, pages) = (layout.headDim, layout.heads * layout.headDim, keys.shape[0], tiles.count)
    precondition(tiles.rows == rows && slots.shape[1] == pages)
    let normed = self.values(rmsNorm(keys, epsilon: epsilon, weight: keyNorm, rotary: nil))
    let turned = self.values(rmsNorm(keys, epsilon: epsilon, weight: keyNorm, rotary: rotary))
    let (value, slot) = (self.values(values), self.values(slots))
    for head in 0..<layout.heads {
      for p in 0..<pages {
        var page = ReferencePagePool.Page()
        for row in tiles[p] {
          let start = row * width + head * dim
          page.keys.append(Array(turned[start..<start + dim]))
          page.values.append(Array(value[start..<start + dim]))
          page.temporal.append(Array(normed[start..<start + layout.temporalChannels]))
        }
        pool.pages[pool.index(layer: layer, head: head, slot: slot[head * pages + p])] = page
      }
    }
  }

  public func repositionPages(
    in pool: any PagePool, layer: Int, slots: DeviceIndices, positions: DeviceIndices, table: Rotary
  ) {
    let pool = reference(pool)
    precondition(pool.layout.temporalChannels > 0)
    let (slot, position, n) = (values(slots), values(positions), slots.shape[1])
    let (cosines, sines, pairs) = (values(table.cosines), values(table.sines), table.headDim / 2)
    for (item, s) in slot.enumerated() where s >= 0 {
      let index = pool.index(layer: layer, head: item / n, slot: s)
      for (t, original) in pool.pages[index].temporal.enumerated() {
        for p in 0..<pairs {
          let row = (position[item] + t / pool.layout.tokensPerFrame) * pairs + p
          let (a, b) = (original[2 * p], original[2 * p + 1])
          pool.pages[index].keys[t][2 * p] = a * cosines[row] - b * sines[row]
          pool.pages[index].keys[t][2 * p + 1] = a * sines[row] + b * cosines[row]
        }
      }
    }
  }

  public func attend(
    _ queries: DeviceTensor, tiles: RowTiles, pool: any PagePool, layer: Int, lists: PageLists, scale: Float,
    answers: AttentionAnswers
  ) -> Attended {
    let pool = reference(pool)
    let (heads, dim, slotCount) = (pool.layout.heads, pool.layout.headDim, pool.layout.slots)
    let (query, shared) = (values(queries), values(lists.shared))
    let own = lists.perTile.map { (values($0), $0.shape[2]) }
    var out = [Float](repeating: 0, count: query.count)
    var sums = [Float](repeating: -.infinity, count: heads * tiles.rows)
    var mass = [Float](repeating: 0, count: heads * slotCount)
    for head in 0..<heads {
      for (tile, row) in (0..<tiles.count).flatMap({ tile in tiles[tile].map { (tile, $0) } }) {
        var slots = shared[head * lists.shared.shape[1]..<(head + 1) * lists.shared.shape[1]].filter { $0 >= 0 }
        if let (list, m) = own {
          let start = (head * tiles.count + tile) * m
          slots += list[start..<start + m].filter { $0 >= 0 }
        }
        // Every key with its value, the bias of its logit, and the slot that it comes from.
        var keys: [[Float]] = []
        var (rows, biases, origins): ([[Float]], [Float], [Int]) = ([], [], [])
        for slot in slots {
          let page = pool.pages[pool.index(layer: layer, head: head, slot: slot)]
          keys += page.keys
          rows += page.values
          biases += page.keys.map { _ in 0 }
          origins += page.keys.map { _ in slot }
        }
        if let tail = lists.tail {
          let n = tail.shape[1]
          for slot in values(tail)[head * n..<(head + 1) * n] where slot >= 0 && !slots.contains(slot) {
            let summary = summary(pool.pages[pool.index(layer: layer, head: head, slot: slot)])
            keys.append(summary.key)
            rows.append(summary.value)
            biases.append(log(summary.count))
            origins.append(slot)
          }
        }
        let start = row * heads * dim + head * dim
        let logits = keys.enumerated().map { j, key in
          zip(query[start..<start + dim], key).reduce(0) { $0 + $1.0 * $1.1 } * scale + biases[j]
        }
        guard let top = logits.max() else { continue }
        let total = logits.reduce(0) { $0 + exp($1 - top) }
        sums[head * tiles.rows + row] = top + log(total)
        for (j, logit) in logits.enumerated() {
          let weight = exp(logit - top) / total
          mass[head * slotCount + origins[j]] += weight
          for d in 0..<dim { out[start + d] += weight * rows[j][d] }
        }
      }
    }
    return Attended(
      output: tensor(out, queries.shape),
      logSumExp: answers.contains(.logSumExp) ? tensor(sums, [heads, tiles.rows]) : nil,
      mass: answers.contains(.mass) ? tensor(mass, [heads, slotCount]) : nil)
  }

  public func attention(
    queries: DeviceTensor, keys: DeviceTensor, values: DeviceTensor, heads: Int, scale: Float, bias: AttentionBias
  ) -> DeviceTensor {
    let (n, m, width) = (queries.shape[0], keys.shape[0], queries.shape[1])
    let dim = width / heads
    let (query, key, value) = (self.values(queries), self.values(keys), self.values(values))
    let table: [Float] =
      switch bias {
      case .none: []
      case .perKey(let b), .relative(let b): self.values(b)
      }
    var out = [Float](repeating: 0, count: query.count)
    for head in 0..<heads {
      func rows(_ x: [Float]) -> [[Float]] {
        (0..<m).map { Array(x[$0 * width + head * dim..<$0 * width + (head + 1) * dim]) }
      }
      let (headKeys, headValues) = (rows(key), rows(value))
      for row in 0..<n {
        let start = row * width + head * dim
        let result = softmaxAverage(query[start..<start + dim], keys: headKeys, values: headValues, scale: scale) { j in
          switch bias {
          case .none: 0
          case .perKey: table[j]
          case .relative: table[head * (n + m - 1) + j - row + n - 1]
          }
        }
        out.replaceSubrange(start..<start + dim, with: result)
      }
    }
    return tensor(out, queries.shape)
  }

  /// `sum_j softmax_j(scale q.k_j + bias_j) v_j`; zeros for no keys.
  private func softmaxAverage(
    _ query: ArraySlice<Float>, keys: [[Float]], values: [[Float]], scale: Float, bias: (Int) -> Float
  ) -> [Float] {
    let logits = keys.enumerated().map { j, key in zip(query, key).reduce(0) { $0 + $1.0 * $1.1 } * scale + bias(j) }
    let top = logits.max() ?? 0
    let weights = logits.map { exp($0 - top) }
    let total = weights.reduce(0, +)
    var out = [Float](repeating: 0, count: query.count)
    for (weight, value) in zip(weights, values) { for d in out.indices { out[d] += weight / total * value[d] } }
    return out
  }
}
