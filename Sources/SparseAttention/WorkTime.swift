#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// How long a piece of work took, by the clock on the wall and by the processor time of all threads of this process.
///
/// Other work on the machine lengthens the first and not the second. A backend on another device, or one that goes on after
/// a call has returned, is seen by neither: only what the host waited for and did.
public struct WorkTime: Sendable, Equatable {
  /// Seconds.
  public var wall = 0.0
  public var processor = 0.0

  public init() {}

  /// Times since some moment in the past.
  public static var now: WorkTime {
    var time = WorkTime()
    time.wall = seconds(CLOCK_MONOTONIC)
    time.processor = seconds(CLOCK_PROCESS_CPUTIME_ID)
    return time
  }

  private static func seconds(_ clock: clockid_t) -> Double {
    var time = timespec()
    clock_gettime(clock, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }

  public static func - (a: WorkTime, b: WorkTime) -> WorkTime {
    var time = a
    time.wall -= b.wall
    time.processor -= b.processor
    return time
  }
  public static func += (a: inout WorkTime, b: WorkTime) {
    a.wall += b.wall
    a.processor += b.processor
  }
}
