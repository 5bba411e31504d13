import Compute
import Tensors

/// Turns a stream of latent frames into pixels, whatever the architecture.
///
/// Latent frames may come in portions of any size: they pass through the network one at a time, in order, so that every
/// portioning gives the same pixels bit for bit. The first latent frame of a stream gives one video frame, every later
/// one `framesPerLatent`.
public protocol VideoDecoder: AnyObject {
  /// Channels of a latent frame.
  var latentChannels: Int { get }
  /// Video frames of every latent frame but the first.
  var framesPerLatent: Int { get }
  /// Pixels per latent position in height and width.
  var pixelsPerLatent: Int { get }
  /// Decodes the next latent frames of the stream.
  ///
  /// - Parameter latents: `[frames, channels, h, w]` as the transformer makes them (normalised); all of one size.
  /// - Returns: `[video frames, height, width, 3]`, RGB in 0...1.
  func decode(_ latents: DeviceTensor) throws -> DeviceTensor
  /// Floating-point operations that a latent frame of `height` x `width` positions takes, convolutions written out; 0 if they
  /// are not counted.
  func operations(height: Int, width: Int) -> Double
  /// Forgets the stream; the next latent frame is a first one.
  func reset()
  /// What the stream remembers, to be stored and put back; setting it continues another stream.
  var state: VideoStreamState { get set }
}

/// Turns a stream of video frames into latent frames, whatever the architecture.
///
/// Portions of any number of latent frames give the same latents bit for bit: frames pass through the network one latent
/// frame at a time, in order.
public protocol VideoEncoder: AnyObject {
  /// The video frames that latent frame `latent` of a stream is made of, beside what the network remembers.
  func videoFrames(of latent: Int) -> Range<Int>
  /// Latent frames that a clip of `frames` video frames has; if these need fewer frames, its first ones are left out.
  func latentFrames(of frames: Int) -> Int
  /// Encodes the next frames of the stream: those of one latent frame or several, fewer only at the end of a clip if the
  /// network repeats the last one.
  ///
  /// - Parameter video: `[frames, height, width, 3]`, RGB in 0...1.
  /// - Returns: `[latent frames, channels, h, w]`, normalised as the transformer wants them.
  func append(_ video: DeviceTensor) throws -> DeviceTensor
  /// What the stream remembers, to be stored and put back; its `frames` counts video frames.
  var state: VideoStreamState { get set }
  /// Encodes a whole clip, a stream of its own; ``state`` is then that at its end.
  ///
  /// - Parameter video: `[frames, height, width, 3]`, RGB in 0...1.
  /// - Returns: `[latent frames, channels, h, w]`, normalised as the transformer wants them.
  func encode(_ video: DeviceTensor) throws -> DeviceTensor
}

/// The memory of a causal network between two portions of a stream: which frame comes next, and the last inputs of each
/// layer that looks back.
public struct VideoStreamState: Sendable {
  /// Frames that have passed, in the unit of the network's input.
  public internal(set) var frames = 0
  /// By layer, what it needs of the past, one map `[n, h, w, channels]` after the other, oldest first: its most recent input
  /// frames, or the sums that they give to its next outputs.
  public internal(set) var history: [String: [DeviceTensor]] = [:]

  /// The start of a stream.
  public init() {}

  /// A stored stream; `history` must come from a network of the same shape.
  public init(frames: Int, history: [String: [DeviceTensor]]) {
    self.frames = frames
    self.history = history
  }
}

extension VideoStreamState {
  /// Adds the stream to what is to be stored, under names that begin with `name`.
  public func save(to state: inout StateBuilder, as name: String, on backend: any Backend) throws {
    try state.add(name, value: frames)
    for (layer, maps) in history {
      for (i, map) in maps.enumerated() {
        state.add("\(name).\(layer)/\(i)", dtype: .f32, shape: map.shape) { backend.download(map) }
      }
    }
  }

  /// A stream that was stored.
  /// - Throws: `TensorError` for a state without it.
  public init(from state: SavedState, as name: String, on backend: any Backend) throws {
    self.init(frames: try state.value(name), history: [:])
    for stored in state.names where stored.hasPrefix(name + ".") && stored.hasSuffix("/0") {
      let layer = stored.dropLast(2)
      let maps = state.names.filter { $0.hasPrefix(layer + "/") }.count
      history[String(layer.dropFirst(name.count + 1))] = try (0..<maps).map {
        backend.upload(try state.tensor("\(layer)/\($0)", dtype: .f32))
      }
    }
  }
}

extension VideoDecoder {
  public func operations(height: Int, width: Int) -> Double { 0 }
}
