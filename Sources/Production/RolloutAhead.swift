import Rollout

/// A rollout's chunks, each begun while the one before is decoded and written: the same chunks in the same order, one in
/// work at most, so that what waits is bounded.
///
/// The two share the worker pool operation by operation. That helps where threads are left over: while one waits for the
/// encoder, or an operation has fewer parts than there are threads.
struct RolloutAhead: AsyncSequence {
  let rollout: Rollout
  /// `false` computes a chunk when it is asked for.
  let isAhead: Bool

  /// Whether a machine has cores for it: with two, both are busy anyway (`docs/speed-log.md`).
  static func pays(threads: Int) -> Bool { Host.physicalCores > threads || threads > 2 }

  func makeAsyncIterator() -> Iterator { Iterator(rollout: rollout, isAhead: isAhead) }

  final class Iterator: AsyncIteratorProtocol {
    private let rollout: Rollout
    private let isAhead: Bool
    private var pending: Task<FinishedChunk?, any Error>?

    init(rollout: Rollout, isAhead: Bool) {
      self.rollout = rollout
      self.isAhead = isAhead
    }

    // Who stops asking needs no further chunk; the rollout ends between two passes.
    deinit { pending?.cancel() }

    func next() async throws -> FinishedChunk? {
      guard isAhead else { return try await rollout.next() }
      let current = pending ?? begin()
      let chunk = try await withTaskCancellationHandler {
        try await current.value
      } onCancel: {
        current.cancel()
      }
      pending = chunk == nil ? nil : begin()
      return chunk
    }

    private func begin() -> Task<FinishedChunk?, any Error> { Task { [rollout] in try await rollout.next() } }
  }
}
