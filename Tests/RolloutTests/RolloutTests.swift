import Compute
import Rollout
import SparseAttention
import Tensors
import Testing
import WanModel

@Suite struct RolloutTests {
  private let model: ShippedModel
  init() throws { model = try ShippedModel() }

  private func rollout(
    threads: Int = 2, latentFrames: Int? = 9, recipe: SparsityRecipe = .selfForcing(window: 21),
    changedFrom: Int? = nil,
    tile: PageTile? = nil
  ) throws -> (Rollout, CPUBackend) {
    let backend = CPUBackend(threads: threads)
    let transformer = try model.folder.loadTransformer(on: backend)
    var noise = try model.noise()
    noise.changedFrom = changedFrom
    var settings = try model.settings(latentFrames: latentFrames, recipe: recipe)
    settings.tile = tile
    return (
      try Rollout(
        transformer: transformer, text: model.context(transformer, on: backend), noise: noise, settings: settings,
        on: backend), backend
    )
  }

  @Test("One forward pass equals the reference") func oneForwardPassEqualsTheReference() throws {
    let backend = CPUBackend(threads: 2)
    let transformer = try model.folder.loadTransformer(on: backend)
    let input = try model.frames("velocity_input")
    let times = try model.reference.tensor("velocity_time").floats()
    let geometry = try PageGeometry(rows: input.shape[2] / 2, columns: input.shape[3] / 2)
    let c = transformer.configuration
    let memory = try KVMemory(
      recipe: .dense(), geometry: geometry, layers: 1, heads: c.heads, headDim: c.headDim, chunkFrames: times.count,
      totalFrames: times.count, on: backend)
    memory.begin(frames: times.count)
    let flow = transformer.forward(
      backend.upload(input), timesteps: times, text: try model.context(transformer, on: backend),
      layout: transformer.layout(geometry: geometry, frames: times.count), memory: memory)
    let error = distance(backend.download(try #require(flow)).floats(), try model.frames("velocity").floats())
    print("parity shipped transformer, one pass: relative L2 \(error)")
    #expect(error < 1e-4, "relative L2 \(error)")
  }

  @Test("The rollout over paged memory equals the brute-force reference, chunk after chunk")
  func theRolloutOverPagedMemoryEqualsThe() async throws {
    let (rollout, backend) = try rollout()
    var chunks = 0
    for try await chunk in rollout {
      let wanted = try model.frames("chunk\(chunk.index)_step3_x0").floats()
      let error = distance(backend.download(chunk.latents).floats(), wanted)
      print("parity shipped rollout, chunk \(chunk.index): relative L2 \(error)")
      #expect(error < 1e-4, "chunk \(chunk.index): relative L2 \(error)")
      #expect(chunk.visibleFrames == 3 * (chunk.index + 1))
      chunks += 1
    }
    #expect(chunks == 3)
  }

  @Test("Page size and position mode do not change what is computed while the window holds everything")
  func pageSizeAndPositionModeDoNot()
    async throws
  {
    let (first, backend) = try rollout()
    let wanted = try await first.latents(on: backend)
    let others: [(SparsityRecipe, PageTile?)] = [
      (.dense(), nil), (.selfForcing(window: 21, positions: .window), nil),
      (.dense(), PageTile(frames: 3, rows: 5, columns: 4)),
      (.dense(), PageTile(rows: 2, columns: 2)),
    ]
    for (recipe, tile) in others {
      let (other, otherBackend) = try rollout(recipe: recipe, tile: tile)
      for (a, b) in zip(try await other.latents(on: otherBackend), wanted) { #expect(distance(a, b) < 1e-4) }
    }
  }

  @Test("A sliding window without sink is the same under absolute and window positions")
  func aSlidingWindowWithoutSinkIsThe() async throws {
    let (a, backendA) = try rollout(recipe: .selfForcing(window: 6))
    let (b, backendB) = try rollout(recipe: .selfForcing(window: 6, positions: .window))
    let (absolute, window) = (try await a.latents(on: backendA), try await b.latents(on: backendB))
    for (x, y) in zip(window, absolute) { #expect(distance(x, y) < 1e-4) }
    // The window matters: the third chunk no longer sees the first.
    let (c, backendC) = try rollout()
    #expect(distance(try await c.latents(on: backendC)[2], absolute[2]) > 1e-3)
  }

  @Test("The memory of a chunk equals one computed anew from the clean latents before it")
  func theMemoryOfAChunkEqualsOne() async throws {
    let (rollout, backend) = try rollout()
    let chunks = try await rollout.latents(on: backend)
    let transformer = try model.folder.loadTransformer(on: backend)
    let settings = try model.settings()
    let geometry = try settings.geometry()
    let c = transformer.configuration
    let text = try model.context(transformer, on: backend)
    let shape = [3, 16, settings.latentHeight, settings.latentWidth]
    let memory = try KVMemory(
      recipe: .dense(), geometry: geometry, layers: c.layers, heads: c.heads, headDim: c.headDim, chunkFrames: 3,
      totalFrames: 9, on: backend)
    let layout = transformer.layout(geometry: geometry, frames: 3)
    for clean in chunks[..<2] {
      memory.begin(frames: 3)
      _ = transformer.forward(
        backend.upload(Tensor(clean, shape: shape)), timesteps: [0, 0, 0], text: text, layout: layout, memory: memory)
      memory.seal()
    }
    memory.begin(frames: 3)
    var noise = try model.noise()
    var x = backend.upload(noise.initial(chunk: 2, frames: 3, channels: 16, height: shape[2], width: shape[3]))
    for (step, t) in settings.schedule.timesteps.enumerated() {
      let flow = transformer.forward(
        x, timesteps: [Float](repeating: Float(t), count: 3), text: text, layout: layout, memory: memory)
      x = backend.combine(1, x, -Float(t / 1000), try #require(flow))
      if step < 3 {
        let next = Float(settings.schedule.sigmas[step + 1])
        let fresh = noise.renoise(chunk: 2, step: step, frames: 3, channels: 16, height: shape[2], width: shape[3])
        x = backend.combine(1 - next, x, next, backend.upload(fresh))
      }
    }
    #expect(distance(backend.download(x).floats(), chunks[2]) < 1e-5)
  }

  @Test("Another noise in a later chunk changes no earlier latent") func anotherNoiseInALaterChunkChanges() async throws
  {
    let (a, backendA) = try rollout()
    let (b, backendB) = try rollout(changedFrom: 2)
    let (before, after) = (try await a.latents(on: backendA), try await b.latents(on: backendB))
    #expect(before[0] == after[0] && before[1] == after[1])
    #expect(distance(after[2], before[2]) > 0.1)
  }

  @Test("Any number of threads gives the same bytes", arguments: [1, 3]) func anyNumberOfThreadsGivesTheSame(
    threads: Int
  ) async throws {
    let (a, backendA) = try rollout(threads: 2, latentFrames: 6)
    let (b, backendB) = try rollout(threads: threads, latentFrames: 6)
    #expect(try await a.latents(on: backendA) == b.latents(on: backendB))
  }

  @Test("Weights that give NaN stop the rollout and name the chunk") func weightsThatGiveNaNStopTheRollout()
    async throws
  {
    let backend = CPUBackend(threads: 1)
    let archive = try TensorArchive(path: model.folder.transformerPath)
    var tensors = Dictionary(uniqueKeysWithValues: try archive.names.map { ($0, try archive.tensor($0)) })
    tensors["proj_out.bias"] = Tensor([Float](repeating: .nan, count: 64), shape: [64])
    let transformer = try WanTransformer(
      model.folder.transformer, weights: WeightDictionary(tensors, label: "damaged"), on: backend)
    let rollout = try Rollout(
      transformer: transformer, text: model.context(transformer, on: backend), noise: model.noise(),
      settings: model.settings(), on: backend)
    await #expect(throws: RolloutError.notFinite(chunk: 0, step: 0)) { try await rollout.next() }
  }
}
