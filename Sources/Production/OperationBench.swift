import Compute
import Foundation
import Rollout
import SparseAttention
import Tensors
import WanModel

/// Times the operations that a rollout is made of, at a model's own sizes, with random numbers for weights' inputs, and what
/// the machine can do at most.
///
/// A program, not a test. Each figure is the median of several runs. Seconds of the processor do not count the time in which
/// other programs had it: compare those where the machine is not quiet.
public struct OperationBench: Encodable, Sendable {
  public struct Row: Encodable, Sendable {
    public let name: String
    public let seconds: Double
    /// Seconds of all threads together.
    public let processorSeconds: Double
    /// Floating-point operations, a multiplication and an addition counted as two.
    public let flops: Double
    /// Bytes that must be read and written at least, each once: weights, inputs, pages and results.
    public let bytes: Double
    /// Billions of them per second.
    public var gigabytesPerSecond: Double { bytes / seconds / 1e9 }
    /// Operations of one processor over the best of one core in the same precision; 0 if none are counted.
    public let peakShare: Double
    /// Billions of operations per second.
    public var gigaflopsPerSecond: Double { flops / seconds / 1e9 }
    /// Billions of them per second of one processor.
    public var gigaflopsPerProcessorSecond: Double { flops / processorSeconds / 1e9 }

    enum CodingKeys: String, CodingKey {
      case name, seconds, processorSeconds, flops, bytes, gigaflopsPerSecond, gigaflopsPerProcessorSecond, peakShare
      case gigabytesPerSecond
    }
    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(name, forKey: .name)
      try container.encode(seconds, forKey: .seconds)
      try container.encode(processorSeconds, forKey: .processorSeconds)
      try container.encode(flops, forKey: .flops)
      try container.encode(bytes, forKey: .bytes)
      try container.encode(gigabytesPerSecond, forKey: .gigabytesPerSecond)
      try container.encode(peakShare, forKey: .peakShare)
      try container.encode(gigaflopsPerSecond, forKey: .gigaflopsPerSecond)
      try container.encode(gigaflopsPerProcessorSecond, forKey: .gigaflopsPerProcessorSecond)
    }
  }

  /// Operations that can be timed alone.
  public enum Part: String, Sendable, CaseIterable {
    /// Linear layers of the transformer.
    case linear
    /// Attention and whole passes, of the first and of the last chunk.
    case passes
    /// The decoder, in the middle of a stream.
    case decode
    /// The decoder, from the beginning of a stream: two latent frames, once.
    case start
  }

  public let processor: String
  public let backend: String
  public let precision: String
  public let threads: Int
  public let model: String
  /// The best of one core: products of 1024 x 1024 x 1024 in each precision, billions of operations per second.
  public let peaks: [String: Double]
  /// Reading two arrays and writing a third, larger than any cache: billions of bytes per second, all threads together.
  public let memoryGigabytesPerSecond: Double
  public let rows: [Row]
  /// The most memory that the process had.
  public let peakBytes: Int

  /// Runs it.
  ///
  /// - Parameters:
  ///   - parts: What to time.
  ///   - repeats: Runs of each operation; the median counts.
  public init(_ settings: RunSettings, parts: Set<Part> = Set(Part.allCases), repeats: Int = 7) throws {
    let threads = settings.request.threads ?? Host.physicalCores
    let backend = CPUBackend(threads: threads, precision: settings.precision, pages: settings.pages)
    let c = settings.model.transformer
    let geometry = try settings.rollout.geometry()
    let (frames, d) = (settings.chunkFrames, c.width)
    let tokens = frames * geometry.tokensPerFrame
    func numbers(_ shape: [Int]) -> DeviceTensor { OperationBench.numbers(shape, on: backend) }
    func layer(_ out: Int, _ input: Int) -> LinearWeight {
      backend.prepareLinear(weight: backend.download(numbers([out, input])), bias: backend.download(numbers([out])))
    }
    var rows: [Row] = []
    (peaks, memoryGigabytesPerSecond) = OperationBench.limits(threads: threads, repeats: repeats)
    let peak = (peaks[settings.precision.rawValue] ?? 0) * 1e9
    func time(_ name: String, _ flops: Double, bytes: Double, _ body: () throws -> Void) rethrows {
      let (seconds, processorSeconds) = try OperationBench.median(of: repeats, body)
      rows.append(
        Row(
          name: name, seconds: seconds, processorSeconds: processorSeconds, flops: flops, bytes: bytes,
          peakShare: peak > 0 ? flops / processorSeconds / peak : 0))
    }
    // Bytes of one weight in a block, and of a token's key and value in memory.
    let weightBytes = settings.precision == .f32 ? 4.0 : settings.precision == .bf16 ? 2 : 1
    let pageBytes = 2 * Double(d) * (settings.pages == .f32 ? 4 : settings.pages == .bf16 ? 2 : 1)
    func layerBytes(_ inputs: Int, _ outputs: Int) -> Double {
      weightBytes * Double(inputs * outputs) + 4 * Double(tokens * (inputs + outputs))
    }

    if parts.contains(.linear) {
      let (x, hidden) = (numbers([tokens, d]), numbers([tokens, c.feedForward]))
      let (square, up, down) = (layer(d, d), layer(c.feedForward, d), layer(d, c.feedForward))
      let product = 2 * Double(tokens) * Double(d)
      time("linear \(tokens) x \(d) -> \(d)", product * Double(d), bytes: layerBytes(d, d)) {
        _ = backend.linear(x, square, activation: .none)
      }
      time(
        "linear \(tokens) x \(d) -> \(c.feedForward), gelu", product * Double(c.feedForward),
        bytes: layerBytes(d, c.feedForward)
      ) {
        _ = backend.linear(x, up, activation: .geluTanh)
      }
      time(
        "linear \(tokens) x \(c.feedForward) -> \(d)", product * Double(c.feedForward),
        bytes: layerBytes(c.feedForward, d)
      ) {
        _ = backend.linear(hidden, down, activation: .none)
      }
    }
    let latents = numbers([frames, c.inputChannels, settings.rollout.latentHeight, settings.rollout.latentWidth])
    if parts.contains(.passes) {
      let transformer = try settings.model.loadTransformer(recipe: settings.rollout.recipe.name, on: backend)
      let text = transformer.context(text: numbers([24, c.textWidth]))
      let layout = transformer.layout(geometry: geometry, frames: frames)
      let memory = try KVMemory(
        recipe: settings.rollout.recipe, geometry: geometry, layers: c.layers, heads: c.heads, headDim: c.headDim,
        chunkFrames: frames, totalFrames: settings.latentFrames, on: backend)
      let queries = numbers([tokens, d])
      let times = [Float](repeating: 625, count: frames)
      func pass() { _ = transformer.forward(latents, timesteps: times, text: text, layout: layout, memory: memory) }
      for chunk in 0..<settings.chunks {
        memory.begin(frames: frames)
        if chunk == 0 || chunk + 1 == settings.chunks {
          pass()  // What is read must have been written.
          let keys = memory.pagesRead * geometry.tile.tokens
          let seen = "\(memory.visibleFrames) frames in memory"
          let rows = 8 * Double(tokens * d)
          time(
            "attention, \(seen)", 4 * Double(d) * Double(tokens) * Double(keys), bytes: pageBytes * Double(keys) + rows
          ) {
            _ = memory.attend(layer: 0, queries: queries, scale: 0.1)
          }
          let weights = weightBytes * Double(c.layers * (6 * d * d + 2 * d * c.feedForward))
          time(
            "pass, \(seen)", c.flops(tokens: Double(tokens), keys: Double(keys)),
            bytes: weights + Double(c.layers) * pageBytes * Double(keys + tokens)
          ) { pass() }
        }
        // A memory policy may judge pages by what the clean pass reads of them.
        memory.beginCleanPass()
        pass()
        memory.seal()
      }
    }
    if parts.contains(.passes) {
      // One of the 12 heads of Wan 2.1 1.3B at 480x832, dense: 3 latent frames of 1560 tokens read themselves and history.
      for frames in [3, 21] {
        let (pool, slots) = OperationBench.wanPages(frames, on: backend) { numbers($0) }
        let queries = numbers([4680, 128])
        time(
          "attention of a head of Wan 1.3B, \(frames) frames", 4 * 128 * 4680 * 1560 * Double(frames),
          bytes: pageBytes / Double(d) * 128 * 1560 * Double(frames) + 8 * 4680 * 128
        ) {
          _ = backend.attend(
            queries, tiles: RowTiles(rows: 4680, tokens: 60), pool: pool, layer: 0, lists: PageLists(shared: slots),
            scale: 0.088, answers: [])
        }
      }
    }
    if parts.contains(.decode), settings.model.autoencoder != nil {
      let decoder = try settings.model.loadDecoder(on: backend)
      let pixels = frames * decoder.framesPerLatent
      // The call that is not counted is the stream's first, which makes fewer frames. Of the bytes, those that leave.
      let (height, width) = (settings.rollout.latentHeight, settings.rollout.latentWidth)
      try time(
        "decode of a chunk, \(pixels) frames", Double(frames) * decoder.operations(height: height, width: width),
        bytes: 4 * Double(latents.count) + 4 * Double(pixels * 3 * 64 * height * width)
      ) { _ = try decoder.decode(latents) }
    }
    if parts.contains(.start), settings.model.autoencoder != nil {
      let decoder = try settings.model.loadDecoder(on: backend)
      let pair = backend.slice(latents, 0..<2)
      let (clock, start, before) = (ContinuousClock(), ContinuousClock.now, Host.processorSeconds)
      let pixels = try decoder.decode(pair).shape[0]
      rows.append(
        Row(
          name: "decode of a stream's first \(pixels) frames", seconds: (clock.now - start).seconds,
          processorSeconds: Host.processorSeconds - before, flops: 0, bytes: 0, peakShare: 0))
    }
    peakBytes = Host.memory.peak
    processor = Host.processor
    self.threads = threads
    self.backend = backend.name
    precision = settings.precision.rawValue
    model = settings.model.settings.name
    self.rows = rows
  }

  private static func numbers(_ shape: [Int], on backend: CPUBackend) -> DeviceTensor {
    let count = shape.reduce(1, *)
    var random = CounterNoise(seed: 1)
    return backend.upload(
      random.initial(chunk: 0, frames: 1, channels: 1, height: 1, width: count).reshaped(shape))
  }

  /// Median seconds of a call on the clock, and mean ones of the processor. A first call takes memory and fills caches.
  ///
  /// The system counts a thread that goes on running at its next tick only, and the pool's threads do: so what is short is
  /// called again until the ticks no longer matter.
  private static func median(of repeats: Int, _ body: () throws -> Void) rethrows -> (clock: Double, processor: Double)
  {
    let clock = ContinuousClock()
    var seconds: [Double] = []
    try body()
    let (first, before) = (clock.now, Host.processorSeconds)
    while seconds.count < repeats || (clock.now - first).seconds < leastSeconds {
      let start = clock.now
      try body()
      seconds.append((clock.now - start).seconds)
    }
    return (seconds.sorted()[seconds.count / 2], (Host.processorSeconds - before) / Double(seconds.count))
  }

  private static let leastSeconds = 0.1

  /// See ``peaks`` and ``memoryGigabytesPerSecond``.
  private static func limits(threads: Int, repeats: Int) -> (peaks: [String: Double], memory: Double) {
    let side = 1024
    var peaks: [String: Double] = [:]
    for precision in Precision.allCases where precision.isSupported {
      let backend = CPUBackend(threads: 1, precision: precision)
      let x = numbers([side, side], on: backend)
      let weight = backend.prepareLinear(weight: backend.download(x), bias: nil)
      let seconds = median(of: repeats) { _ = backend.linear(x, weight, activation: .none) }.processor
      peaks[precision.rawValue] = 2 * Double(side * side * side) / seconds / 1e9
    }
    let backend = CPUBackend(threads: threads)
    let count = 1 << 24
    let (x, y) = (
      backend.upload(Tensor([Float](repeating: 1, count: count), shape: [count])), numbers([count], on: backend)
    )
    let seconds = median(of: repeats) { _ = backend.combine(0.5, x, 0.5, y) }.clock
    return (peaks, 12 * Double(count) / seconds / 1e9)
  }

  /// The least that rows must reach, by the beginning of their names: shares of the best that one core does in the same
  /// precision, in the processor's seconds, so that neither the machine nor its load matters much.
  public struct Thresholds: Decodable, Sendable {
    public let peakShare: [String: Double]

    /// - Throws: ``RunError`` for a file that cannot be read or is none of these.
    public init(path: String) throws {
      guard let data = FileManager.default.contents(atPath: path) else { throw RunError("\(path) cannot be read") }
      let decoder = JSONDecoder()
      decoder.keyDecodingStrategy = .convertFromSnakeCase
      do { self = try decoder.decode(Thresholds.self, from: data) } catch {
        throw RunError("\(path): no thresholds: wanted \"peak_share\", an object of numbers")
      }
    }
  }

  /// What is below its threshold, a line each.
  public func shortfalls(_ thresholds: Thresholds) -> [String] {
    let peak = peaks[precision] ?? 0
    return rows.compactMap { row in
      guard row.flops > 0, let least = thresholds.peakShare.first(where: { row.name.hasPrefix($0.key) })?.value else {
        return nil
      }
      let share = row.gigaflopsPerProcessorSecond / peak
      return share >= least
        ? nil : "\(row.name): \(Int(100 * share)) % of one core's peak, wanted at least \(Int(100 * least)) %"
    }
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
    let peak = peaks.sorted { $0.value < $1.value }
      .map { "\($0.key) \(String(format: "%.0f", $0.value)) GFLOP/s" }.joined(separator: ", ")
    let head = [
      "\(model) on \(processor), \(backend)",
      "one core at most: \(peak); memory \(String(format: "%.1f", memoryGigabytesPerSecond)) GB/s",
      String(repeating: " ", count: width)
        + "       time    processor    GFLOP/s      of one core    of its peak     GB/s",
    ]
    let lines = rows.map { row in
      let name = row.name + String(repeating: " ", count: width - row.name.count)
      let rate =
        row.flops > 0
        ? String(
          format: "%10.1f %16.1f %12.0f %% %8.1f", row.gigaflopsPerSecond, row.gigaflopsPerProcessorSecond,
          100 * row.peakShare, row.gigabytesPerSecond) : ""
      return String(format: "%@ %8.3f ms %8.3f ms %@", name, row.seconds * 1000, row.processorSeconds * 1000, rate)
    }
    return (head + lines).joined(separator: "\n")
  }
}
