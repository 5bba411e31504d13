import Tensors
import VideoIO

/// Numbered pictures, one after the other.
protocol PictureSource: AnyObject {
  /// Where they come from.
  var path: String { get }
  /// What one of them is called.
  var noun: String { get }
  /// What its file's name starts with.
  var prefix: String { get }
  /// The source in a few words.
  var summary: String { get }
  /// How many there are.
  func count() throws -> Int
  /// The next one; `nil` after the last.
  func next() throws -> RGBFrame?
  /// Passes over the next one; `false` after the last.
  func skip() throws -> Bool
}

extension InputSource {
  /// The frames of the video.
  ///
  /// - Throws: `VideoIOError.cannotRead`.
  func videoPictures() throws -> VideoPictures {
    if case .latents(let path) = self {
      throw VideoIOError.cannotRead(path: path, reason: "it holds latents and no video; add --false-colour to see them")
    }
    return try VideoPictures(path: videoPath())
  }

  /// The frames, or the latent frames in false colour.
  ///
  /// - Throws: `VideoIOError.cannotRead`.
  func pictures(latents asLatents: Bool) throws -> any PictureSource {
    asLatents ? try LatentPictures(latents()) : try videoPictures()
  }

  /// How these frames differ from another source's.
  ///
  /// - Throws: `VideoIOError.cannotRead`.
  func difference(from other: InputSource, latents asLatents: Bool) throws -> any DifferenceSource {
    asLatents
      ? try LatentDifference(latents(), other.latents())
      : try VideoDifference(videoPictures(), other.videoPictures())
  }
}

/// The frames of a video.
final class VideoPictures: PictureSource {
  let path: String
  let noun = "frame"
  let prefix = "frame"
  private let reader: VideoReader
  private var counted: Int?

  init(path: String) throws {
    self.path = path
    reader = try VideoReader(path: path)
  }

  /// Frames in a second; nil where the file does not say.
  var framesPerSecond: Double? { reader.info.frameRate?.framesPerSecond }

  var summary: String {
    let info = reader.info
    let rate = info.frameRate.map { ", \($0) fps" } ?? ""
    return "'\(path)' (\(info.width)x\(info.height), \(info.codec)\(rate))"
  }

  func count() throws -> Int {
    let count = try counted ?? VideoReader.frameCount(of: path)
    counted = count
    return count
  }

  func next() throws -> RGBFrame? { try reader.next() }
  func skip() throws -> Bool { try reader.skip() }
}

/// The frames of a latent clip one after the other, `[1, channels, height, width]`.
final class LatentFrames {
  let clip: LatentClip
  private var index = 0
  /// The file that was read last, and its tensor.
  private var loaded: (file: Int, tensor: Tensor)?

  init(_ clip: LatentClip) { self.clip = clip }

  func next() throws -> Tensor? {
    guard let (file, frame) = clip.position(of: index) else { return nil }
    if loaded?.file != file { loaded = (file, try clip.tensor(file)) }
    guard let one = loaded?.tensor.rows(frame...frame) else { return nil }
    index += 1
    return one
  }

  func skip() -> Bool {
    guard index < clip.shape[0] else { return false }
    index += 1
    return true
  }
}

/// The frames of a latent clip, in false colour.
final class LatentPictures: PictureSource {
  let noun = "latent frame"
  let prefix = "latent"
  private let frames: LatentFrames

  init(_ clip: LatentClip) { frames = LatentFrames(clip) }

  var path: String { frames.clip.path }
  var summary: String {
    let clip = frames.clip
    let part = clip.firstChunk > 0 ? ", from chunk \(clip.firstChunk) on" : ""
    return "'\(clip.path)' (\(clip.shape[1]) channels of \(clip.shape[3])x\(clip.shape[2])\(part))"
  }
  func count() -> Int { frames.clip.shape[0] }
  func next() throws -> RGBFrame? { try frames.next().map { try FalseColour.picture(of: $0) } }
  func skip() -> Bool { frames.skip() }
}

extension FalseColour {
  /// A latent frame `[1, channels, height, width]`, large enough to see single values: tiles of at least 96 pixels.
  static func picture(of latents: Tensor) throws -> RGBFrame {
    let zoom = max(1, (95 + latents.shape[3]) / latents.shape[3])
    return try FalseColour.tiles(latents, zoom: zoom)[0]
  }
}
