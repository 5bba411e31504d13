import ArgumentParser
import Production

/// Which pages are read, and the numbers of each method.
struct SparsityOptions: ParsableArguments {
  @Option(help: "Which pages are read: all, topk, hierarchical, anchors (default: the recipe's).")
  var select: String?

  @Option(parsing: .unconditional, help: "Share of pages that topk reads, in (0, 1] (default: 0.25, or growth).")
  var density: Double?

  @Option(
    help: """
      How often topk and hierarchical select: every-pass, as published, or once-per-chunk, in the first denoising step, \
      the other passes reading the same pages (an approximation that saves little) (default: every-pass).
      """)
  var replan: String?

  @Option(
    parsing: .unconditional,
    help: """
      With topk: every how many pages of the memory one is read by turns, whatever its score; 0 for none (default: none, \
      in longtake its own).
      """)
  var anchorStride: Int?

  @Option(help: "What becomes of skipped pages: drop, centroid (default: the recipe's).")
  var tail: String?

  @Option(
    parsing: .unconditional,
    help: "Frames' worth of pages kept beside the window (persistent, 6), or old frames kept (reservoir, 48).")
  var memoryCapacity: Int?

  @Option(
    parsing: .unconditional, help: "With persistent memory: latent frames of the window, chunk included (default: 6).")
  var localWindow: Int?

  @Option(parsing: .unconditional, help: "lvsa: half window in latent frames; 0 reads anchors only (default: 3).")
  var lvsaWindow: Int?

  @Option(parsing: .unconditional, help: "lvsa: leading latent frames that are always anchors (default: 1).")
  var lvsaFirst: Int?

  @Option(parsing: .unconditional, help: "lvsa: distance of anchors in latent frames (default: by the budget).")
  var lvsaStride: Int?

  @Option(
    parsing: .unconditional,
    help: "lvsa: latent frames that a query should read (default: the model's training length).")
  var lvsaBudget: Int?

  @Option(parsing: .unconditional, help: "lvsa: factor of the budget (default: 1).")
  var lvsaScale: Double?

  @Option(
    help: """
      lvsa chunk by chunk, and --anchor-stride: what moves the anchors on. R0 nothing, R1 the denoising step, R2 the chunk, \
      R3 chunk and step, R4 chunk, step and layer, so that layers see different frames (default: R3).
      """)
  var lvsaRotation: String?

  @Option(
    parsing: .unconditional,
    help: """
      light-forcing, longtake: mean share of pages that is not read, over all chunks but the first (default: 0.88, in \
      longtake its own; given alone, also the base).
      """)
  var cagTarget: Double?

  @Option(
    parsing: .unconditional,
    help: "light-forcing, longtake: share that late chunks tend to (default: 0.98, in longtake its own).")
  var cagBase: Double?

  @Option(parsing: .unconditional, help: "light-forcing: past frames that may be read from (default: 6).")
  var hsaKeep: Int?

  @Option(parsing: .unconditional, help: "light-forcing: of these, the oldest (default: 1).")
  var hsaSink: Int?

  @Option(parsing: .unconditional, help: "light-forcing: of these, the newest (default: 2).")
  var hsaNear: Int?

  func apply(to request: inout RunRequest) {
    (request.select, request.density, request.tail) = (select, density, tail)
    (request.memoryCapacity, request.localWindow) = (memoryCapacity, localWindow)
    (request.replan, request.anchorStride, request.rotation) = (replan, anchorStride, lvsaRotation)
    (request.anchors.window, request.anchors.first, request.anchors.stride) = (lvsaWindow, lvsaFirst, lvsaStride)
    (request.anchors.budget, request.anchors.scale) = (lvsaBudget, lvsaScale)
    (request.growth.target, request.growth.base) = (cagTarget, cagBase)
    (request.hierarchy.keep, request.hierarchy.sink, request.hierarchy.near) = (hsaKeep, hsaSink, hsaNear)
  }
}
