import Foundation

/// Files that are whole or not there, also after a power cut.
public enum DurableFile {
  /// The system calls whose failures tests imitate.
  package struct Calls {
    package var write: (Int32, UnsafeRawPointer, Int) -> Int
    package var flush: (Int32) -> Int32
    package static var system: Calls { Calls(write: { Foundation.write($0, $1, $2) }, flush: { fsync($0) }) }
  }

  /// Writes `data` under a temporary name in the same folder, flushes it to the disk, and renames it to `path`.
  ///
  /// - Throws: ``TensorError``: `noSpace` (full disk or quota), `unwritable`. The temporary file is then gone, and a file
  ///   that stood at `path` is untouched.
  public static func write(_ data: Data, to path: String) throws {
    try replace(path, calls: .system) { write in try data.withUnsafeBytes { try write($0) } }
  }

  /// Makes a file of whatever `body` writes, piece by piece.
  package static func replace(
    _ path: String, calls: Calls, _ body: ((UnsafeRawBufferPointer) throws -> Void) throws -> Void
  ) throws {
    let folder = (path as NSString).deletingLastPathComponent
    let name = (path as NSString).lastPathComponent
    let temporary = (folder as NSString).appendingPathComponent(".\(name).\(UUID().uuidString).part")
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw failure(errno, path) }
    do {
      defer { close(descriptor) }
      try body { try write($0, to: descriptor, path, calls) }
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
    flushFolder(folder)
  }

  /// Brings the names in a folder to the disk. Some file systems cannot; the files are whole anyway.
  public static func flushFolder(_ folder: String) {
    let opened = open(folder.isEmpty ? "." : folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard opened >= 0 else { return }
    fsync(opened)
    close(opened)
  }

  /// Whether `name` is that of a temporary file which a killed process left.
  public static func isLeftover(_ name: String) -> Bool { name.hasPrefix(".") && name.hasSuffix(".part") }

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
