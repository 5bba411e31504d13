/// How many of the pages in memory a query may *read*, as a share of them.
public protocol DensitySchedule: Sendable {
  /// What a user reads, such as `a quarter`.
  var summary: String { get }
  /// The share of pages that chunk `chunk` reads, in (0, 1]. A function of the chunk's index alone, so that the host
  /// knows every list's length without looking at a score. `total` is nil for a rollout without end.
  func density(chunk: Int, of total: Int?) -> Double
  /// The shares of all chunks of a rollout of `total` chunks: the same numbers, in one go.
  func densities(total: Int) -> [Double]
  /// How a share of pages becomes a number of pages. Default: up.
  var rounding: FloatingPointRoundingRule { get }
  /// Which pages the share is of. Default: those that do not persist.
  var counted: CountedPages { get }
  /// - Throws: ``SparsityError/recipe(_:)`` for settings that cannot be had.
  func check() throws(SparsityError)
}

extension DensitySchedule {
  public func densities(total: Int) -> [Double] { (0..<total).map { density(chunk: $0, of: total) } }
  public var rounding: FloatingPointRoundingRule { .up }
  public var counted: CountedPages { .local }
  public func check() throws(SparsityError) {}
  /// What chunk `chunk` of `total` may read.
  public func budget(chunk: Int, of total: Int?) -> PageBudget {
    PageBudget(density: density(chunk: chunk, of: total), rounding: rounding, counted: counted)
  }
}

/// Which pages a density is a share of, where a memory holds pages that persist. Without such pages both mean the same.
public enum CountedPages: Sendable, Equatable {
  /// The local ones: every query reads the persistent pages besides (Sparse Forcing, arXiv 2604.21221, section 3: dense P,
  /// the best quarter of L).
  case local
  /// All in memory: persistent pages compete with the others, and none is read for being persistent (Light Forcing, arXiv
  /// 2602.04789, whose K is the number of all visible blocks; light_forcing.md section 2.2).
  case all
}

/// The length that densities are planned for.
public enum PlannedLength: Sendable, Equatable {
  /// That of the video.
  case video
  /// Another number of latent frames: a rollout that is extended keeps its plan, and the density of the plan's last chunk
  /// from there on.
  case frames(Int)
  /// No end, whatever end the video gets.
  case endless
}

/// A density, ready to be applied to a number of pages.
public struct PageBudget: Sendable, Equatable {
  /// In (0, 1].
  public var density: Double
  public var rounding: FloatingPointRoundingRule
  public var counted: CountedPages

  public init(density: Double, rounding: FloatingPointRoundingRule = .up, counted: CountedPages = .local) {
    self.density = density
    self.rounding = rounding
    self.counted = counted
  }

  /// Pages of a head that every query reads whatever the density.
  func fixed(_ census: PageCensus) -> Int { counted == .local ? census.persistent : 0 }
  /// Pages of a head among which a selector chooses.
  func choice(_ census: PageCensus) -> Int { census.persistent + census.local - fixed(census) }

  /// How many of `n` pages are read: at least one, at most all.
  public func pages(of n: Int) -> Int { min(n, max(1, Int((density * Double(n)).rounded(rounding)))) }
}

/// Everything.
public struct FullDensity: DensitySchedule {
  public init() {}
  public var summary: String { "everything" }
  public func density(chunk: Int, of total: Int?) -> Double { 1 }
}

/// The same share for every chunk: K = max(1, ceil(rho n)) of n pages. Sparse Forcing trains with rho = 0.25
/// (arXiv 2604.21221, sections 3 and 4; the rounding is this project's).
public struct ConstantDensity: DensitySchedule, Equatable {
  /// In (0, 1]; 1 is exact.
  public var share: Double

  public init(_ share: Double) { self.share = share }
  public var summary: String { "a share of \(share)" }
  public func density(chunk: Int, of total: Int?) -> Double { share }

  public func check() throws(SparsityError) {
    guard share > 0, share <= 1 else {
      throw .recipe("a density of \(share) is not in (0, 1]; \(share > 1 ? "1 reads everything" : "0.25 is usual")")
    }
  }
}
