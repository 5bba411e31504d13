/// UMT5's buckets of distance between a key and a query: exact up to `buckets / 4`, then ever wider.
///
/// `bucket(r) = (r > 0 ? n : 0) + (a < e ? a : min(n - 1, e + floor((n - e) ln(a / e) / ln(max / e))))` for r = key - query,
/// a = |r|, n = buckets / 2, e = n / 2 (T5, Raffel et al. 2020, bidirectional).
public struct RelativePositionBuckets: Sendable {
  private let half: Int
  // Distances from which on the buckets e + 1, e + 2, ... n - 1 hold.
  private let thresholds: [Int]

  public init(buckets: Int, maxDistance: Int) {
    half = buckets / 2
    let exact = half / 2
    let steps = half - exact
    // Compared as powers, in which the borders 16, 32 and 64 are exact; logarithms would round them.
    func power(_ base: Double, _ n: Int) -> Double { (0..<n).reduce(1) { product, _ in product * base } }
    thresholds = (1..<steps).map { step in
      let border = power(Double(maxDistance) / Double(exact), step)
      return (exact...maxDistance).first { power(Double($0) / Double(exact), steps) >= border } ?? maxDistance
    }
  }

  /// The bucket of `key - query`.
  public func callAsFunction(_ distance: Int) -> Int {
    let a = abs(distance)
    let exact = half / 2
    let magnitude = a < exact ? a : exact + thresholds.count { a >= $0 }
    return (distance > 0 ? half : 0) + magnitude
  }
}
