import Compute
import Foundation
import Tensors
import VideoIO
import WanModel

/// Reads a clip's frames in order and encodes them, a few latent frames at a time.
final class ClipEncoder {
  /// Latent frames of the whole clip.
  let latentFrames: Int
  /// Frames at the beginning that are left out, so that the last latent frame ends with the clip.
  let dropped: Int
  private let clip: InputClip
  private let encoder: any VideoEncoder
  private let size: (width: Int, height: Int)
  private let backend: any Backend
  private let reader: VideoReader
  /// Frames of the file that have been passed, and the last that was decoded.
  private var passed = 0
  private var last: RGBFrame?
  /// Latent frames that have been given.
  private var given = 0

  /// - Parameters:
  ///   - state: What ``save(to:)`` saved, to go on from `firstLatent`; nil with 0.
  init(
    _ clip: InputClip, encoder: any VideoEncoder, width: Int, height: Int, from state: SavedState?, firstLatent: Int,
    on backend: any Backend
  ) throws {
    self.clip = clip
    self.encoder = encoder
    size = (width, height)
    self.backend = backend
    latentFrames = encoder.latentFrames(of: clip.frames)
    dropped = max(0, clip.frames - encoder.videoFrames(of: latentFrames - 1).upperBound)
    do { reader = try VideoReader(path: clip.path) } catch { throw RunError("--\(clip.kind.rawValue): \(error)") }
    given = firstLatent
    if let state, firstLatent > 0 { encoder.state = try VideoStreamState(from: state, as: "encoder", on: backend) }
  }

  /// Adds what the encoder remembers to a state.
  func save(to state: inout StateBuilder) throws { try encoder.state.save(to: &state, as: "encoder", on: backend) }

  /// The next `count` latent frames, `[count, channels, h, w]`.
  /// - Throws: ``RunError`` if the file ends before its headers said so.
  func next(_ count: Int) throws -> DeviceTensor {
    precondition(given + count <= latentFrames, "\(given + count) of \(latentFrames) latent frames were asked for")
    let first = encoder.videoFrames(of: given).lowerBound
    let end = min(clip.frames - dropped, encoder.videoFrames(of: given + count - 1).upperBound)
    let pictures = try (first..<end).map { try picture($0 + dropped) }
    given += count
    return try encoder.append(backend.upload(ClipEncoder.tensor(pictures)))
  }

  /// The clip's frame `i`, at the run's size; frames are asked for in order.
  private func picture(_ i: Int) throws -> RGBFrame {
    let source = clip.source(of: i)
    while passed <= source {
      if passed < source {
        guard try reader.skip() else { throw ended() }
      } else {
        guard let frame = try reader.next() else { throw ended() }
        last = frame.covering(width: size.width, height: size.height)
      }
      passed += 1
    }
    guard let last else { throw ended() }
    return last
  }

  private func ended() -> RunError {
    RunError("--\(clip.kind.rawValue): '\(clip.path)' ends after frame \(passed) of \(clip.fileFrames)")
  }

  /// Pictures as `[frames, height, width, 3]` in 0...1.
  static func tensor(_ pictures: [RGBFrame]) -> Tensor {
    let (width, height) = (pictures[0].width, pictures[0].height)
    return Tensor(pictures.flatMap { $0.pixels.map { Float($0) / 255 } }, shape: [pictures.count, height, width, 3])
  }
}
