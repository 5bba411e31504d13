/// How many of the pages in memory a query may *read*, as a share of them.
public protocol DensitySchedule: Sendable {
  /// The share of pages that chunk `chunk` reads, in (0, 1]. A function of the chunk's index alone, so that the host
  /// knows every list's length without looking at a score. `total` is nil for a rollout without end.
  func density(chunk: Int, of total: Int?) -> Double
}

/// Everything.
public struct FullDensity: DensitySchedule {
  public init() {}
  public func density(chunk: Int, of total: Int?) -> Double { 1 }
}
