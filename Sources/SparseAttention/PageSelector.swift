import Compute

/// When a plan is made.
public struct StepContext: Sendable {
  /// Chunk number, from 0.
  public var chunk: Int
  /// Denoising step within the chunk; the clean pass follows the last.
  public var step: Int
  /// Transformer layer.
  public var layer: Int
  /// First latent frame of the chunk, and how many it has.
  public var firstFrame: Int
  public var frames: Int

  public init(chunk: Int, step: Int, layer: Int, firstFrame: Int = 0, frames: Int = 0) {
    (self.chunk, self.step, self.layer) = (chunk, step, layer)
    (self.firstFrame, self.frames) = (firstFrame, frames)
  }
}

/// How long a plan that does not depend on queries serves.
public enum PlanRenewal: Sendable {
  /// All passes of a chunk.
  case perChunk
  /// All passes of one denoising step.
  case perStep
}

/// Which pages a query tile reads.
///
/// A selector composes backend operations into page lists that the backend owns; it never reads a score back. Pages that
/// persist are read by every query; it chooses among the local ones.
public protocol PageSelector: Sendable {
  /// What a user reads, such as `the best of each query tile`.
  var summary: String { get }
  /// Whether a plan depends on the queries.
  var dependsOnContent: Bool { get }
  /// How long a plan that does not depend on queries serves. Default: a chunk.
  var renewal: PlanRenewal { get }
  /// The most pages that a query tile reads, of a head with such pages; known before any score.
  func pagesRead(of census: PageCensus, budget: PageBudget) -> Int
  /// The pages that each tile of `queries` `[rows, heads x headDim]`, normed and rotated, reads.
  func plan(
    _ queries: DeviceTensor, over view: LayerView, budget: PageBudget, at context: StepContext, on backend: any Backend
  ) -> PageLists
  /// - Throws: ``SparsityError/recipe(_:)`` for settings that cannot be had, or not with such pages.
  func check(geometry: PageGeometry) throws(SparsityError)
}

extension PageSelector {
  public var renewal: PlanRenewal { .perChunk }
  public func check(geometry: PageGeometry) throws(SparsityError) {}
}

/// A selector that reads whole frames, which ones being known without a look at content.
public protocol FrameSelector: PageSelector {
  /// The frames that latent frame `query` reads, ascending.
  /// - Parameter frames: Those in memory, ascending, the current chunk's last.
  func frames(readBy query: Int, among frames: [Int], at context: StepContext) -> [Int]
  /// How many frames that is where the first `count` are in memory, all of them. Default: they are listed and counted.
  func framesRead(by query: Int, amongFirst count: Int, at context: StepContext) -> Int
  /// Whether `window` positions are ranks among the frames read, the same for all of a chunk, and not among those in
  /// memory. Default: no.
  var ranksWhatIsRead: Bool { get }
}

extension FrameSelector {
  public func framesRead(by query: Int, amongFirst count: Int, at context: StepContext) -> Int {
    frames(readBy: query, among: Array(0..<count), at: context).count
  }
  public var ranksWhatIsRead: Bool { false }
  public var dependsOnContent: Bool { false }
}

/// Every page in memory, the current chunk's included: dense attention. Knows no budget.
public struct AllPages: FrameSelector {
  public init() {}
  public var summary: String { "every page" }
  public func pagesRead(of census: PageCensus, budget: PageBudget) -> Int { census.persistent + census.local }
  public func frames(readBy query: Int, among frames: [Int], at context: StepContext) -> [Int] { frames }

  public func plan(
    _ queries: DeviceTensor, over view: LayerView, budget: PageBudget, at context: StepContext, on backend: any Backend
  ) -> PageLists { PageLists(shared: view.all) }
}
