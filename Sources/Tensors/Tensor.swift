/// The owner of a tensor's bytes: memory of its own, or a part of a file that `owner` keeps mapped.
///
/// Immutable once it is shared, hence safe to send.
public final class TensorBytes: @unchecked Sendable {
  /// The bytes; valid as long as this object lives.
  public let buffer: UnsafeRawBufferPointer
  private let owner: AnyObject?

  /// Memory of `count` bytes aligned to 64, filled once by `fill`.
  public init(count: Int, fill: (UnsafeMutableRawBufferPointer) throws -> Void) rethrows {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 64)
    do { try fill(memory) } catch {
      memory.deallocate()
      throw error
    }
    buffer = UnsafeRawBufferPointer(memory)
    owner = nil
  }

  /// Borrowed memory, valid as long as `owner` lives (a mapped file).
  public init(borrowing buffer: UnsafeRawBufferPointer, from owner: AnyObject) {
    self.buffer = buffer
    self.owner = owner
  }

  deinit { if owner == nil { buffer.deallocate() } }
}

/// A dense row-major tensor in host memory: what files hold, and what goes into and comes out of a backend.
///
/// The elements never change after `init`. Arithmetic is the business of `Compute`; here are shapes, types, conversions.
public struct Tensor: Sendable {
  public let dtype: DType
  /// Row-major extents, last index fastest; empty for a scalar.
  public let shape: [Int]
  let bytes: TensorBytes

  /// Number of elements.
  public var count: Int { shape.reduce(1, *) }

  /// A view of existing bytes, which must hold exactly the elements of `shape`.
  public init(dtype: DType, shape: [Int], bytes: TensorBytes) {
    precondition(shape.allSatisfy { $0 >= 0 }, "negative extent in shape \(shape)")
    precondition(
      bytes.buffer.count == shape.reduce(1, *) * dtype.size,
      "\(bytes.buffer.count) bytes do not make a \(dtype) tensor of shape \(shape)")
    self.dtype = dtype
    self.shape = shape
    self.bytes = bytes
  }

  /// A new tensor whose bytes `fill` writes once.
  public init(dtype: DType, shape: [Int], fill: (UnsafeMutableRawBufferPointer) throws -> Void) rethrows {
    let bytes = try TensorBytes(count: shape.reduce(1, *) * dtype.size, fill: fill)
    self.init(dtype: dtype, shape: shape, bytes: bytes)
  }

  /// A float32 tensor.
  public init(_ values: [Float], shape: [Int]) {
    self.init(dtype: .f32, shape: shape) { memory in values.withUnsafeBytes { memory.copyMemory(from: $0) } }
  }

  /// An int32 tensor.
  public init(_ values: [Int32], shape: [Int]) {
    self.init(dtype: .i32, shape: shape) { memory in values.withUnsafeBytes { memory.copyMemory(from: $0) } }
  }

  /// A uint8 tensor.
  public init(_ values: [UInt8], shape: [Int]) {
    self.init(dtype: .u8, shape: shape) { memory in memory.copyBytes(from: values) }
  }

  /// Reads the raw bytes, little endian, in place.
  public func withUnsafeBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
    try withExtendedLifetime(bytes) { try body(bytes.buffer) }
  }

  /// The same elements under another shape of the same count.
  public func reshaped(_ shape: [Int]) -> Tensor { Tensor(dtype: dtype, shape: shape, bytes: bytes) }

  /// All elements as float32, whatever the type; exact for all but large integers.
  public func floats() -> [Float] {
    let n = count
    return [Float](unsafeUninitializedCapacity: n) { out, initialized in
      copyFloats(to: UnsafeMutableBufferPointer(start: out.baseAddress, count: n))
      initialized = n
    }
  }

  /// Writes all elements as float32 into `out`, which has room for `count`.
  public func copyFloats(to out: UnsafeMutableBufferPointer<Float>) {
    precondition(out.count >= count, "no room for \(count) floats")
    withUnsafeBytes { raw in
      // Mapped files need not be aligned, hence the unaligned loads.
      func convert<Element: BitwiseCopyable>(_: Element.Type, _ value: (Element) -> Float) {
        for i in 0..<count {
          out[i] = value(raw.loadUnaligned(fromByteOffset: i * MemoryLayout<Element>.size, as: Element.self))
        }
      }
      switch dtype {
      case .f32: UnsafeMutableRawBufferPointer(out).copyMemory(from: raw)
      case .bf16: convert(UInt16.self, BFloat16.decode)
      case .f16: convert(UInt16.self, Float16Bits.decode)
      case .i8: convert(Int8.self) { Float($0) }
      case .u8: convert(UInt8.self) { Float($0) }
      case .i32: convert(Int32.self) { Float($0) }
      case .i64: convert(Int64.self) { Float($0) }
      }
    }
  }

  /// All elements of an integer tensor.
  public func integers() -> [Int] {
    withUnsafeBytes { raw in
      (0..<count).map { i in
        switch dtype {
        case .i8: Int(raw.loadUnaligned(fromByteOffset: i, as: Int8.self))
        case .u8: Int(raw[i])
        case .i32: Int(raw.loadUnaligned(fromByteOffset: i * 4, as: Int32.self))
        case .i64: Int(raw.loadUnaligned(fromByteOffset: i * 8, as: Int64.self))
        case .f32, .bf16, .f16: preconditionFailure("integers() of a \(dtype) tensor")
        }
      }
    }
  }

  /// The same values in another floating-point type, rounded to nearest even.
  public func converted(to target: DType) -> Tensor {
    if target == dtype { return self }
    let values = floats()
    return Tensor(dtype: target, shape: shape) { memory in
      switch target {
      case .f32: values.withUnsafeBytes { memory.copyMemory(from: $0) }
      case .bf16:
        for (i, v) in values.enumerated() {
          memory.storeBytes(of: BFloat16.encode(v), toByteOffset: 2 * i, as: UInt16.self)
        }
      case .f16:
        for (i, v) in values.enumerated() {
          memory.storeBytes(of: Float16Bits.encode(v), toByteOffset: 2 * i, as: UInt16.self)
        }
      case .i8, .u8, .i32, .i64: preconditionFailure("conversion from \(dtype) to \(target) is not a rounding")
      }
    }
  }
}
