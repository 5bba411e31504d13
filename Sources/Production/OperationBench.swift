import Compute
import Foundation
import Rollout
import SparseAttention
import Tensors
import WanModel

/// Times the operations that a rollout is made of, at a model's own sizes, with random numbers for weights' inputs.
///
/// A program, not a test: run it on a quiet machine. Each figure is the median of several runs.
public struct OperationBench: Encodable, Sendable {
  public struct Row: Encodable, Sendable {
    public let name: String
    public let seconds: Double
    /// Floating-point operations, a multiplication and an addition counted as two.
    public let flops: Double
    /// Billions of them per second.
    public var gigaflopsPerSecond: Double { flops / seconds / 1e9 }

    enum CodingKeys: String, CodingKey { case name, seconds, flops, gigaflopsPerSecond }
    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(name, forKey: .name)
      try container.encode(seconds, forKey: .seconds)
      try container.encode(flops, forKey: .flops)
      try container.encode(gigaflopsPerSecond, forKey: .gigaflopsPerSecond)
    }
  }

  public let processor: String
  public let backend: String
  public let model: String
  public let rows: [Row]

  /// Runs it.
  ///
  /// - Parameter repeats: Runs of each operation; the median counts.
  public init(_ settings: RunSettings, repeats: Int = 7) throws {
    let threads = settings.request.threads ?? Host.physicalCores
    let backend = CPUBackend(threads: threads, precision: settings.precision, pages: settings.pages)
    let c = settings.model.transformer
    let geometry = try settings.rollout.geometry()
    let (frames, d) = (settings.chunkFrames, c.width)
    let tokens = frames * geometry.tokensPerFrame
    var random = CounterNoise(seed: 1)
    func numbers(_ shape: [Int]) -> DeviceTensor {
      let count = shape.reduce(1, *)
      return backend.upload(random.initial(chunk: 0, frames: 1, channels: 1, height: 1, width: count).reshaped(shape))
    }
    func layer(_ out: Int, _ input: Int) -> LinearWeight {
      backend.prepareLinear(weight: backend.download(numbers([out, input])), bias: backend.download(numbers([out])))
    }
    var rows: [Row] = []
    func time(_ name: String, _ flops: Double, _ body: () throws -> Void) rethrows {
      let clock = ContinuousClock()
      var seconds: [Double] = []
      for run in 0...repeats {
        let start = clock.now
        try body()
        // The first run takes memory and fills caches.
        if run > 0 { seconds.append((clock.now - start).seconds) }
      }
      rows.append(Row(name: name, seconds: seconds.sorted()[seconds.count / 2], flops: flops))
    }

    let x = numbers([tokens, d])
    let hidden = numbers([tokens, c.feedForward])
    let (square, up, down) = (layer(d, d), layer(c.feedForward, d), layer(d, c.feedForward))
    let product = 2 * Double(tokens) * Double(d)
    time("linear \(tokens) x \(d) -> \(d)", product * Double(d)) { _ = backend.linear(x, square, activation: .none) }
    time("linear \(tokens) x \(d) -> \(c.feedForward), gelu", product * Double(c.feedForward)) {
      _ = backend.linear(x, up, activation: .geluTanh)
    }
    time("linear \(tokens) x \(c.feedForward) -> \(d)", product * Double(c.feedForward)) {
      _ = backend.linear(hidden, down, activation: .none)
    }

    let transformer = try settings.model.loadTransformer(recipe: settings.rollout.recipe.name, on: backend)
    let text = transformer.context(text: numbers([24, c.textWidth]))
    let layout = transformer.layout(geometry: geometry, frames: frames)
    let memory = try KVMemory(
      recipe: settings.rollout.recipe, geometry: geometry, layers: c.layers, heads: c.heads, headDim: c.headDim,
      chunkFrames: frames, totalFrames: settings.latentFrames, on: backend)
    let latents = numbers([frames, c.inputChannels, settings.rollout.latentHeight, settings.rollout.latentWidth])
    let times = [Float](repeating: 625, count: frames)
    func pass() { _ = transformer.forward(latents, timesteps: times, text: text, layout: layout, memory: memory) }
    for chunk in 0..<settings.chunks {
      memory.begin(frames: frames)
      let last = chunk + 1 == settings.chunks
      if chunk > 0 && !last {
        pass()
      } else {
        pass()  // What is read must have been written.
        let keys = memory.table.resident(layer: 0, head: 0).count * geometry.tile.tokens
        let seen = "\(memory.visibleFrames) frames in memory"
        time("attention, \(seen)", 4 * Double(d) * Double(tokens) * Double(keys)) {
          _ = memory.attend(layer: 0, queries: x, scale: 0.1)
        }
        time("pass, \(seen)", c.flops(tokens: Double(tokens), keys: Double(keys))) { pass() }
      }
      memory.seal()
    }
    // One of the 12 heads of Wan 2.1 1.3B at 480x832, dense: 3 latent frames of 1560 tokens read themselves and history.
    for frames in [3, 21] {
      let (pool, slots) = OperationBench.wanPages(frames, on: backend) { numbers($0) }
      let queries = numbers([4680, 128])
      time("attention of a head of Wan 1.3B, \(frames) frames", 4 * 128 * 4680 * 1560 * Double(frames)) {
        _ = backend.attend(
          queries, tiles: RowTiles(rows: 4680, tokens: 60), pool: pool, layer: 0, lists: PageLists(shared: slots),
          scale: 0.088, answers: [])
      }
    }
    let decoder = try settings.model.loadDecoder(on: backend)
    try time("decode of a chunk, \(frames * decoder.framesPerLatent) frames", 0) { _ = try decoder.decode(latents) }
    processor = Host.processor
    self.backend = backend.name
    model = settings.model.settings.name
    self.rows = rows
  }

  /// Pages of 15 x 4 tokens with `frames` latent frames of random keys and values for one head of 128 channels.
  private static func wanPages(_ frames: Int, on backend: any Backend, numbers: ([Int]) -> DeviceTensor)
    -> (any PagePool, DeviceIndices)
  {
    let (rows, pages) = (1560 * frames, 26 * frames)
    let pool = backend.makePagePool(
      PagePoolLayout(layers: 1, heads: 1, headDim: 128, slots: pages, tokensPerPage: 60))
    let slots = backend.upload(indices: (0..<pages).map { Int32($0) }, shape: [1, pages])
    let still = Rotary(cosines: numbers([rows, 64]), sines: numbers([rows, 64]), headDim: 128)
    backend.writePages(
      keys: numbers([rows, 128]), keyNorm: numbers([128]), epsilon: 1e-6, rotary: still, values: numbers([rows, 128]),
      to: pool, layer: 0, tiles: RowTiles(rows: rows, tokens: 60), slots: slots)
    return (pool, slots)
  }

  /// A table for people.
  public var text: String {
    let width = rows.map(\.name.count).max() ?? 0
    let lines = rows.map { row in
      let name = row.name + String(repeating: " ", count: width - row.name.count)
      let rate = row.flops > 0 ? String(format: "%8.1f GFLOP/s", row.gigaflopsPerSecond) : ""
      return String(format: "%@ %10.3f ms %@", name, row.seconds * 1000, rate)
    }
    return (["\(model) on \(processor), \(backend)"] + lines).joined(separator: "\n")
  }
}
