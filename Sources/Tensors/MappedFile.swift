import Foundation

/// A file mapped read-only into memory for as long as this object lives.
///
/// Its bytes come from the page cache, so that several processes share them and untouched parts cost nothing. A file that
/// another program shortens while it is mapped kills the process (SIGBUS); replace weights by renaming, never in place.
final class MappedFile: @unchecked Sendable {
  let path: String
  /// Never empty.
  let bytes: UnsafeRawBufferPointer

  /// - Throws: ``TensorError`` (`unreadable`, `truncated` for an empty file).
  init(path: String) throws(TensorError) {
    self.path = path
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw MappedFile.unreadable(path, errno) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw MappedFile.unreadable(path, errno) }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw TensorError(.unreadable, path: path, "this is not a regular file")
    }
    let size = Int(status.st_size)
    guard size > 0 else { throw TensorError(.truncated, path: path, "the file is empty") }
    guard let memory = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0), memory != MAP_FAILED else {
      throw MappedFile.unreadable(path, errno)
    }
    bytes = UnsafeRawBufferPointer(start: memory, count: size)
  }

  deinit { munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count) }

  /// A whole file that is not mapped, for text.
  static func contents(_ path: String) throws(TensorError) -> [UInt8] {
    let map = try MappedFile(path: path)
    return withExtendedLifetime(map) { Array(map.bytes) }
  }

  private static func unreadable(_ path: String, _ code: Int32) -> TensorError {
    TensorError(.unreadable, path: path, "cannot be read: \(String(cString: strerror(code)))")
  }
}
