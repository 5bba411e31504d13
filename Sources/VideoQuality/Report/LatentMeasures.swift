import Tensors
import VideoIO

/// What is measured in the latents of a run, before any pixels are made.
public struct LatentMeasures: Sendable, Encodable {
  /// Latent frames.
  public let frames: Int
  public let loop: LoopScore
  /// Cosine of the latent feature with that of the second sample, at up to 64 latent frames. The very first latent frame
  /// stands for one frame of video, the others for four, and looks like none of them.
  public let similarity: LatentSeries
  /// Root mean square difference to the next latent frame, at up to 32.
  public let change: LatentSeries
}

/// Values at latent frames.
public struct LatentSeries: Sendable, Encodable {
  public let frames: [Int]
  public let values: [Double]
}

extension LatentMeasures {
  /// Reads up to 64 latent frames, and up to 32 pairs of neighbours, whose difference stands for the optical flow in the loop
  /// score.
  ///
  /// - Throws: `VideoIOError.cannotRead` for latents that are not finite; errors of `TensorArchive`.
  package init(_ clip: LatentClip) throws {
    let (channels, height, width) = (clip.shape[1], clip.shape[2], clip.shape[3])
    func frame(_ index: Int) throws -> [Float] {
      guard let (file, row) = clip.position(of: index) else { preconditionFailure("no latent frame \(index)") }
      let values = try clip.tensor(file).rows(row...row).floats()
      guard values.allSatisfy(\.isFinite) else {
        throw VideoIOError.cannotRead(
          path: clip.path, reason: "latent frame \(index) holds numbers that are not finite")
      }
      return values
    }
    frames = clip.shape[0]
    let sampled = SamplePlan.spread(SamplePlan.samples, over: frames)
    let features = try sampled.map {
      LatentFeature.of(try frame($0), channels: channels, height: height, width: width)
    }
    let starts = SamplePlan.spread(SamplePlan.samples / 2, over: frames - 1)
    let activity = try starts.map { start in
      let (a, b) = (try frame(start), try frame(start + 1))
      return Feature.distance(a, b) / Double(a.count).squareRoot()
    }
    loop = LoopScore(features: features, activity: activity)
    let reference = features[min(1, features.count - 1)]
    similarity = LatentSeries(frames: sampled, values: features.map { Feature.cosine(reference, $0) })
    change = LatentSeries(frames: starts, values: activity)
  }
}
