import Compute

/// Pages that every query reads by turns, whatever their score, so that no part of a memory lies fallow.
///
/// Selection by pooled scores compares means, and a page whose mean says little is never read although some of its tokens
/// may matter. With a stride k, the earlier pages of a head that stand at the places `p mod k = o`, oldest first, are read
/// by all of its query tiles; o follows the rotation as the anchor frames of LVSA do (arXiv 2605.31057; lvsa.md section 7.4),
/// so that under R1, R3 and R4 a page is read at least once in k steps. What is left of the budget goes to the best scores.
/// Anchors take half of a budget at most: where k asks for more, the stride grows.
public struct PageAnchors: Sendable, Equatable {
  /// k, in pages: 1 or more.
  public var stride: Int
  public var rotation: AnchorRotation
  /// Denoising steps of a chunk.
  public var steps: Int

  public init(stride: Int, rotation: AnchorRotation = .both, steps: Int) {
    self.stride = stride
    self.rotation = rotation
    self.steps = steps
  }

  /// - Throws: ``SparsityError/recipe(_:)``.
  public func check() throws(SparsityError) {
    guard stride >= 1, steps >= 1 else {
      throw .recipe("anchors every \(stride) pages over \(steps) steps; the least is 1 and 1")
    }
  }

  /// The stride in force over `earlier` pages where `budget` pages are read.
  public func stride(earlier: Int, budget: Int) -> Int { max(stride, (2 * earlier + budget - 1) / max(1, budget)) }

  /// `[heads, n]`: 1 for the pages that are read, of those that `budget` chooses among.
  func forced(_ view: LayerView, budget: PageBudget, at context: StepContext) -> DeviceIndices {
    let choices = view.census.map { (all: budget.choice($0), earlier: budget.choice($0) - $0.current) }
    let k = choices.map { stride(earlier: $0.earlier, budget: budget.pages(of: $0.all)) }.max() ?? stride
    let offset = rotation.phase(at: context, steps: steps) % k
    return view.fixed("anchors every \(k) from \(offset) of \(choices.first?.all ?? 0)") { head in
      (0..<choices[head].all).map { $0 < choices[head].earlier && $0 % k == offset ? 1 : 0 }
    }
  }
}
