import SparseAttention
import VideoIO

extension AttentionSelection {
  /// What a request wants noted, every default filled in: all chunks; the first, the middle and the last layer; all heads;
  /// the last denoising step and, if there is one, the clean pass.
  /// - Throws: ``UsageError`` for lists that cannot be read and numbers that do not exist.
  init(
    _ request: RunRequest.Recording, layers: Int, heads: Int, steps: Int, chunks: Int, hasCleanPass: Bool
  ) throws {
    /// The numbers of a list that exist; a list that names one that does not is refused.
    func selection(_ list: String?, _ flag: String, _ count: Int) throws -> FrameSelection? {
      guard let list else { return nil }
      let selection: FrameSelection
      do { selection = try FrameSelection(list: list, name: flag) } catch { throw UsageError("\(error)") }
      guard selection.lastNamed < count else {
        throw UsageError("\(flag) \(list): there is no \(selection.lastNamed); 0 to \(count - 1) exist")
      }
      return selection
    }
    func numbers(_ list: String?, _ flag: String, _ count: Int, otherwise: [Int]) throws -> [Int] {
      try selection(list, flag, count).map { wanted in (0..<count).filter(wanted.contains) } ?? otherwise
    }
    var passes: Set<Pass> = []
    for part in (request.passes ?? (hasCleanPass ? "last,clean" : "last")).split(
      separator: ",", omittingEmptySubsequences: false)
    {
      switch part {
      case "last": passes.insert(.step(steps - 1))
      case "clean":
        guard hasCleanPass else { throw UsageError("--record-passes clean: whole clips have no clean pass") }
        passes.insert(.clean)
      default:
        for step in try numbers(String(part), "--record-passes", steps, otherwise: []) { passes.insert(.step(step)) }
      }
    }
    self.init(
      chunks: try selection(request.chunks, "--record-chunks", chunks)?.ranges ?? [0...Int.max],
      layers: try numbers(
        request.layers, "--record-layers", layers, otherwise: Set([0, layers / 2, layers - 1]).sorted()),
      heads: try numbers(request.heads, "--record-heads", heads, otherwise: Array(0..<heads)), passes: passes.sorted())
  }
}
