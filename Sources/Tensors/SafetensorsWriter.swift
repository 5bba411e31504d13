import Foundation

/// Writes safetensors files that are complete or not there.
public enum SafetensorsWriter {
  /// Writes `tensors` under a temporary name in the same folder, flushes it to the disk, then renames it to `path`.
  ///
  /// The bytes depend on the arguments alone, not on the order of `tensors` or of `metadata`: data and header are sorted by
  /// element size, largest first, then by name, so that everything is aligned; the header is padded to 8 bytes.
  ///
  /// - Throws: ``TensorError``: `duplicateName`, `noSpace` (full disk or quota), `unwritable`. The temporary file is then
  ///   gone, and a file that stood at `path` is untouched.
  public static func write(_ tensors: [(String, Tensor)], metadata: [String: String] = [:], to path: String) throws {
    try write(tensors, metadata: metadata, to: path, through: .system)
  }

  package static func write(
    _ tensors: [(String, Tensor)], metadata: [String: String], to path: String, through calls: DurableFile.Calls
  ) throws {
    try write(tensors.map { LazyTensor($0, $1) }, metadata: metadata, to: path, through: calls)
  }

  /// The same for tensors that are made when their turn comes and dropped when they are written, so that a large file needs
  /// little memory.
  public static func write(lazily tensors: [LazyTensor], metadata: [String: String] = [:], to path: String) throws {
    try write(tensors, metadata: metadata, to: path, through: .system)
  }

  private static func write(
    _ tensors: [LazyTensor], metadata: [String: String], to path: String, through calls: DurableFile.Calls
  ) throws {
    let sorted = tensors.sorted { ($1.dtype.size, $0.name) < ($0.dtype.size, $1.name) }
    let header = try self.header(sorted, metadata: metadata, path: path)
    try DurableFile.replace(path, calls: calls) { write in
      try header.withUnsafeBytes { try write($0) }
      for item in sorted {
        let tensor = try item.make()
        precondition(tensor.shape == item.shape && tensor.dtype == item.dtype, "\(item.name) is not what was promised")
        try tensor.withUnsafeBytes { try write($0) }
      }
    }
  }

  /// Length and JSON text.
  private static func header(
    _ sorted: [LazyTensor], metadata: [String: String], path: String
  ) throws(TensorError) -> [UInt8] {
    var members: [String] = []
    if !metadata.isEmpty {
      let pairs = metadata.sorted { $0.key < $1.key }.map { "\(quoted($0.key)):\(quoted($0.value))" }
      members.append("\"__metadata__\":{\(pairs.joined(separator: ","))}")
    }
    let types = Dictionary(uniqueKeysWithValues: SafetensorsHeader.dtypes.map { ($1, $0) })
    var names: Set<String> = ["__metadata__"]
    var offset = 0
    for tensor in sorted {
      let name = tensor.name
      guard names.insert(name).inserted else {
        throw TensorError(.duplicateName, path: path, tensor: name, "this name is taken")
      }
      let end = offset + tensor.shape.reduce(1, *) * tensor.dtype.size
      let shape = tensor.shape.map(String.init).joined(separator: ",")
      let type = types[tensor.dtype] ?? ""
      members.append("\(quoted(name)):{\"dtype\":\"\(type)\",\"shape\":[\(shape)],\"data_offsets\":[\(offset),\(end)]}")
      offset = end
    }
    var text = Array("{\(members.joined(separator: ","))}".utf8)
    text += [UInt8](repeating: UInt8(ascii: " "), count: (8 - text.count % 8) % 8)
    return (0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) } + text
  }

  private static func quoted(_ text: String) -> String {
    var out = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"", "\\": out += "\\\(scalar)"
      case "\u{0}"..<" ":
        let hex = String(scalar.value, radix: 16)
        out += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
      default: out.unicodeScalars.append(scalar)
      }
    }
    return out + "\""
  }
}

/// A named tensor whose numbers are not there yet.
public struct LazyTensor {
  public let name: String
  public let dtype: DType
  public let shape: [Int]
  /// Gives it, in exactly this type and shape.
  public let make: () throws -> Tensor

  public init(_ name: String, dtype: DType, shape: [Int], make: @escaping () throws -> Tensor) {
    (self.name, self.dtype, self.shape, self.make) = (name, dtype, shape, make)
  }

  public init(_ name: String, _ tensor: Tensor) {
    self.init(name, dtype: tensor.dtype, shape: tensor.shape) { tensor }
  }
}
