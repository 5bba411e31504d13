import Foundation

/// Something that frames are written to, in order: a video file, a pipe, a folder of pictures.
///
/// Frames come in chunks. A finished chunk has left the process when `write` returns, so that a killed run keeps it.
/// A sink is used by one task at a time. One that is dropped without `finish()` is abandoned.
public protocol FrameSink: AnyObject {
  /// Frames written so far.
  var frameCount: Int { get }

  /// Appends frames, all of the sink's size.
  ///
  /// - Parameter endsChunk: whether the last of these frames completes a chunk. The next frame then starts a new one (in an
  ///   mp4: with a key frame), and everything so far is flushed.
  /// - Throws: `VideoIOError`. After an error the sink takes no more frames; `abandon()` and dropping it stay safe.
  func write(_ frames: [RGBFrame], endsChunk: Bool) throws

  /// Completes the output and gives it its final name.
  ///
  /// - Returns: the number of frames in it.
  /// - Throws: `VideoIOError`; the temporary output stays.
  @discardableResult func finish() throws -> Int

  /// Where the output stands after the last finished chunk.
  var position: SinkPosition { get }

  /// Makes sure that everything up to ``position`` survives a power cut.
  ///
  /// - Throws: `VideoIOError.writeFailed`.
  func synchronize() throws

  /// Closes the output under its temporary name, playable up to the last finished chunk; an output without a frame is
  /// removed. Does nothing after `finish()`.
  func abandon()
}

/// How far an unfinished output has come: what another process needs to go on with the same bytes.
public struct SinkPosition: Sendable, Codable, Equatable {
  /// Frames of finished chunks.
  public var frames = 0
  /// Bytes of them in the file; 0 for a folder.
  public var bytes: Int64 = 0
  /// mp4: fragments.
  public var fragments = 0

  public init() {}
}

extension FrameSink {
  /// Appends the frames of one whole chunk.
  public func write(_ frames: [RGBFrame]) throws { try write(frames, endsChunk: true) }
}

/// The formats that frames can be written in.
public enum OutputFormat: String, Sendable, CaseIterable {
  /// H.264 in a fragmented mp4.
  case mp4
  /// HTTP live streaming: a playlist and fragmented mp4 segments with H.264.
  case hls
  /// Uncompressed YUV 4:4:4.
  case y4m
  /// A folder of numbered PNG files: lossless.
  case png

  /// How names look that lead to each format, for messages and help.
  public static let knownNames = [
    ".mp4", ".m3u8 (live HLS)", ".y4m", "folder/ or folder/%05d.png (PNG sequence)", "- (mp4 to standard output)",
  ]

  /// The format that a name asks for.
  ///
  /// - Throws: `VideoIOError.unknownFormat`.
  public init(path: String) throws {
    let lowered = path.lowercased()
    var isFolder: ObjCBool = false
    if path == "-" || lowered.hasSuffix(".mp4") {
      self = .mp4
    } else if lowered.hasSuffix(".m3u8") {
      self = .hls
    } else if lowered.hasSuffix(".y4m") {
      self = .y4m
    } else if path.hasSuffix("/") || (lowered.hasSuffix(".png") && path.contains("%")) {
      self = .png
    } else if FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), isFolder.boolValue {
      self = .png
    } else {
      throw VideoIOError.unknownFormat(path: path, known: OutputFormat.knownNames)
    }
  }
}

/// What a video looks like and how it is encoded.
public struct OutputSettings: Sendable {
  /// Pixels; even for mp4.
  public var width: Int
  /// Pixels; even for mp4.
  public var height: Int
  /// Sets the time stamps exactly.
  public var frameRate: FrameRate
  /// mp4: constant rate factor of x264, 1 (largest) to 51. 18 is visually lossless for most content.
  public var crf: Double = 18
  /// mp4: x264 preset, speed against size.
  public var preset: String = "veryfast"
  /// mp4: texts for the file, such as `comment` (how to repeat the run) and `description` (the prompt).
  public var metadata: [String: String] = [:]
  /// HLS: seconds of the longest chunk, which players are told from the beginning; 0 if unknown.
  public var longestChunk = 0.0
  /// HLS: how many of the latest segments the playlist names; nil for all. Older files go once as many again have come.
  public var keptSegments: Int?

  public init(
    width: Int, height: Int, frameRate: FrameRate, crf: Double = 18, preset: String = "veryfast",
    metadata: [String: String] = [:]
  ) {
    self.width = width
    self.height = height
    self.frameRate = frameRate
    self.crf = crf
    self.preset = preset
    self.metadata = metadata
  }

  /// Checks everything that can be known before there are frames.
  ///
  /// - Throws: `VideoIOError.unsupportedSize`, `.invalidSetting`.
  public func validate(for format: OutputFormat) throws {
    func refuse(_ reason: String) -> VideoIOError { .unsupportedSize(width: width, height: height, reason: reason) }
    if width < 1 || height < 1 { throw refuse("both sides must be positive") }
    if width > 16384 || height > 16384 { throw refuse("no side may be longer than 16384") }
    guard format == .mp4 || format == .hls else { return }
    if width % 2 != 0 || height % 2 != 0 {
      throw refuse("H.264 with yuv420p needs even sides, such as \((width + 1) / 2 * 2)x\((height + 1) / 2 * 2)")
    }
    if width < 16 || height < 16 { throw refuse("H.264 needs at least 16x16") }
    guard crf >= 1, crf <= 51 else {
      throw VideoIOError.invalidSetting(
        name: "crf", value: "\(crf)", expected: "1 (best) to 51; write .png for no loss at all")
    }
    guard H264Encoder.presets.contains(preset) else {
      throw VideoIOError.invalidSetting(
        name: "preset", value: preset, expected: "one of \(H264Encoder.presets.joined(separator: ", "))")
    }
  }
}

/// Opens sinks by name.
public enum FrameSinks {
  /// Opens the sink for `path`: `.mp4`, `.m3u8`, `.y4m`, `folder/`, `folder/%05d.png`, or `-` for standard output.
  ///
  /// - Parameters:
  ///   - format: overrides what the name says (`-` is mp4 otherwise).
  ///   - position: where an unfinished output stands that is to go on; the finished one has the bytes that it would have
  ///     had in one go. A pipe or standard output starts a stream anew, whose time stamps go on.
  /// - Throws: `VideoIOError`, before any frame is needed, for an unknown name, impossible settings, an unwritable place or a
  ///   missing encoder.
  public static func open(
    path: String, settings: OutputSettings, format: OutputFormat? = nil, continuing position: SinkPosition? = nil
  ) throws -> sending any FrameSink {
    let format = try format ?? OutputFormat(path: path)
    switch format {
    case .mp4: return try MP4Writer(path: path, settings: settings, continuing: position)
    case .hls: return try HLSWriter(path: path, settings: settings, continuing: position)
    case .y4m: return try Y4MWriter(path: path, settings: settings, continuing: position)
    case .png: return try PNGSequenceWriter(path: path, settings: settings, continuing: position)
    }
  }
}
