import Compute
import Foundation
import Tensors

/// What is read of a run directory's `manifest.json` to go on with the run.
struct RunManifest: Decodable {
  let engine: String
  let version: String
  let status: RunRecord.Status
  let created: String
  let arguments: [String]
  let request: RunRequest
  let parts: [RunRecord.Part]
  let weights: [RunRecord.Weights]
  let machine: RunRecord.Machine

  /// - Throws: ``RunError`` for a file that is missing or no manifest of this version.
  init(path: String) throws {
    struct Mark: Decodable {
      let engine: String
      let format: Int?
    }
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    guard let data = FileManager.default.contents(atPath: path) else {
      throw RunError("\(path) is missing: no run was begun there")
    }
    guard let mark = try? decoder.decode(Mark.self, from: data), mark.engine == Engine.name else {
      throw RunError("\(path) is no manifest of a run")
    }
    guard let format = mark.format, format == RunRecord.format else {
      throw RunError(
        "\(path) has the format \(mark.format.map(String.init) ?? "of an older version"); this version reads "
          + "\(RunRecord.format)")
    }
    do { self = try decoder.decode(RunManifest.self, from: data) } catch {
      throw RunError("\(path) is damaged: \(RunManifest.place(of: error))")
    }
  }

  /// How far a run is; nil if there is no manifest that says so.
  static func status(of path: String) -> RunRecord.Status? {
    struct Mark: Decodable { let status: RunRecord.Status }
    return FileManager.default.contents(atPath: path).flatMap { try? JSONDecoder().decode(Mark.self, from: $0) }?.status
  }

  /// - Throws: ``RunError`` if the weights are not those that the run was begun with.
  func requireSameWeights(as settings: RunSettings) throws {
    let found = try RunRecord.weights(of: settings)
    for before in weights {
      guard let now = found.first(where: { $0.part == before.part }) else {
        throw RunError("the run used weights for \(before.part) (\(before.path)), which are not there any more")
      }
      guard now.fingerprint == before.fingerprint else {
        throw RunError(
          "the weights of \(now.part) in \(now.path) are not those that the run was begun with: fingerprint "
            + "\(now.fingerprint.prefix(12)), wanted \(before.fingerprint.prefix(12))")
      }
    }
    if let other = found.first(where: { now in !weights.contains { $0.part == now.part } }) {
      throw RunError("\(other.path) has weights for \(other.part) that the run was begun without")
    }
  }

  private static func place(of error: any Error) -> String {
    switch error {
    case DecodingError.keyNotFound(let key, _): "'\(key.stringValue)' is missing"
    case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context),
      DecodingError.dataCorrupted(let context):
      "'\(context.codingPath.map(\.stringValue).joined(separator: "."))' cannot be understood"
    default: "it cannot be understood"
    }
  }
}

extension RunRequest {
  /// The request as it can be repeated from any folder and on another machine, which may have other defaults. An output
  /// inside the run directory moves with it.
  func repeatable(model: String, precision: Precision, pages: PageFormat) -> RunRequest {
    func absolute(_ path: String) -> String {
      let whole = URL(fileURLWithPath: path).standardizedFileURL.path
      return path.hasSuffix("/") && !whole.hasSuffix("/") ? whole + "/" : whole
    }
    var request = self
    request.model = absolute(model)
    request.checkpoint = checkpoint.map(absolute)
    if let output, output != "-" { request.output = absolute(output) }
    request.runDirectory = runDirectory.map(absolute)
    (request.image, request.video) = (image.map(absolute), video.map(absolute))
    request.precision = precision
    request.pages = pages
    return request
  }
}
