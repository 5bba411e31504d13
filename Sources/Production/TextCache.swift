import Compute
import Foundation
import Tensors
import WanModel

/// The text encoder, with what it made before kept on disk: the encoder of Wan 2.1 has 5.7 billion parameters, and most
/// runs ask it about prompts that it has seen.
///
/// Rows are kept in `$XDG_CACHE_HOME/longtake/text` (or `~/.cache/longtake/text`), one file of float32 rows for each digest of
/// the encoder's weights, the tokens, and the program that computed them, so that a hit gives the same bytes as the encoder
/// would.
/// The prompt itself is not written. The weights are opened when a prompt is not found.
final class TextCache {
  /// Files that are kept; the ones used longest ago go first.
  static let capacity = 256

  private let model: ModelFolder
  private let backend: CPUBackend
  private let folder: URL?
  private let fingerprint: String
  private var encoder: UMT5Encoder?

  /// - Parameter isEnabled: `false` neither reads nor writes files.
  init(_ model: ModelFolder, isEnabled: Bool, on backend: CPUBackend) throws {
    self.model = model
    self.backend = backend
    folder = isEnabled ? TextCache.folder() : nil
    fingerprint = folder == nil ? "" : try TensorArchive(path: model.textEncoderPath).fingerprint
  }

  /// The encoder's rows of a prompt, `[ids.count, width]`.
  ///
  /// - Throws: What loading the encoder or encoding throws. A cache that cannot be read or written is no error.
  func encode(ids: [Int32]) throws -> DeviceTensor {
    let file = folder?.appendingPathComponent(digest(ids) + ".safetensors")
    let shape = [ids.count, model.transformer.textWidth]
    if let file, let rows = TextCache.read(file, shape: shape) {
      // The time of the last use is what decides which files go.
      try? FileManager.default.setAttributes([.modificationDate: Date()], ofItemAtPath: file.path)
      return backend.upload(rows)
    }
    let encoder = try self.encoder ?? model.loadTextEncoder(on: backend)
    self.encoder = encoder
    let rows = try encoder.encode(ids: ids)
    if let file { write(backend.download(rows), to: file) }
    return rows
  }

  private func digest(_ ids: [Int32]) -> String {
    var hash = SHA256()
    hash.update("\(Engine.version) \(fingerprint) \(backend.arithmetic)".utf8)
    // Another build may round otherwise.
    let program = try? FileManager.default.attributesOfItem(atPath: Host.program)
    hash.update(UInt64((program?[.size] as? Int) ?? 0))
    hash.update(((program?[.modificationDate] as? Date)?.timeIntervalSince1970 ?? 0).bitPattern)
    for id in ids { hash.update(UInt64(bitPattern: Int64(id))) }
    return hash.finish()
  }

  private static func folder() -> URL? {
    let environment = ProcessInfo.processInfo.environment
    // The specification has it that a relative path is ignored.
    if let base = environment["XDG_CACHE_HOME"], base.hasPrefix("/") {
      return URL(fileURLWithPath: base + "/longtake/text")
    }
    guard let home = environment["HOME"], home.hasPrefix("/") else { return nil }
    return URL(fileURLWithPath: home + "/.cache/longtake/text")
  }

  /// nil for a file that is not there or is damaged.
  private static func read(_ file: URL, shape: [Int]) -> Tensor? {
    guard FileManager.default.fileExists(atPath: file.path), let archive = try? TensorArchive(path: file.path),
      let rows = try? archive.tensor("rows"), rows.shape == shape, rows.dtype == .f32,
      rows.floats().allSatisfy({ $0.isFinite })
    else { return nil }
    return rows
  }

  /// Then the oldest files go.
  private func write(_ rows: Tensor, to file: URL) {
    let manager = FileManager.default
    let parent = file.deletingLastPathComponent()
    guard (try? manager.createDirectory(at: parent, withIntermediateDirectories: true)) != nil,
      (try? SafetensorsWriter.write([("rows", rows)], to: file.path)) != nil
    else { return }
    let key = URLResourceKey.contentModificationDateKey
    let files = (try? manager.contentsOfDirectory(at: parent, includingPropertiesForKeys: [key])) ?? []
    func age(_ url: URL) -> Date { (try? url.resourceValues(forKeys: [key]))?.contentModificationDate ?? .distantPast }
    for old in files.sorted(by: { age($0) > age($1) }).dropFirst(TextCache.capacity) {
      try? manager.removeItem(at: old)
    }
  }
}
