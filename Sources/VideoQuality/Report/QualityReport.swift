import Foundation
import VideoIO

/// All that can be said of a video or a run directory without a reference and without a network.
///
/// Encoded with snake case keys it is the JSON of `score-video` (docs/formats.md); what could not be measured is absent.
public struct QualityReport: Sendable, Encodable {
  /// What was named: a video, a run directory, or a file of latents.
  public let input: String
  public let video: VideoFacts?
  public let chunks: ChunkFacts?
  public let pixels: VideoMeasures?
  public let latents: LatentMeasures?
  /// What a reader should know: what was assumed, what is missing.
  public let notes: [String]

  /// What a video is.
  public struct VideoFacts: Sendable, Encodable {
    public let path: String
    public let width: Int
    public let height: Int
    /// Exact, such as `16` or `24000/1001`.
    public let fps: String
    public let seconds: Double
    /// Between neighbouring samples.
    public let sampleSeconds: Double
  }

  /// Where the chunks of a video begin.
  public struct ChunkFacts: Sendable, Encodable {
    /// Whence this is known: `flag`, `latents`, `manifest`.
    public let source: String
    /// First frame of every chunk but the first.
    public let borders: [Int]
  }
}

extension QualityReport {
  /// Reads and measures.
  ///
  /// - Parameters:
  ///   - path: a video, a run directory, or a `.safetensors` file with latents.
  ///   - chunkFrames: latent frames per chunk, 1 or more; by default what the run left on record.
  /// - Throws: `VideoIOError`, errors of `TensorArchive`.
  public init(scoring path: String, chunkFrames: Int? = nil) throws {
    let source = try InputSource(path: path)
    var notes: [String] = []
    let clip = try QualityReport.latents(of: source, &notes)
    let videoPath = try QualityReport.video(of: source, hasLatents: clip != nil, &notes)
    let found = try ChunkBorders.find(for: source, clip: clip, video: videoPath, flag: chunkFrames)
    if let clip, clip.firstChunk > 0 {
      notes.append("latents are kept from chunk \(clip.firstChunk) on: their numbers are of that part")
    }
    input = path
    latents = try clip.map { try LatentMeasures($0) }
    if let videoPath {
      let reader = try VideoReader(path: videoPath)
      let rate = try reader.info.frameRate ?? FrameRate(16)
      if reader.info.frameRate == nil { notes.append("the file does not say its frame rate; 16 is assumed") }
      let measures = try QualityReport.measure(reader, path: videoPath, rate: rate, borders: found?.borders)
      let seconds = Double(measures.frames) / rate.framesPerSecond
      video = VideoFacts(
        path: videoPath, width: reader.info.width, height: reader.info.height, fps: "\(rate)", seconds: seconds,
        sampleSeconds: seconds / Double(max(1, measures.loop.samples)))
      chunks = found.map { ChunkFacts(source: $0.source.rawValue, borders: $0.borders.frames(below: measures.frames)) }
      pixels = measures
      if found == nil { notes.append("no chunk borders are known, so seams were not measured; give --chunk-frames") }
      if let chunks, chunks.borders.isEmpty { notes.append("the video has a single chunk, so there are no seams") }
      if measures.loop.samples < LoopScore.minimumSamples {
        let few = "\(measures.frames) frame\(measures.frames == 1 ? "" : "s")"
        notes.append("\(few): too short for a loop score, which is \(Int(LoopScore.undecided)) by convention")
      }
    } else {
      (video, chunks, pixels) = (nil, nil, nil)
    }
    self.notes = notes
  }

  /// JSON with the documented keys, sorted, one value per line.
  public func json() throws -> Data {
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return try encoder.encode(self)
  }

  private static func latents(of source: InputSource, _ notes: inout [String]) throws -> LatentClip? {
    switch source {
    case .video: return nil
    case .latents: return try source.latents()
    case .runDirectory:
      do { return try source.latents() } catch let error as VideoIOError {
        notes.append("the latents were not measured: \(error)")
        return nil
      }
    }
  }

  private static func video(of source: InputSource, hasLatents: Bool, _ notes: inout [String]) throws -> String? {
    if case .latents = source { return nil }
    do { return try source.videoPath() } catch let error as VideoIOError where hasLatents {
      notes.append("the video was not measured: \(error)")
      return nil
    }
  }

  private static func measure(
    _ reader: VideoReader, path: String, rate: FrameRate, borders: ChunkBorders?
  ) throws -> VideoMeasures {
    let count = try VideoReader.frameCount(of: path)
    guard count > 0, let first = try reader.next() else {
      throw VideoIOError.cannotRead(path: path, reason: "it has no frames")
    }
    var scorer = VideoScorer(count: count, frameRate: rate.framesPerSecond, borders: borders)
    scorer.add(first)
    while let frame = try reader.next() {
      guard frame.width == first.width, frame.height == first.height else {
        throw VideoIOError.cannotRead(
          path: path,
          reason: "its frames change from \(first.width)x\(first.height) to \(frame.width)x\(frame.height)")
      }
      scorer.add(frame)
    }
    return scorer.finish()
  }
}
