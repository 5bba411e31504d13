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

  /// The system calls whose failures tests imitate.
  package struct Calls {
    package var write: (Int32, UnsafeRawPointer, Int) -> Int
    package var flush: (Int32) -> Int32
    package static var system: Calls { Calls(write: { Foundation.write($0, $1, $2) }, flush: { fsync($0) }) }
  }

  package static func write(
    _ tensors: [(String, Tensor)], metadata: [String: String], to path: String, through calls: Calls
  ) throws {
    let sorted = tensors.sorted { ($1.1.dtype.size, $0.0) < ($0.1.dtype.size, $1.0) }
    let header = try self.header(sorted, metadata: metadata, path: path)
    let folder = (path as NSString).deletingLastPathComponent
    let name = (path as NSString).lastPathComponent
    let temporary = (folder as NSString).appendingPathComponent(".\(name).\(UUID().uuidString).part")
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw failure(errno, path) }
    do {
      defer { close(descriptor) }
      try header.withUnsafeBytes { try write($0, to: descriptor, path, calls) }
      for (_, tensor) in sorted { try tensor.withUnsafeBytes { try write($0, to: descriptor, path, calls) } }
      guard calls.flush(descriptor) == 0 else { throw failure(errno, path) }
    } catch {
      unlink(temporary)
      throw error
    }
    guard rename(temporary, path) == 0 else {
      let code = errno
      unlink(temporary)
      throw failure(code, path)
    }
    // The rename itself reaches the disk with the folder. Some file systems cannot flush one; the file is whole anyway.
    let opened = open(folder.isEmpty ? "." : folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if opened >= 0 {
      fsync(opened)
      close(opened)
    }
  }

  /// Length and JSON text.
  private static func header(
    _ sorted: [(String, Tensor)], metadata: [String: String], path: String
  ) throws(TensorError) -> [UInt8] {
    var members: [String] = []
    if !metadata.isEmpty {
      let pairs = metadata.sorted { $0.key < $1.key }.map { "\(quoted($0.key)):\(quoted($0.value))" }
      members.append("\"__metadata__\":{\(pairs.joined(separator: ","))}")
    }
    let types = Dictionary(uniqueKeysWithValues: SafetensorsHeader.dtypes.map { ($1, $0) })
    var names: Set<String> = ["__metadata__"]
    var offset = 0
    for (name, tensor) in sorted {
      guard names.insert(name).inserted else {
        throw TensorError(.duplicateName, path: path, tensor: name, "this name is taken")
      }
      let end = offset + tensor.count * tensor.dtype.size
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

  private static func write(
    _ bytes: UnsafeRawBufferPointer, to descriptor: Int32, _ path: String, _ calls: Calls
  ) throws(TensorError) {
    guard let start = bytes.baseAddress else { return }
    var done = 0
    while done < bytes.count {
      let written = calls.write(descriptor, start + done, min(bytes.count - done, 1 << 30))
      if written < 0 {
        if errno == EINTR { continue }
        throw failure(errno, path)
      }
      done += written
    }
  }

  private static func failure(_ code: Int32, _ path: String) -> TensorError {
    code == ENOSPC || code == EDQUOT
      ? TensorError(.noSpace, path: path, "the disk is full; nothing was written")
      : TensorError(.unwritable, path: path, "cannot be written: \(String(cString: strerror(code)))")
  }
}
