import Foundation
import Rollout
import VideoIO

extension RunSettings {
  /// Chunks for which latents are read from the input.
  var inputChunks: Int {
    guard let input else { return 0 }
    let frames = min(model.latentFrames(ofVideoFrames: input.frames), latentFrames)
    return rollout.layout.chunk(of: frames - 1) + 1
  }

  /// - Throws: ``UsageError``; ``RunError`` for a file that cannot be read.
  static func input(_ request: RunRequest, frameRate: FrameRate) throws -> InputClip? {
    guard request.image == nil || request.video == nil else {
      throw UsageError("give --image or --video, not both")
    }
    if let strength = request.strength {
      guard request.image != nil || request.video != nil else {
        throw UsageError("--strength \(strength) without --image or --video to which it could apply")
      }
      guard strength > 0, strength <= 1 else {
        throw UsageError("--strength \(strength); above 0 and at most 1 is possible")
      }
    }
    let rate = frameRate.framesPerSecond
    if let path = request.image { return try InputClip(.image, path: path, framesPerSecond: rate) }
    return try request.video.map { try InputClip(.video, path: $0, framesPerSecond: rate) }
  }

  /// One line on how the input is used.
  static func note(
    on input: InputClip, latentFrames: Int, of frames: Int, _ request: RunRequest, _ frameRate: FrameRate
  ) -> String {
    let rate = frameRate.framesPerSecond
    let name = "--\(input.kind.rawValue) \(input.path)"
    let shown = 4 * (latentFrames - 1) + 1
    if input.kind == .image {
      return "\(name): " + (request.strength == nil ? "the first frame" : "the first frame is made from it")
    }
    var text = "\(name): \(input.fileFrames) frames"
    if abs(input.fileRate - rate) > 1e-6 {
      text += ", every \(String(format: "%.3g", input.fileRate / rate))th for \(frameRate) fps"
    }
    text += "; \(latentFrames) latent frames, which are the first \(min(shown, frames)) frames of the video"
    return text + (request.strength == nil ? ", \(frames - shown) are new" : ", made anew from it")
  }
}
