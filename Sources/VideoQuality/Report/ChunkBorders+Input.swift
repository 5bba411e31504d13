import Foundation
import VideoIO

extension ChunkBorders {
  /// Who knows where chunks begin.
  enum Source: String {
    /// The user.
    case flag
    /// The latent files of a run directory, one per chunk.
    case latents
    /// `manifest.json` of a run directory, or the record beside a video (`out.json` of `out.mp4`).
    case manifest
  }

  /// The borders of an input, from the best source that there is.
  static func find(for source: InputSource, clip: LatentClip?, video: String?, flag: Int?) throws -> (
    source: Source, borders: ChunkBorders
  )? {
    if let flag { return (.flag, ChunkBorders(chunkFrames: flag)) }
    if case .runDirectory(let folder) = source {
      if let clip, clip.firstChunk == 0, clip.chunkFrames.count > 1 {
        return (.latents, ChunkBorders(latentFrames: clip.chunkFrames))
      }
      return recorded(in: folder + "/manifest.json").map { (.manifest, $0) }
    }
    guard let video else { return nil }
    let record = URL(fileURLWithPath: video).deletingPathExtension().path + ".json"
    return recorded(in: record).map { (.manifest, $0) }
  }

  /// What the engine's own record of a run says; `nil` for any other file.
  private static func recorded(in path: String) -> ChunkBorders? {
    struct Record: Decodable {
      struct Settings: Decodable {
        let chunkFrames: Int
      }
      let engine: String
      let settings: Settings
    }
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    guard let data = FileManager.default.contents(atPath: path),
      let record = try? decoder.decode(Record.self, from: data), record.engine == "longtake",
      (1...maximumChunkFrames).contains(record.settings.chunkFrames)
    else { return nil }
    return ChunkBorders(chunkFrames: record.settings.chunkFrames)
  }

  /// Latent frames of a chunk at most.
  public static let maximumChunkFrames = 1_000_000
}
