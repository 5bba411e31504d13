import Foundation
import Tensors

/// The folder of a run: latents of each chunk, the record, the video.
struct RunDirectory: Sendable {
  let path: String

  /// Makes the folders.
  init(creating path: String) throws {
    self.path = path
    do {
      try FileManager.default.createDirectory(atPath: path + "/chunks", withIntermediateDirectories: true)
    } catch { throw RunError("the run directory \(path) cannot be made: \(error.localizedDescription)") }
    // Chunks of an earlier run would pass for this one's.
    for file in (try? FileManager.default.contentsOfDirectory(atPath: path + "/chunks")) ?? []
    where file.hasSuffix(".latent.safetensors") {
      try? FileManager.default.removeItem(atPath: path + "/chunks/" + file)
    }
  }

  /// `chunks/000000.latent.safetensors`
  func latentFile(chunk: Int) -> String {
    let number = String(chunk)
    return path + "/chunks/" + String(repeating: "0", count: max(0, 6 - number.count)) + number + ".latent.safetensors"
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
