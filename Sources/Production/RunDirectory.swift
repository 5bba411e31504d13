import Foundation
import Tensors

/// The folder of a run: latents of each chunk, what was noted of its attention, the record, the video.
struct RunDirectory: Sendable {
  let path: String

  /// Makes the folders; what is in them stays.
  init(creating path: String) throws {
    self.path = path
    do {
      try FileManager.default.createDirectory(atPath: path + "/chunks", withIntermediateDirectories: true)
    } catch { throw RunError("the run directory \(path) cannot be made: \(error.localizedDescription)") }
  }

  /// Removes the latents and the manifest of an earlier run, which would pass for this one's.
  /// - Throws: ``RunError`` for one that stays.
  func removeEarlierRun() throws {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path + "/chunks")) ?? []
    let suffixes = [".latent.safetensors", ".attention.safetensors"]
    let old =
      names.filter { name in suffixes.contains { name.hasSuffix($0) } }.map { "chunks/" + $0 } + ["manifest.json"]
    for file in old where FileManager.default.fileExists(atPath: path + "/" + file) {
      do { try FileManager.default.removeItem(atPath: path + "/" + file) } catch {
        throw RunError("\(path)/\(file) of an earlier run cannot be removed; choose another --run-dir")
      }
    }
  }

  /// `chunks/000000.latent.safetensors`
  func latentFile(chunk: Int) -> String { file(chunk: chunk, "latent") }

  /// `chunks/000000.attention.safetensors`
  func attentionFile(chunk: Int) -> String { file(chunk: chunk, "attention") }

  private func file(chunk: Int, _ what: String) -> String {
    let number = String(chunk)
    return path + "/chunks/" + String(repeating: "0", count: max(0, 6 - number.count)) + number
      + ".\(what).safetensors"
  }

  /// Stores a chunk's latents `[frames, channels, h, w]` under the name `latents`.
  func write(latents: Tensor, chunk: Int) throws {
    try SafetensorsWriter.write(
      [("latents", latents)], metadata: ["chunk": String(chunk)], to: latentFile(chunk: chunk))
  }
}

/// A run that failed while it ran: exit status 1.
public struct RunError: Error, Equatable, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}
