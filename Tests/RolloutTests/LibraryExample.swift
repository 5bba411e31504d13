// BEGIN
import Compute
import Rollout
import SparseAttention
import Tensors
import WanModel

/// Makes a video of two prompts and hands on each chunk as soon as it is done: what it is, and its pixels
/// `[frames, height, width, 3]` in 0...1. After each chunk two files in `folder` hold all that is needed to go on.
func makeVideo(
  model path: String, goingOn isContinued: Bool = false, folder: String,
  show: (FinishedChunk, Tensor) async throws -> Void
) async throws {
  let backend = CPUBackend(threads: 2)
  let model = try ModelFolder(path: path)

  // What is shown when: text rows by number of the prompt, and the chunk with which each takes effect.
  let timeline = try PromptTimeline(inline: "a red star over green hills[1.5s] | a blue moon over the sea at night")
  let tokenizer = try model.loadTokenizer()
  let encoder = try model.loadTextEncoder(on: backend)
  let rows = try timeline.segments.map { segment in
    backend.download(try encoder.encode(ids: tokenizer.encode(PromptCleaner.clean(segment.text)).ids))
  }

  // 64x128 pixels, 12 latent frames in chunks of 3, two denoising steps, a sliding window.
  let settings = RolloutSettings(
    latentHeight: 8, latentWidth: 16, latentFrames: 12, schedule: try FlowSchedule(steps: 2, shift: 5),
    recipe: .selfForcing(window: 9))
  let script = PromptScript(rows: rows, schedule: try timeline.schedule(settings.layout, framesPerSecond: 16))

  let (rolloutFile, decoderFile) = (folder + "/rollout.safetensors", folder + "/decoder.safetensors")
  let saved = isContinued ? try SavedState(path: rolloutFile) : nil
  let rollout = try Rollout(
    transformer: model.loadTransformer(on: backend), prompts: script, noise: CounterNoise(seed: 7), settings: settings,
    from: saved, on: backend)
  let decoder = try model.loadDecoder(on: backend)
  if isContinued {
    decoder.state = try VideoStreamState(from: SavedState(path: decoderFile), as: "decoder", on: backend)
  }

  for try await chunk in rollout {
    try await show(chunk, backend.download(decoder.decode(chunk.latents)))
    _ = try await rollout.save(to: rolloutFile)
    var stream = StateBuilder()
    try decoder.state.save(to: &stream, as: "decoder", on: backend)
    try stream.write(to: decoderFile)
  }
}
// END
