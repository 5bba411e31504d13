import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A block of host memory that returns to its allocator with the last handle.
///
/// The unsafe core of the CPU backend: an operation writes a block once, before it hands it out; afterwards it is read
/// only, so that handles may cross threads. (The page pool is the exception and belongs to one rollout at a time.)
final class HostStorage: DeviceStorage, @unchecked Sendable {
  let address: UnsafeMutableRawPointer
  let capacity: Int
  private let allocator: HostAllocator

  init(address: UnsafeMutableRawPointer, capacity: Int, allocator: HostAllocator) {
    self.address = address
    self.capacity = capacity
    self.allocator = allocator
  }

  deinit { allocator.recycle(address, capacity) }

  var floats: UnsafeMutablePointer<Float> { address.assumingMemoryBound(to: Float.self) }
  var integers: UnsafeMutablePointer<Int32> { address.assumingMemoryBound(to: Int32.self) }
}

/// Hands out 64-byte aligned blocks and keeps returned ones for the next request of the same size.
///
/// Every chunk of a rollout asks for the same sizes in the same order, so after the first chunks nothing is allocated
/// any more and memory stays flat.
final class HostAllocator: Sendable {
  private struct Free: @unchecked Sendable {
    var blocks: [Int: [UnsafeMutableRawPointer]] = [:]
  }
  private let free = Mutex(Free())

  /// Sizes are rounded up to an eighth of their power of two, so that nearby sizes share blocks.
  static func sizeClass(_ bytes: Int) -> Int {
    let least = 256
    if bytes <= least { return least }
    let step = max(least, 1 << max(0, Int.bitWidth - 1 - bytes.leadingZeroBitCount - 3))
    return (bytes + step - 1) / step * step
  }

  /// A block of at least `bytes`; contents undefined.
  func allocate(_ bytes: Int) -> HostStorage {
    let size = HostAllocator.sizeClass(bytes)
    let kept = free.withLock { state -> UnsafeMutableRawPointer? in state.blocks[size]?.popLast() }
    let address = kept ?? UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
    return HostStorage(address: address, capacity: size, allocator: self)
  }

  fileprivate func recycle(_ address: UnsafeMutableRawPointer, _ size: Int) {
    free.withLock { state in state.blocks[size, default: []].append(address) }
  }

  /// Returns all kept blocks to the system.
  func trim() {
    free.withLock { state in
      for list in state.blocks.values { for block in list { block.deallocate() } }
      state.blocks = [:]
    }
  }

  deinit { trim() }
}
