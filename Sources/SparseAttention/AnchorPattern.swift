/// Which latent frames each latent frame reads: a grid of anchor frames that all share, and a window of its own.
///
/// LVSA (arXiv 2605.31057 and its published code). With T frames, stride k, half window W and n leading frames, at
/// rotation offset o:
/// - anchors `G(o) = {0 ..< n} ∪ {(o + i k) mod T : i = 0 ..< ceil(T / k)}`;
/// - the window of t has `2W + 1` frames, shifted rather than clipped at the ends, and is widened, left first and then by
///   turns, until `min(2W + 1, T - |G|)` of its frames are no anchors;
/// - t reads `A(t) = G ∪ window(t)`, so `|A(t)|` is the same for all t. W = 0 is "anchors only": A = G.
///
/// k = 1 is dense. The paper leaves W open; its figures and logs fit W = 3, n = 1.
public struct AnchorPattern: Sendable, Equatable {
  /// Latent frames of the clip, T.
  public let frames: Int
  /// Distance of the anchors, k.
  public let stride: Int
  /// Frames of the window on each side, W; 0 for anchors only.
  public let halfWindow: Int
  /// Leading frames that are anchors at every offset, n.
  public let leading: Int

  /// - Throws: ``SparsityError/recipe(_:)`` for a stride outside 1...T or negative numbers.
  public init(frames: Int, stride: Int, halfWindow: Int = 3, leading: Int = 1) throws(SparsityError) {
    guard frames >= 1 else { throw .recipe("an anchor pattern needs at least one frame, not \(frames)") }
    guard (1...frames).contains(stride) else {
      throw .recipe("an anchor stride of \(stride) on a clip of \(frames) latent frames; 1 to \(frames) are possible")
    }
    guard halfWindow >= 0 else { throw .recipe("a half window of \(halfWindow) frames; the least is 0 (anchors only)") }
    guard leading >= 0 else { throw .recipe("\(leading) leading anchor frames; the least is 0") }
    self.frames = frames
    self.stride = stride
    self.halfWindow = min(halfWindow, frames)
    self.leading = min(leading, frames)
  }

  /// The stride of the published code: the largest that still leaves as many anchors as the budget asks for.
  ///
  /// `R = max(n + 1, floor(C s))`; 1 (dense) if T <= R. Else the larger of k1, the largest j for which the n leading
  /// frames and the multiples of j number at least `max(n, min(R, T) - min(2W + 1, T))`, and
  /// `k2 = ceil(max(T - m, R - m) / max(R - m, 1))`, m = 2W + n, which matters just above the budget only.
  ///
  /// - Parameters:
  ///   - budget: Latent frames that a query should attend to, C: the model's training length (21 for Wan 2.1).
  ///   - scale: s, a factor of the budget; exact at 1.
  public static func stride(frames: Int, halfWindow: Int, leading: Int, budget: Int, scale: Double = 1) -> Int {
    let (t, w, n) = (frames, halfWindow, min(leading, frames))
    // A product that overflows Int is as good as no limit.
    let scaled = (Double(budget) * scale).rounded(.down)
    let r = max(n + 1, scaled < Double(t) ? Int(max(0, scaled)) : t)
    if t <= r { return 1 }
    let wanted = max(n, min(r, t) - min(2 * w + 1, t))
    // Leading frames and multiples of j: those below n are counted once.
    func anchors(_ j: Int) -> Int { n + (t + j - 1) / j - (n + j - 1) / j }
    var k1 = t
    while k1 > 1, anchors(k1) < wanted { k1 -= 1 }
    let m = 2 * w + n
    let rest = max(r - m, 1)
    return min(t, max(k1, (max(t - m, r - m) + rest - 1) / rest))
  }

  /// G: the anchors at rotation offset `offset` in 0..<stride, ascending.
  public func anchors(offset: Int) -> [Int] {
    var chosen = Set(0..<leading)
    for i in 0..<(frames + stride - 1) / stride { chosen.insert((offset + i * stride) % frames) }
    return chosen.sorted()
  }

  /// The window of frame `t`, anchors inside it included; nil for anchors only.
  public func window(of t: Int, offset: Int) -> ClosedRange<Int>? {
    window(of: t, anchors: Set(anchors(offset: offset)))
  }

  private func window(of t: Int, anchors: Set<Int>) -> ClosedRange<Int>? {
    if halfWindow == 0 { return nil }
    let last = frames - 1
    var low = max(0, min(t - halfWindow, last - 2 * halfWindow))
    var high = min(last, max(t + halfWindow, 2 * halfWindow))
    let wanted = min(2 * halfWindow + 1, frames - anchors.count)
    var found = (low...high).count { !anchors.contains($0) }
    while found < wanted {
      if low > 0 {
        low -= 1
        if !anchors.contains(low) { found += 1 }
      }
      if found < wanted, high < last {
        high += 1
        if !anchors.contains(high) { found += 1 }
      }
    }
    return low...high
  }

  /// What each frame reads, `[frames][A(t)]` ascending: the anchors, and for each frame the rest of its window.
  public func reads(offset: Int) -> (anchors: [Int], windows: [[Int]]) {
    let shared = anchors(offset: offset)
    let members = Set(shared)
    let windows = (0..<frames).map { t in
      window(of: t, anchors: members).map { $0.filter { !members.contains($0) } } ?? []
    }
    return (shared, windows)
  }

  /// A(t), ascending.
  public func attended(by t: Int, offset: Int) -> [Int] {
    let members = Set(anchors(offset: offset))
    return members.union(window(of: t, anchors: members).map(Set.init) ?? []).sorted()
  }
}
