import Compute
import Foundation
import Rollout
import SparseAttention
import Tensors
import Testing
import WanModel

/// What a change of prompt does to a rollout of the shipped model at 64x128 pixels.
@Suite struct PromptSwitchTests {
  private let backend = CPUBackend(threads: 2)
  private let transformer: WanTransformer
  /// Text rows of two prompts.
  private let rows: [Tensor]

  init() throws {
    let model = try ModelFolder(path: ShippedModel.path)
    let tokenizer = try model.loadTokenizer()
    let encoder = try model.loadTextEncoder(on: backend)
    rows = try ["a red star over green hills", "a blue moon over the sea at night"].map { [backend] in
      backend.download(try encoder.encode(ids: tokenizer.encode($0).ids))
    }
    transformer = try model.loadTransformer(on: backend)
  }

  private func settings(_ recipe: SparsityRecipe, frames: Int, guidance: Double = 1) throws -> RolloutSettings {
    var settings = RolloutSettings(
      latentHeight: 8, latentWidth: 16, latentFrames: frames, schedule: try FlowSchedule(steps: 2, shift: 5),
      recipe: recipe)
    settings.guidance = guidance
    return settings
  }

  private func rollout(
    _ rows: [Tensor], _ switches: [PromptSwitch], recipe: SparsityRecipe = .selfForcing(window: 21), frames: Int = 12,
    guidance: Double = 1, noise: any ChunkNoise = CounterNoise(seed: 5)
  ) throws -> Rollout {
    try Rollout(
      transformer: transformer,
      prompts: PromptScript(
        rows: rows, schedule: PromptSchedule(switches: [PromptSwitch(prompt: 0, chunk: 0)] + switches)),
      negative: guidance == 1 ? nil : transformer.context(text: backend.upload(self.rows[1])), noise: noise,
      settings: settings(recipe, frames: frames, guidance: guidance), on: backend)
  }

  private func plain(
    _ prompt: Int, recipe: SparsityRecipe = .selfForcing(window: 21), frames: Int = 12, guidance: Double = 1,
    noise: any ChunkNoise = CounterNoise(seed: 5)
  ) async throws -> [[Float]] {
    try await rollout([rows[prompt]], [], recipe: recipe, frames: frames, guidance: guidance, noise: noise)
      .latents(on: backend)
  }

  /// Noise whose chunk 0 is chunk `first` of another.
  private struct Later: ChunkNoise {
    var noise: CounterNoise
    let first: Int
    mutating func initial(chunk: Int, frames: Int, channels: Int, height: Int, width: Int) -> Tensor {
      noise.initial(chunk: chunk + first, frames: frames, channels: channels, height: height, width: width)
    }
    mutating func renoise(chunk: Int, step: Int, frames: Int, channels: Int, height: Int, width: Int) -> Tensor {
      noise.renoise(chunk: chunk + first, step: step, frames: frames, channels: channels, height: height, width: width)
    }
  }

  static let recipes: [SparsityRecipe] = [
    .selfForcing(window: 6, sink: 1, positions: .window), .sparseForcing(), .lightForcing(),
  ]

  @Test("A hard cut begins a rollout of its own, bit for bit", arguments: recipes.indices)
  func hardCut(recipe: Int) async throws {
    let recipe = Self.recipes[recipe]
    let cut = try await rollout(
      rows, [PromptSwitch(prompt: 1, chunk: 2, isCut: true)], recipe: recipe, frames: 15
    ).latents(on: backend)
    let scene = try await plain(1, recipe: recipe, frames: 9, noise: Later(noise: CounterNoise(seed: 5), first: 2))
    #expect(Array(cut[2...]) == scene)
    #expect(cut[0] != scene[0])
  }

  @Test(
    "A switch to the same prompt changes nothing, neither by keep nor by recache, with and without guidance",
    arguments: [PromptSwitch.Kind.keep, .recache], [1.0, 2.0])
  func samePrompt(kind: PromptSwitch.Kind, guidance: Double) async throws {
    let wanted = try await plain(0, guidance: guidance)
    let turns = [PromptSwitch(prompt: 1, chunk: 1, kind: kind), PromptSwitch(prompt: 2, chunk: 3, kind: kind)]
    let switched = try rollout([rows[0], rows[0], rows[0]], turns, guidance: guidance)
    var recached: [Int] = []
    for try await chunk in switched {
      #expect(backend.download(chunk.latents).floats() == wanted[chunk.index], "chunk \(chunk.index)")
      recached.append(chunk.recachedFrames)
    }
    #expect(recached == (kind == .recache ? [0, 3, 0, 9] : [0, 0, 0, 0]))
  }

  @Test("After a recache the memory is that of clean passes over the same latents under the new prompt")
  func recacheIsBruteForce() async throws {
    let all = try await rollout(rows, [PromptSwitch(prompt: 1, chunk: 2)]).latents(on: backend)
    let settings = try settings(.dense(), frames: 9)
    let geometry = try settings.geometry()
    let c = transformer.configuration
    let memory = try KVMemory(
      recipe: .dense(), geometry: geometry, layers: c.layers, heads: c.heads, headDim: c.headDim, chunkFrames: 3,
      totalFrames: 9, on: backend)
    let layout = transformer.layout(geometry: geometry, frames: 3)
    let text = transformer.context(text: backend.upload(rows[1]))
    for clean in all[..<2] {
      memory.begin(frames: 3)
      _ = transformer.forward(
        backend.upload(Tensor(clean, shape: [3, 16, 8, 16])), timesteps: [0, 0, 0], text: text, layout: layout,
        memory: memory)
      memory.seal()
    }
    memory.begin(frames: 3)
    var noise = CounterNoise(seed: 5)
    var x = backend.upload(noise.initial(chunk: 2, frames: 3, channels: 16, height: 8, width: 16))
    for (step, t) in settings.schedule.timesteps.enumerated() {
      let flow = transformer.forward(
        x, timesteps: [Float](repeating: Float(t), count: 3), text: text, layout: layout, memory: memory)
      x = backend.combine(1, x, -Float(t / 1000), try #require(flow))
      if step == 0 {
        let next = Float(settings.schedule.sigmas[1])
        let fresh = noise.renoise(chunk: 2, step: 0, frames: 3, channels: 16, height: 8, width: 16)
        x = backend.combine(1 - next, x, next, backend.upload(fresh))
      }
    }
    #expect(distance(backend.download(x).floats(), all[2]) < 1e-5)
    // It matters: keeping the old keys and values gives another chunk.
    let kept = try await rollout(rows, [PromptSwitch(prompt: 1, chunk: 2, kind: .keep)]).latents(on: backend)
    #expect(kept[1] == all[1] && distance(kept[2], all[2]) > 1e-3)
  }

  @Test(
    "A flush leaves the sink and the last two frames; a recache stays inside the window",
    arguments: [1.0, 2.0])
  func flushAndWindow(guidance: Double) async throws {
    let recipe = SparsityRecipe.selfForcing(window: 9, sink: 2)
    var seen: [Int] = []
    for try await chunk in try rollout(
      rows, [PromptSwitch(prompt: 1, chunk: 3, kind: .flush)], recipe: recipe, frames: 15, guidance: guidance)
    { seen.append(chunk.visibleFrames) }
    #expect(seen == [3, 6, 9, 7, 9])
    var recached: [Int] = []
    for try await chunk in try rollout(
      [rows[0], rows[1], rows[0]],
      [PromptSwitch(prompt: 1, chunk: 3), PromptSwitch(prompt: 2, chunk: 4, isCut: true)],
      recipe: recipe, frames: 18, guidance: guidance)
    { recached.append(chunk.recachedFrames) }
    // The window holds four recent frames: one whole chunk of them. Nothing is kept across the cut.
    #expect(recached == [0, 0, 0, 3, 0, 0])
  }

  @Test("Recaches at each chunk of a blend, and ends where an immediate switch would")
  func blend() async throws {
    let turn = PromptSwitch(prompt: 1, chunk: 1, blend: 2, blendMode: .spherical)
    let wanted = try await plain(0, frames: 3)[0]
    var shares: [Double] = []
    var recached: [Int] = []
    var latents: [[Float]] = []
    for try await chunk in try rollout(rows, [turn]) {
      shares.append(chunk.mix.weight)
      recached.append(chunk.recachedFrames)
      latents.append(backend.download(chunk.latents).floats())
    }
    #expect(shares == [1, 0.5, 1, 1] && recached == [0, 3, 6, 0])
    #expect(latents[0] == wanted)
    let atOnce = try await rollout(rows, [PromptSwitch(prompt: 1, chunk: 1)]).latents(on: backend)
    #expect(distance(latents[1], atOnce[1]) > 1e-3)
  }

  @Test("Saved between any two chunks, also at a switch, it goes on with the same bytes", arguments: recipes.indices)
  func savedAtASwitch(recipe: Int) async throws {
    let turns = [
      PromptSwitch(prompt: 1, chunk: 1, blend: 2), PromptSwitch(prompt: 2, chunk: 3, kind: .flush),
      PromptSwitch(prompt: 3, chunk: 4, isCut: true), PromptSwitch(prompt: 4, chunk: 6),
    ]
    let schedule = PromptSchedule(switches: [PromptSwitch(prompt: 0, chunk: 0)] + turns)
    let script = PromptScript(rows: [rows[0], rows[1], rows[0], rows[1], rows[0]], schedule: schedule)
    let settings = try settings(Self.recipes[recipe], frames: 24)
    func rollout(from state: SavedState?) throws -> Rollout {
      try Rollout(
        transformer: transformer, prompts: script, noise: CounterNoise(seed: 5), settings: settings, from: state,
        on: backend)
    }
    let path = NSTemporaryDirectory() + "longtake-switch-\(UUID().uuidString).safetensors"
    defer { try? FileManager.default.removeItem(atPath: path) }
    let whole = try await rollout(from: nil).latents(on: backend)
    #expect(whole.count == 8)
    var state: SavedState?
    for wanted in whole {
      // Each chunk by a rollout of its own.
      let one = try rollout(from: state)
      let chunk = try #require(try await one.next())
      #expect(backend.download(chunk.latents).floats() == wanted, "chunk \(chunk.index)")
      _ = try await one.save(to: path)
      state = try SavedState(path: path)
    }
  }

  @Test("Given chunks are taken as they are, and what follows is what would follow them made")
  func givenChunks() async throws {
    let made = try await plain(0, frames: 15)
    var settings = try settings(.selfForcing(window: 21), frames: 15)
    settings.givenFrames = 6
    let script = PromptScript(rows: [rows[0]], schedule: .single)
    struct FromChunk2: ChunkNoise {
      var noise = CounterNoise(seed: 5)
      mutating func initial(chunk: Int, frames: Int, channels: Int, height: Int, width: Int) -> Tensor {
        noise.initial(chunk: chunk + 2, frames: frames, channels: channels, height: height, width: width)
      }
      mutating func renoise(chunk: Int, step: Int, frames: Int, channels: Int, height: Int, width: Int) -> Tensor {
        noise.renoise(chunk: chunk + 2, step: step, frames: frames, channels: channels, height: height, width: width)
      }
    }
    let rollout = try Rollout(
      transformer: transformer, prompts: script, noise: FromChunk2(), settings: settings, on: backend)
    await #expect(throws: RolloutError.self) { try await rollout.next() }
    for latents in made[..<2] {
      let chunk = try await rollout.take(backend.upload(Tensor(latents, shape: [3, 16, 8, 16])))
      #expect(chunk.isGiven)
      #expect(backend.download(chunk.latents).floats() == latents)
    }
    let next = backend.upload(Tensor(made[0], shape: [3, 16, 8, 16]))
    await #expect(throws: RolloutError.self) { try await rollout.take(next) }
    #expect(try await rollout.latents(on: backend) == Array(made[2...]))
    settings.givenFrames = 4
    #expect(throws: RolloutError.self) {
      try Rollout(
        transformer: transformer, prompts: script, noise: CounterNoise(seed: 5), settings: settings, on: backend)
    }
  }

  @Test("A schedule is entered at a warped strength")
  func strength() throws {
    let schedule = try FlowSchedule(nominal: [1000, 750, 500, 250], shift: 5)
    let parts: [(Double, Int)] = [(1, 4), (0.75, 3), (0.5, 2), (0.25, 1)]
    for (strength, count) in parts {
      #expect(try schedule.entered(at: strength, shift: 5).timesteps == Array(schedule.timesteps.suffix(count)))
    }
    let between = try schedule.entered(at: 0.6, shift: 5).timesteps
    #expect(between.count == 3)
    #expect(abs(between[0] - 1000 * 3 / 3.4) < 1e-9)
    #expect(try schedule.entered(at: 0.01, shift: 5).timesteps.count == 1)
    for wrong in [0, -1, 1.01, .nan] {
      #expect(throws: RolloutError.self) { try schedule.entered(at: wrong, shift: 5) }
    }
  }
}
