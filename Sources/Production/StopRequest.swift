import Synchronization

/// A wish to stop after the present chunk; may be made from a signal handler.
public final class StopRequest: Sendable {
  private let flag = Atomic(false)
  public init() {}
  public func make() { flag.store(true, ordering: .relaxed) }
  public var isMade: Bool { flag.load(ordering: .relaxed) }
}
