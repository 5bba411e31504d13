import CKernels
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The threads of a CPU backend.
///
/// Work comes in parts whose number depends on shapes alone. Which thread takes which part may differ from run to run,
/// but each part computes the same numbers in the same order, so results do not depend on the number of threads.
///
/// A model of few rows asks for thousands of short jobs a second, each of which would cost two changes between sleep and
/// work. So a thread without work looks for more for some microseconds before it sleeps, and a job does not wait for a
/// thread that has not woken up in time to take part in it.
final class WorkerPool: @unchecked Sendable {
  /// Threads that work, the caller's included.
  let threads: Int

  /// How often a thread looks for work, or for the end of a job, before it sleeps: about 50 microseconds.
  private static let looks = 1500

  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let wake = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private let done = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private let exclusive = Mutex(())
  private let next = Atomic<Int>(0)
  /// Counts jobs.
  private let generation = Atomic<Int>(0)
  /// 1 while a job may be joined, and 2 for each thread that has joined it.
  private let gate = Atomic<Int>(0)
  /// Threads that sleep until there is a job.
  private let sleepers = Atomic<Int>(0)
  /// Whether the caller sleeps until its job is done.
  private let callerSleeps = Atomic<Bool>(false)
  private let stopping = Atomic<Bool>(false)
  private var handles: [pthread_t] = []
  // Written while the gate is shut and nobody is inside, read by who has joined.
  private var parts = 0
  private var job: ((Int) -> Void)?

  init(threads: Int) {
    precondition(threads >= 1, "a worker pool needs at least one thread")
    self.threads = threads
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(wake, nil)
    pthread_cond_init(done, nil)
    for _ in 1..<max(threads, 1) {
      var handle = pthread_t()
      // The threads hold the pool unretained: `deinit` joins them first.
      let status = pthread_create(
        &handle, nil,
        { context in
          if let context { Unmanaged<WorkerPool>.fromOpaque(context).takeUnretainedValue().loop() }
          return nil
        }, Unmanaged.passUnretained(self).toOpaque())
      if status == 0 { handles.append(handle) }
    }
  }

  deinit {
    pthread_mutex_lock(mutex)
    stopping.store(true, ordering: .sequentiallyConsistent)
    pthread_cond_broadcast(wake)
    pthread_mutex_unlock(mutex)
    for handle in handles { pthread_join(handle, nil) }
    pthread_mutex_destroy(mutex)
    pthread_cond_destroy(wake)
    pthread_cond_destroy(done)
    mutex.deallocate()
    wake.deallocate()
    done.deallocate()
  }

  /// Calls `body` once for each part number below `parts`, on all threads, and returns when all are done.
  ///
  /// One call at a time: a second caller waits. `body` must not call back into the pool.
  func run(parts: Int, _ body: (Int) -> Void) {
    if parts <= 1 || handles.isEmpty {
      for part in 0..<max(parts, 0) { body(part) }
      return
    }
    exclusive.withLock { _ in
      withoutActuallyEscaping(body) { body in
        next.store(0, ordering: .relaxed)
        job = body
        self.parts = parts
        gate.store(1, ordering: .sequentiallyConsistent)
        generation.wrappingAdd(1, ordering: .sequentiallyConsistent)
        // Who goes to sleep says so before it looks at the generation a last time.
        if sleepers.load(ordering: .sequentiallyConsistent) > 0 {
          pthread_mutex_lock(mutex)
          pthread_cond_broadcast(wake)
          pthread_mutex_unlock(mutex)
        }
        take(parts, body)
        gate.wrappingSubtract(1, ordering: .sequentiallyConsistent)
        awaitEmptyGate()
        job = nil
      }
    }
  }

  private func awaitEmptyGate() {
    for _ in 0..<WorkerPool.looks {
      if gate.load(ordering: .acquiring) == 0 { return }
      lt_pause()
    }
    pthread_mutex_lock(mutex)
    callerSleeps.store(true, ordering: .sequentiallyConsistent)
    while gate.load(ordering: .sequentiallyConsistent) != 0 { pthread_cond_wait(done, mutex) }
    callerSleeps.store(false, ordering: .relaxed)
    pthread_mutex_unlock(mutex)
  }

  private func take(_ parts: Int, _ body: (Int) -> Void) {
    while true {
      let part = next.wrappingAdd(1, ordering: .relaxed).oldValue
      if part >= parts { return }
      body(part)
    }
  }

  /// Joins the job, if there is one that may be joined, until its parts are taken.
  private func join() {
    var seen = gate.load(ordering: .sequentiallyConsistent)
    while true {
      if seen & 1 == 0 { return }
      let (joined, found) = gate.weakCompareExchange(
        expected: seen, desired: seen + 2, ordering: .sequentiallyConsistent)
      if joined { break }
      seen = found
    }
    if let job { take(parts, job) }
    let left = gate.wrappingSubtract(2, ordering: .sequentiallyConsistent).newValue
    if left == 0, callerSleeps.load(ordering: .sequentiallyConsistent) {
      pthread_mutex_lock(mutex)
      pthread_cond_signal(done)
      pthread_mutex_unlock(mutex)
    }
  }

  private func loop() {
    var seen = 0
    while !stopping.load(ordering: .relaxed) {
      var looks = 0
      while generation.load(ordering: .sequentiallyConsistent) == seen {
        looks += 1
        if looks < WorkerPool.looks {
          lt_pause()
          continue
        }
        pthread_mutex_lock(mutex)
        sleepers.wrappingAdd(1, ordering: .sequentiallyConsistent)
        while generation.load(ordering: .sequentiallyConsistent) == seen,
          !stopping.load(ordering: .sequentiallyConsistent)
        {
          pthread_cond_wait(wake, mutex)
        }
        sleepers.wrappingSubtract(1, ordering: .sequentiallyConsistent)
        pthread_mutex_unlock(mutex)
        if stopping.load(ordering: .relaxed) { return }
      }
      seen = generation.load(ordering: .sequentiallyConsistent)
      join()
    }
  }
}
