import Compute
import Tensors
import Testing
import WanModel

/// Encodes as much of a clip `[frames, 3, h, w]`, repeated to 17 frames, as the encoder takes whole: at once, latent frame by
/// latent frame, and in two parts with the state put back in between; all must agree.
func expectEveryPortioningEncodes(_ encoder: any VideoEncoder, _ clip: Tensor, _ backend: any Backend) throws {
  let once = backend.pixels(channelsFirst: clip)
  let long = backend.concatenate(Array(repeating: once, count: (17 + clip.shape[0] - 1) / clip.shape[0]))
  let count = encoder.latentFrames(of: 17)
  let all = backend.slice(long, 0..<encoder.videoFrames(of: count - 1).upperBound)
  let whole = backend.download(try encoder.encode(all)).floats()
  #expect(count >= 4)
  encoder.state = VideoStreamState()
  var parts: [Float] = []
  for latent in 0..<count {
    parts += backend.download(try encoder.append(backend.slice(all, encoder.videoFrames(of: latent)))).floats()
  }
  #expect(parts == whole)
  encoder.state = VideoStreamState()
  let middle = encoder.videoFrames(of: 1).upperBound
  let first = backend.download(try encoder.append(backend.slice(all, 0..<middle))).floats()
  let kept = encoder.state
  _ = try encoder.append(backend.slice(all, encoder.videoFrames(of: 2)))
  encoder.state = kept
  let second = backend.download(try encoder.append(backend.slice(all, middle..<all.shape[0]))).floats()
  #expect(first + second == whole)
}
