import CKernels
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
  /// How the numbers of a tensor are written.
  enum Form {
    case f32
    case bf16
    /// Bytes, and a scale for each row (of a map: each position) in a block of their own.
    case int8

    var elementBytes: Int {
      switch self {
      case .f32: 4
      case .bf16: 2
      case .int8: 1
      }
    }
  }

  let address: UnsafeMutableRawPointer
  let capacity: Int
  let form: Form
  /// Whether the block is mapped from the system alone, and goes back to it.
  private let isMapped: Bool
  /// The float32 scales of rows in bytes.
  let scales: HostStorage?
  private let allocator: HostAllocator
  private let otherForms = Mutex<[Form: HostStorage]>([:])

  init(
    address: UnsafeMutableRawPointer, capacity: Int, form: Form, scales: HostStorage? = nil, isMapped: Bool = false,
    allocator: HostAllocator
  ) {
    self.isMapped = isMapped
    self.address = address
    self.capacity = capacity
    self.form = form
    self.scales = scales
    self.allocator = allocator
  }

  /// The same numbers in another form, made by the first who asks and kept as long as this block. Made outside the pool's
  /// parts: `make` may use the pool.
  func inForm(_ form: Form, make: () -> HostStorage) -> HostStorage {
    if form == self.form { return self }
    return otherForms.withLock { forms in
      if let known = forms[form] { return known }
      let made = make()
      forms[form] = made
      return made
    }
  }

  /// Takes over another form of the same numbers, made on the way by who wrote this one, before it is handed out.
  func keep(_ other: HostStorage) { otherForms.withLock { $0[other.form] = other } }

  deinit {
    if isMapped { munmap(address, capacity) } else { allocator.recycle(address, capacity) }
  }

  var floats: UnsafeMutablePointer<Float> { address.assumingMemoryBound(to: Float.self) }
  var integers: UnsafeMutablePointer<Int32> { address.assumingMemoryBound(to: Int32.self) }
  var halves: UnsafeMutablePointer<UInt16> { address.assumingMemoryBound(to: UInt16.self) }
  var bytes: UnsafeMutablePointer<Int8> { address.assumingMemoryBound(to: Int8.self) }
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
  func allocate(_ bytes: Int, form: HostStorage.Form = .f32, scales: HostStorage? = nil) -> HostStorage {
    let size = HostAllocator.sizeClass(bytes)
    let kept = free.withLock { state -> UnsafeMutableRawPointer? in state.blocks[size]?.popLast() }
    let address = kept ?? HostAllocator.system(size)
    return HostStorage(address: address, capacity: size, form: form, scales: scales, allocator: self)
  }

  /// A block of zeros that is kept for long, such as a page pool. The system gives zeros anyway, and its memory when it is
  /// first touched.
  func allocateZeros(_ bytes: Int) -> HostStorage {
    let page = 1 << 12
    let size = max(1, (bytes + page - 1) / page) * page
    if let address = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), address != MAP_FAILED
    {
      return HostStorage(address: address, capacity: size, form: .f32, isMapped: true, allocator: self)
    }
    let block = allocate(bytes)
    memset(block.address, 0, bytes)
    return block
  }

  /// From this size on a block has pages of its own, which go back to the system whole: on the C library's heap, maps of
  /// several sizes that come and go leave holes.
  private static let leastMapped = 1 << 20

  private static func system(_ size: Int) -> UnsafeMutableRawPointer {
    if size < leastMapped { return UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64) }
    guard let address = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
      address != MAP_FAILED
    else { fatalError("the system has no \(size) bytes of memory left") }
    return address
  }

  private static func giveBack(_ address: UnsafeMutableRawPointer, _ size: Int) {
    if size >= leastMapped { munmap(address, size) } else { address.deallocate() }
  }

  fileprivate func recycle(_ address: UnsafeMutableRawPointer, _ size: Int) {
    free.withLock { state in state.blocks[size, default: []].append(address) }
  }

  /// Returns all kept blocks to the system, with what the C library keeps of them and of others: it has a part for each
  /// thread, in which a busy machine's threads leave a little here and there that adds up over the hours.
  func trim() {
    free.withLock { state in
      for (size, list) in state.blocks { for block in list { HostAllocator.giveBack(block, size) } }
      state.blocks = [:]
    }
    lt_return_free_memory()
  }

  deinit { trim() }
}
