import Foundation
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The folder of a run: manifest, events, latents of each chunk with what was noted of its attention, checkpoints of the
/// state, the video, a preview.
///
/// Every file in it is whole or not there. One process at a time works in it; the lock goes with the object.
package final class RunDirectory: Sendable {
  let path: String
  private let lock: Int32

  /// Makes the folders; what is in them stays.
  /// - Throws: ``RunError`` for a folder that cannot be made, or that another process works in.
  package convenience init(creating path: String) throws {
    do {
      for part in ["/chunks", "/state"] {
        try FileManager.default.createDirectory(atPath: path + part, withIntermediateDirectories: true)
      }
    } catch { throw RunError("the run directory \(path) cannot be made: \(error.localizedDescription)") }
    try self.init(opening: path)
  }

  /// - Throws: ``RunError`` for a folder that is not there, or that another process works in.
  package init(opening path: String) throws {
    self.path = path
    lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard lock >= 0 else { throw RunError("there is no run directory \(path)") }
    guard flock(lock, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK else {
      close(lock)
      throw RunError("another process is writing in the run directory \(path)")
    }
  }

  deinit { close(lock) }

  var manifestFile: String { path + "/manifest.json" }
  var eventsFile: String { path + "/events.jsonl" }
  var previewFile: String { path + "/preview.png" }
  /// `chunks/000000.latent.safetensors`
  func latentFile(chunk: Int) -> String { "\(path)/chunks/\(Self.number(chunk)).latent.safetensors" }
  /// `chunks/000000.attention.safetensors`
  func attentionFile(chunk: Int) -> String { "\(path)/chunks/\(Self.number(chunk)).attention.safetensors" }
  /// `state/ckpt-000001.rollout.safetensors` and so on; the number is that of the next chunk.
  func stateFile(_ kind: StateFile, nextChunk: Int) -> String {
    "\(path)/state/ckpt-\(Self.number(nextChunk)).\(kind.rawValue)"
  }

  /// The files of a checkpoint; it exists if the last one does.
  enum StateFile: String, CaseIterable {
    /// Keys and values with their tables, and where the noise stands.
    case rollout = "rollout.safetensors"
    /// What the autoencoder remembers of the frames before, and the preview.
    case decoder = "decoder.safetensors"
    /// ``Checkpoint``, written last.
    case record = "json"
  }

  private static func number(_ n: Int) -> String {
    let digits = String(n)
    return String(repeating: "0", count: max(0, 6 - digits.count)) + digits
  }

  /// Numbers of the checkpoints, rising.
  var checkpoints: [Int] {
    names("state").filter { $0.hasPrefix("ckpt-") && $0.hasSuffix(".json") }
      .compactMap { Int($0.dropFirst(5).dropLast(5)) }.sorted()
  }

  /// Removes all checkpoints but the newest `count`.
  func prune(keeping count: Int) {
    let oldest = checkpoints.suffix(count).first ?? .max
    for name in names("state") where name.hasPrefix("ckpt-") {
      guard let number = Int(name.dropFirst(5).prefix { $0 != "." }), number < oldest else { continue }
      // The record goes first, or a kill would leave a checkpoint that lacks a file.
      unlink(stateFile(.record, nextChunk: number))
      unlink(path + "/state/" + name)
    }
  }

  /// Removes the temporary files that a killed process left, and files of checkpoints that it did not complete.
  func removeLeftovers() {
    let whole = checkpoints
    for name in names("state") where name.hasPrefix("ckpt-") {
      if let number = Int(name.dropFirst(5).prefix { $0 != "." }), !whole.contains(number) {
        unlink(path + "/state/" + name)
      }
    }
    for folder in ["", "state", "chunks"] {
      for name in names(folder) where DurableFile.isLeftover(name) { unlink("\(path)/\(folder)/\(name)") }
    }
  }

  private func names(_ folder: String) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: path + "/" + folder)) ?? []).sorted()
  }

  /// Removes what an earlier run left, which would pass for this one's; its video stays until this one's is finished.
  /// - Throws: ``RunError`` for a run that is not finished, which nothing should destroy, and for files that stay.
  func removeEarlierRun() throws {
    let state = checkpoints.isEmpty ? nil : RunManifest.status(of: manifestFile)
    if let state, state != .finished {
      throw RunError(
        "\(path) holds a run that is not finished; go on with: generate-video resume \(path.quotedForShell), or choose "
          + "another --run-dir")
    }
    prune(keeping: 0)
    let suffixes = [".latent.safetensors", ".attention.safetensors"]
    let chunks = names("chunks").filter { name in suffixes.contains { name.hasSuffix($0) } }.map { "chunks/" + $0 }
    let events = names("").filter { $0.hasPrefix("events") && $0.hasSuffix(".jsonl") }
    for file in chunks + events + ["manifest.json", "preview.png"]
    where FileManager.default.fileExists(atPath: path + "/" + file) {
      do { try FileManager.default.removeItem(atPath: path + "/" + file) } catch {
        throw RunError("\(path)/\(file) of an earlier run cannot be removed; choose another --run-dir")
      }
    }
  }

  /// Removes latents and records of attention of the chunk that is no longer among the latest `kept` before `chunk`.
  ///
  /// - Parameter first: Chunks before this one stay.
  func forget(before chunk: Int, keeping kept: Int, from first: Int) {
    let oldest = chunk - kept
    guard oldest >= first else { return }
    for file in [latentFile(chunk: oldest), attentionFile(chunk: oldest)] { unlink(file) }
  }

  /// Stores a chunk's latents `[frames, channels, h, w]` under the name `latents`.
  func write(latents: Tensor, chunk: Int) throws {
    try SafetensorsWriter.write(
      [("latents", latents)], metadata: ["chunk": String(chunk)], to: latentFile(chunk: chunk))
  }
}

extension String {
  /// As one word of a shell's command line.
  var quotedForShell: String {
    let plain = allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "/._-+=:,@%".contains($0)) }
    return plain && !isEmpty ? self : "'" + replacingOccurrences(of: "'", with: "'\\''") + "'"
  }
}

/// A run that failed while it ran: exit status 1.
public struct RunError: Error, Equatable, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}

/// A run that was asked to stop and did, between two chunks: exit status 75.
public struct RunStopped: Error, Equatable, CustomStringConvertible {
  /// Chunks that are finished.
  public let chunks: Int
  /// The command that goes on.
  public let resume: String

  public var description: String {
    "stopped after \(chunks) chunk\(chunks == 1 ? "" : "s"); go on with: \(resume)"
  }
}
