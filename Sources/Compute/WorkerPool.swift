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
final class WorkerPool: @unchecked Sendable {
  /// Threads that work, the caller's included.
  let threads: Int

  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let wake = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private let done = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private let exclusive = Mutex(())
  private let next = Atomic<Int>(0)
  private var handles: [pthread_t] = []
  // Guarded by `mutex`.
  private var generation = 0
  private var working = 0
  private var stopping = false
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
    stopping = true
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
        pthread_mutex_lock(mutex)
        job = body
        self.parts = parts
        working = handles.count
        generation += 1
        pthread_cond_broadcast(wake)
        pthread_mutex_unlock(mutex)
        take(parts, body)
        pthread_mutex_lock(mutex)
        while working > 0 { pthread_cond_wait(done, mutex) }
        job = nil
        pthread_mutex_unlock(mutex)
      }
    }
  }

  private func take(_ parts: Int, _ body: (Int) -> Void) {
    while true {
      let part = next.wrappingAdd(1, ordering: .relaxed).oldValue
      if part >= parts { return }
      body(part)
    }
  }

  private func loop() {
    var seen = 0
    pthread_mutex_lock(mutex)
    while true {
      while generation == seen && !stopping { pthread_cond_wait(wake, mutex) }
      if stopping { break }
      seen = generation
      let body = job
      let parts = self.parts
      pthread_mutex_unlock(mutex)
      if let body { take(parts, body) }
      pthread_mutex_lock(mutex)
      working -= 1
      if working == 0 { pthread_cond_signal(done) }
    }
    pthread_mutex_unlock(mutex)
  }
}
