import Foundation

/// What a user may name as input, and what is found there.
///
/// A run directory holds `video.mp4` (`video.part.mp4` while it runs or after it was killed), or another video, and
/// `chunks/000000.latent.safetensors` and so on.
package enum InputSource {
  case video(path: String)
  case runDirectory(path: String)
  case latents(path: String)

  /// Looks at what `path` is, not at what is in it.
  ///
  /// - Throws: `VideoIOError.cannotRead` if there is nothing.
  package init(path: String) throws {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw VideoIOError.cannotRead(path: path, reason: "no such file or directory")
    }
    if isFolder.boolValue {
      self = .runDirectory(path: path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path)
    } else if path.lowercased().hasSuffix(".safetensors") {
      self = .latents(path: path)
    } else {
      self = .video(path: path)
    }
  }

  /// What the user named.
  package var path: String {
    switch self {
    case .video(let path), .runDirectory(let path), .latents(let path): path
    }
  }

  /// Where the video is.
  ///
  /// - Throws: `VideoIOError.cannotRead` if there is none.
  package func videoPath() throws -> String {
    switch self {
    case .video(let path): return path
    case .runDirectory(let path): return try InputSource.video(in: path)
    case .latents(let path): throw VideoIOError.cannotRead(path: path, reason: "it holds latents and no video")
    }
  }

  /// The latents.
  ///
  /// - Throws: `VideoIOError.cannotRead`.
  package func latents() throws -> LatentClip {
    switch self {
    case .video(let path):
      throw VideoIOError.cannotRead(path: path, reason: "a video holds no latents; give the run directory (--run-dir)")
    case .runDirectory(let path):
      let (first, files) = try InputSource.latentFiles(in: path)
      return try LatentClip(path: path, files: files, firstChunk: first)
    case .latents(let path): return try LatentClip(path: path, files: [path])
    }
  }

  /// The video of a run: the one with the usual name, or else the only one.
  private static func video(in folder: String) throws -> String {
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: folder).sorted() else {
      throw VideoIOError.cannotRead(path: folder, reason: "the folder cannot be listed; check its permissions")
    }
    let extensions = ["mp4", "y4m", "mkv", "mov", "webm"]
    let usual = ["video.mp4", "video.part.mp4", "video.y4m", "video.part.y4m"]
    if let name = usual.first(where: names.contains) { return folder + "/" + name }
    // Of a live stream the playlist, not its header.
    let playlists = names.filter { $0.lowercased().hasSuffix(".m3u8") }
    if playlists.count == 1 { return folder + "/" + playlists[0] }
    let videos = names.filter { name in extensions.contains { name.lowercased().hasSuffix("." + $0) } }
    guard let only = videos.first else {
      throw VideoIOError.cannotRead(path: folder, reason: "the folder holds no video (such as video.mp4)")
    }
    guard videos.count == 1 else {
      throw VideoIOError.cannotRead(
        path: folder, reason: "it holds several videos; name one: \(videos.joined(separator: ", "))")
    }
    return folder + "/" + only
  }

  /// What was noted of a run's attention: a file for each chunk, by number.
  ///
  /// - Throws: `VideoIOError.cannotRead` if there is none.
  package func attentionFiles() throws -> [(chunk: Int, path: String)] {
    let advice = "make it with generate-video --run-dir DIR --record-attention"
    guard case .runDirectory(let folder) = self else {
      throw VideoIOError.cannotRead(path: path, reason: "records of attention are in run directories; \(advice)")
    }
    let files = InputSource.chunkFiles(in: folder, suffix: ".attention.safetensors")
    if files.isEmpty {
      throw VideoIOError.cannotRead(path: folder, reason: "the run recorded no attention; \(advice)")
    }
    return files.map { ($0.number, folder + "/chunks/" + $0.name) }
  }

  /// The files `chunks/NUMBER<suffix>` of a run, by number.
  private static func chunkFiles(in folder: String, suffix: String) -> [(number: Int, name: String)] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder + "/chunks")) ?? []
    return names.filter { $0.hasSuffix(suffix) }
      .compactMap { name in Int(name.dropLast(suffix.count)).map { (number: $0, name: name) } }
      .sorted { $0.number < $1.number }
  }

  /// Whether a run went on without end, and so kept the latents of its latest chunks alone.
  private static func isPruned(_ folder: String) -> Bool {
    struct Manifest: Decodable {
      struct Part: Decodable { let frames: Int? }
      let parts: [Part]
    }
    guard let data = FileManager.default.contents(atPath: folder + "/manifest.json") else { return false }
    return (try? JSONDecoder().decode(Manifest.self, from: data))?.parts.contains { $0.frames == nil } ?? false
  }

  /// The latent files of a run, in order, without a gap, and the number of the first one's chunk: 0, or of a run without
  /// end that of the oldest one behind which none is missing.
  private static func latentFiles(in folder: String) throws -> (first: Int, files: [String]) {
    let chunks = folder + "/chunks"
    let suffix = ".latent.safetensors"
    let numbered = chunkFiles(in: folder, suffix: suffix)
    if numbered.isEmpty {
      throw VideoIOError.cannotRead(path: folder, reason: "it holds no latents (chunks/000000\(suffix) and so on)")
    }
    let gap = numbered.enumerated().first { $0.offset != $0.element.number }
    guard let gap else { return (0, numbered.map { chunks + "/" + $0.name }) }
    guard isPruned(folder) else {
      throw VideoIOError.cannotRead(path: chunks, reason: "the latents of chunk \(gap.offset) are missing")
    }
    // Behind the last gap.
    let first = numbered.indices.last { $0 > 0 && numbered[$0 - 1].number + 1 != numbered[$0].number } ?? 0
    return (numbered[first].number, numbered[first...].map { chunks + "/" + $0.name })
  }
}
