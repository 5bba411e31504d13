import Foundation
import Tensors
import VideoIO

/// An image or a video that a run begins with: where its frames are, at the run's size and rate.
///
/// Opening reads the container's headers and counts its frames; pictures are decoded when they are asked for.
public struct InputClip: Sendable, Equatable {
  public enum Kind: String, Sendable, Codable {
    case image, video
  }
  public let kind: Kind
  public let path: String
  /// Frames of the file, and its rate; an image has one frame.
  public let fileFrames: Int
  public let fileRate: Double
  /// Frames at the run's rate, before any are dropped: frame i is the file's frame `i rate / run's rate`, rounded down.
  public let frames: Int
  /// Frames of the file for each of the run's.
  let step: Double

  /// - Throws: ``RunError`` for a file that cannot be read.
  init(_ kind: Kind, path: String, framesPerSecond: Double) throws {
    self.kind = kind
    self.path = path
    do {
      let reader = try VideoReader(path: path, noun: kind == .image ? "picture" : "video")
      // A header says little about a picture: whether it can be read is known once it has been.
      if kind == .image, try !reader.skip() { throw VideoIOError.cannotRead(path: path, reason: "it holds no picture") }
      let info = reader.info
      let counted = kind == .image ? 1 : try VideoReader.frameCount(of: path)
      guard counted > 0 else { throw VideoIOError.cannotRead(path: path, reason: "it holds no frame") }
      guard info.width >= 8, info.height >= 8 else {
        throw VideoIOError.cannotRead(
          path: path, reason: "\(info.width)x\(info.height) pixels are too few; at least 8x8 are needed")
      }
      let rate = info.frameRate?.framesPerSecond ?? framesPerSecond
      (fileFrames, fileRate, step) = (counted, rate, rate / framesPerSecond)
      frames = kind == .image ? 1 : Int((Double(counted - 1) / step + 1e-6).rounded(.down)) + 1
    } catch let error as VideoIOError {
      throw RunError("--\(kind.rawValue): \(error)")
    }
  }

  /// The file's frame that is shown as the run's frame `i`.
  func source(of i: Int) -> Int { min(fileFrames - 1, Int((Double(i) * step + 1e-6).rounded(.down))) }

  /// A mark of the file's content: its size and the SHA-256 of its first and last mebibyte.
  func fingerprint() throws -> String {
    guard let file = FileHandle(forReadingAtPath: path) else {
      throw RunError("--\(kind.rawValue): cannot read '\(path)'")
    }
    defer { try? file.close() }
    let part = 1 << 20
    let size = try file.seekToEnd()
    try file.seek(toOffset: 0)
    var data = try file.read(upToCount: part) ?? Data()
    try file.seek(toOffset: size > UInt64(part) ? size - UInt64(part) : 0)
    data += try file.read(upToCount: part) ?? Data()
    var hash = SHA256()
    hash.update(size)
    hash.update(data)
    return hash.finish()
  }
}
