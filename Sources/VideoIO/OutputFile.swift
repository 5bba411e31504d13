import CLibAV
import Foundation
import Tensors

/// The open end of an output: a file under its temporary name, standard output, or a pipe or device.
///
/// A file `out.mp4` is written as `out.part.mp4` in the same folder and gets its name in `commit()`; until then whatever
/// has the final name stays as it is. A process that is killed leaves the temporary file. Pipes, devices and standard output
/// are written directly.
package final class OutputFile {
  /// The name that the user gave; "standard output" for `-`.
  let path: String
  /// The name that the bytes have for now; `nil` if they go to their destination directly.
  let temporaryPath: String?
  /// The file descriptor; -1 once closed.
  private var descriptor: Int32
  /// Whether bytes can be put anywhere and taken back.
  private(set) var isRegular = false
  /// Bytes written so far.
  private(set) var length: Int64 = 0

  /// Opens `path`, where `-` is standard output.
  ///
  /// - Parameter kept: Bytes of an earlier, unfinished file to go on after; what follows them is cut off. If there is only
  ///   the finished file, the new one begins with a copy of it. Pipes and standard output begin anew.
  /// - Throws: `VideoIOError.cannotCreate` for a missing or unwritable folder, a name that is a folder, or a temporary file
  ///   that another process is writing.
  init(path: String, keeping kept: Int64 = 0) throws {
    if path == "-" {
      self.path = "standard output"
      temporaryPath = nil
      descriptor = dup(STDOUT_FILENO)
      if descriptor < 0 { throw VideoIOError.cannotCreate(path: self.path, reason: reason(errno: errno)) }
      return
    }
    self.path = path
    var status = stat()
    let exists = stat(path, &status) == 0
    let kind = status.st_mode & S_IFMT
    if exists && kind == S_IFDIR { throw VideoIOError.cannotCreate(path: path, reason: "it is a folder") }
    let direct = exists && kind != S_IFREG
    temporaryPath = direct ? nil : OutputFile.temporaryName(of: path)
    let name = temporaryPath ?? path
    func tooShort(_ path: String, _ found: Int64) -> VideoIOError {
      .cannotCreate(path: path, reason: "it has \(max(0, found)) bytes, and \(kept) are needed to go on after")
    }
    if kept > 0, !direct, exists, access(name, F_OK) != 0 {
      guard status.st_size >= kept else { throw tooShort(path, Int64(status.st_size)) }
      do { try FileManager.default.copyItem(atPath: path, toPath: name) } catch {
        throw VideoIOError.cannotCreate(path: name, reason: "'\(path)' cannot be copied there to go on from")
      }
    }
    if kept > 0, !direct, access(name, F_OK) != 0 {
      throw VideoIOError.cannotCreate(path: name, reason: "neither it nor '\(path)' is there to go on from")
    }
    // Not truncated before the lock is held: another run may be writing it.
    descriptor = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0o666)
    if descriptor < 0 { throw VideoIOError.cannotCreate(path: name, reason: OutputFile.openingReason(name, errno)) }
    if direct { return }
    // Only of a file: a device that the name leads to is everybody's.
    let isFile = fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
    if isFile, flock(descriptor, LOCK_EX | LOCK_NB) != 0, errno == EWOULDBLOCK {
      close(descriptor)
      throw VideoIOError.cannotCreate(path: name, reason: "another process is writing it; choose another output")
    }
    guard kept > 0 else {
      isRegular = ftruncate(descriptor, 0) == 0
      return
    }
    let found = lseek(descriptor, 0, SEEK_END)
    guard found >= kept, ftruncate(descriptor, off_t(kept)) == 0 else {
      close(descriptor)
      descriptor = -1
      throw tooShort(name, Int64(found))
    }
    isRegular = true
    length = kept
  }

  /// Brings what was written to the disk.
  ///
  /// - Throws: `VideoIOError.writeFailed`.
  func synchronize() throws {
    guard descriptor >= 0, temporaryPath != nil else { return }
    if fdatasync(descriptor) != 0, errno != EINVAL, errno != EROFS { throw failure(reason(errno: errno)) }
  }

  deinit { abandon() }

  /// `dir/out.mp4` becomes `dir/out.part.mp4`, and a name without extension gets `.part` at its end.
  package static func temporaryName(of path: String) -> String {
    let name = path.split(separator: "/", omittingEmptySubsequences: false).last ?? ""
    guard let dot = name.lastIndex(of: "."), dot != name.startIndex else { return path + ".part" }
    return String(path[..<dot]) + ".part" + String(path[dot...])
  }

  /// Appends bytes; a regular file that cannot take all of them takes none.
  ///
  /// - Throws: `VideoIOError.writeFailed` (full disk, closed pipe).
  func write(_ bytes: UnsafeRawBufferPointer) throws {
    guard descriptor >= 0 else { throw VideoIOError.closed(path: path) }
    try put(bytes, at: isRegular ? length : -1)
    length += Int64(bytes.count)
  }

  /// Appends whole boxes of an mp4 so that a killed process leaves all of them or none.
  ///
  /// Most demuxers give up on a whole file for one torn `moof` at its end. So the bytes are first put into the file as a
  /// `free` box, which everyone skips, and its head then becomes that of the real first box.
  ///
  /// - Throws: `VideoIOError.writeFailed`.
  func writeBoxes(_ bytes: UnsafeRawBufferPointer) throws {
    let head = 8
    guard descriptor >= 0, isRegular, bytes.count >= head, let size = UInt32(exactly: bytes.count) else {
      return try write(bytes)
    }
    let disguise = withUnsafeBytes(of: size.bigEndian, Array.init) + Array("free".utf8)
    try disguise.withUnsafeBytes { try put($0, at: length) }
    try put(UnsafeRawBufferPointer(rebasing: bytes[head...]), at: length + Int64(head))
    try put(UnsafeRawBufferPointer(rebasing: bytes[..<head]), at: length)
    length += Int64(bytes.count)
  }

  private func put(_ bytes: UnsafeRawBufferPointer, at offset: Int64) throws {
    let error = longtake_write_all(descriptor, bytes.bindMemory(to: UInt8.self).baseAddress, bytes.count, offset)
    if error == 0 { return }
    if isRegular { _ = ftruncate(descriptor, off_t(length)) }
    throw failure(reason(errno: error))
  }

  /// An error about the file as it is named now.
  func failure(_ reason: String) -> VideoIOError { .writeFailed(path: temporaryPath ?? path, reason: reason) }

  /// Closes a complete file and gives it its final name, replacing what had it.
  ///
  /// - Throws: `VideoIOError.writeFailed`; the temporary file stays.
  func commit() throws {
    guard descriptor >= 0 else { throw VideoIOError.closed(path: path) }
    let fd = descriptor
    descriptor = -1
    // fsync does not exist for pipes and devices (EINVAL, EROFS); a file whose bytes are not on disk must not get its name.
    if temporaryPath != nil, fsync(fd) != 0, errno != EINVAL, errno != EROFS {
      let error = failure(reason(errno: errno))
      close(fd)
      throw error
    }
    if close(fd) != 0, errno != EINTR { throw failure(reason(errno: errno)) }
    guard let temporaryPath else { return }
    if rename(temporaryPath, path) != 0 {
      throw VideoIOError.cannotCreate(path: path, reason: reason(errno: errno) + "; the video is in '\(temporaryPath)'")
    }
    DurableFile.flushFolder((path as NSString).deletingLastPathComponent)
  }

  /// Closes the file under its temporary name, or removes it if nothing in it is worth keeping; does nothing if it is closed.
  func abandon(discarding: Bool = false) {
    guard descriptor >= 0 else { return }
    // While the lock is held: the name may be another process's afterwards.
    if discarding, isRegular, let temporaryPath { unlink(temporaryPath) }
    close(descriptor)
    descriptor = -1
  }

  /// Why `open` failed, with the folder that is missing if that is the cause.
  static func openingReason(_ path: String, _ code: Int32) -> String {
    let folder = URL(fileURLWithPath: path).deletingLastPathComponent().path
    if code == ENOENT { return "the folder '\(folder)' does not exist; create it first" }
    return reason(errno: code)
  }
}

/// Text to a standard descriptor, unbuffered, with an error that can be caught.
public struct DirectOutput: Sendable {
  public static let standardOutput = DirectOutput(descriptor: STDOUT_FILENO, name: "standard output")
  public static let standardError = DirectOutput(descriptor: STDERR_FILENO, name: "standard error")
  private let descriptor: Int32
  private let name: String

  /// - Throws: `VideoIOError.writeFailed` (full disk, closed pipe).
  public func write(_ text: String) throws {
    let bytes = Array(text.utf8)
    let error = longtake_write_all(descriptor, bytes, bytes.count, -1)
    if error != 0 { throw VideoIOError.writeFailed(path: name, reason: reason(errno: error)) }
  }
}

/// Folders for outputs.
public enum OutputFolder {
  /// Makes a folder, and those that it lies in, unless they are there.
  ///
  /// - Throws: `VideoIOError.cannotCreate`.
  public static func make(_ path: String) throws {
    var made = path.hasPrefix("/") ? "/" : ""
    for part in path.split(separator: "/") {
      made += part
      if mkdir(made, 0o777) != 0 {
        let code = errno
        var status = stat()
        let isFolder = stat(made, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
        if !isFolder {
          throw VideoIOError.cannotCreate(
            path: path, reason: code == EEXIST ? "'\(made)' is a file" : reason(errno: code))
        }
      }
      made += "/"
    }
  }
}
