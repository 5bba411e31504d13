import Rollout

/// A rollout's chunks, each begun while the one before is decoded and written: the same chunks in the same order, one in
/// work at most, so that what waits is bounded.
///
/// The two share the worker pool operation by operation. That helps where threads are left over: while one waits for the
/// encoder, or an operation has fewer parts than there are threads.
struct RolloutAhead: AsyncSequence, Sendable {
  let rollout: Rollout
  /// `false` computes a chunk when it is asked for.
  let isAhead: Bool
  /// Called with each chunk before the next one begins; what it gives comes along with the chunk.
  let save: @Sendable (FinishedChunk) async throws -> SavedRollout?

  typealias Element = (chunk: FinishedChunk, saved: SavedRollout?)

  /// Whether a machine has cores for it: with two, both are busy anyway (`docs/speed-log.md`).
  static func pays(threads: Int) -> Bool { Host.physicalCores > threads || threads > 2 }

  func makeAsyncIterator() -> Iterator { Iterator(self) }

  final class Iterator: AsyncIteratorProtocol {
    private let source: RolloutAhead
    private var pending: Task<Element?, any Error>?

    init(_ source: RolloutAhead) { self.source = source }

    // Who stops asking needs no further chunk; the rollout ends between two passes.
    deinit { pending?.cancel() }

    func next() async throws -> Element? {
      guard source.isAhead else { return try await source.make() }
      let current = pending ?? begin()
      let chunk = try await withTaskCancellationHandler {
        try await current.value
      } onCancel: {
        current.cancel()
      }
      pending = chunk == nil ? nil : begin()
      return chunk
    }

    private func begin() -> Task<Element?, any Error> { Task { [source] in try await source.make() } }
  }

  private func make() async throws -> Element? {
    guard let chunk = try await rollout.next() else { return nil }
    return (chunk, try await save(chunk))
  }
}
