import Foundation

/// A state on its way to a file: small values as JSON, arrays as named tensors.
///
/// Each part of the engine adds what it needs to go on, under names of its own, and reads it back from a ``SavedState``. In
/// the safetensors file the values stand in the metadata.
public struct StateBuilder {
  private var values: [String: String] = [:]
  private var tensors: [LazyTensor] = []

  public init() {}

  /// Adds a value.
  public mutating func add(_ name: String, value: some Encodable) throws {
    precondition(values[name] == nil, "two values named \(name)")
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    values[name] = String(decoding: try encoder.encode(value), as: UTF8.self)
  }

  /// Adds an array.
  public mutating func add(_ name: String, tensor: Tensor) { tensors.append(LazyTensor(name, tensor)) }

  /// Adds an array that is copied when the file is written: what it is copied from must not change until then.
  public mutating func add(_ name: String, dtype: DType, shape: [Int], make: @escaping () throws -> Tensor) {
    tensors.append(LazyTensor(name, dtype: dtype, shape: shape, make: make))
  }

  /// Bytes of the arrays.
  public var byteCount: Int { tensors.reduce(0) { $0 + $1.shape.reduce(1, *) * $1.dtype.size } }

  /// Writes it all; the file is whole or not there.
  /// - Throws: ``TensorError`` (full disk, unwritable folder).
  public func write(to path: String) throws {
    try SafetensorsWriter.write(lazily: tensors, metadata: values, to: path)
  }
}

/// A state that was read back. Arrays stay in the mapped file until they are asked for.
public struct SavedState: Sendable {
  public let path: String
  private let archive: TensorArchive

  /// Opens a file that a ``StateBuilder`` wrote.
  /// - Throws: ``TensorError`` for a file that is missing, cut or damaged.
  public init(path: String) throws {
    self.path = path
    archive = try TensorArchive(path: path)
  }

  /// A value.
  /// - Throws: ``TensorError`` (`missingTensor`, `malformedHeader`), naming it.
  public func value<Value: Decodable>(_ name: String, as type: Value.Type = Value.self) throws -> Value {
    guard let text = archive.metadata[name] else {
      throw TensorError(.missingTensor, path: path, tensor: name, "the state has no such value")
    }
    do { return try JSONDecoder().decode(Value.self, from: Data(text.utf8)) } catch {
      throw TensorError(.malformedHeader, path: path, tensor: name, "the state's value cannot be understood")
    }
  }

  /// Whether there is such a value or array.
  public func contains(_ name: String) -> Bool { archive.metadata[name] != nil || archive.contains(name) }

  /// The names of all arrays, sorted.
  public var names: [String] { archive.names }

  /// An array of a given type and, where it is known, shape.
  /// - Throws: ``TensorError`` for one that is missing or different.
  public func tensor(_ name: String, dtype: DType, shape: [Int]? = nil) throws -> Tensor {
    let tensor = try archive.tensor(name)
    guard tensor.dtype == dtype, shape.map({ $0 == tensor.shape }) ?? true else {
      throw TensorError(
        .shape, path: path, tensor: name,
        "\(tensor.dtype) \(tensor.shape), wanted \(dtype) \(shape.map { "\($0)" } ?? "")")
    }
    return tensor
  }

  /// What to say of an array whose numbers cannot be.
  public func damaged(_ name: String, _ problem: String) -> TensorError {
    TensorError(.shape, path: path, tensor: name, problem)
  }
}
