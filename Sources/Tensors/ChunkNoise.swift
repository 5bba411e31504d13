/// The noise of a rollout, chunk by chunk, as `[frames, channels, height, width]` standard normals in float32.
public protocol ChunkNoise: Sendable {
  /// What a chunk starts from.
  mutating func initial(chunk: Int, frames: Int, channels: Int, height: Int, width: Int) throws -> Tensor
  /// The fresh noise that takes the prediction of denoising step `step` to the level of the next step.
  mutating func renoise(chunk: Int, step: Int, frames: Int, channels: Int, height: Int, width: Int) throws -> Tensor
  /// What is mixed into a finished chunk before it is remembered (context noise); nil where the generator has none for it.
  mutating func context(chunk: Int, frames: Int, channels: Int, height: Int, width: Int) -> Tensor?
}

extension ChunkNoise {
  public mutating func context(chunk: Int, frames: Int, channels: Int, height: Int, width: Int) -> Tensor? { nil }
}
