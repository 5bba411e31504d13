import Compute
import Foundation
import Rollout
import SparseAttention
import Tensors
import WanModel

/// Times what each recipe does with its time: one denoising pass of the last of seven chunks, split into choosing pages,
/// reading them, and the rest.
///
/// The memory is filled with random keys and values of six chunks, as the recipe's policy keeps them. Recipes alternate with
/// dense attention, and medians count. A program, not a test: compare only figures of one call.
public struct RecipeBench: Encodable, Sendable {
  public struct Row: Encodable, Sendable {
    public let recipe: String
    public let pagesKept: Int
    /// Pages that a query tile reads, the mean over layers as counted in the lists.
    public let pagesRead: Double
    /// Seconds of one pass.
    public let selectionSeconds: Double
    public let attentionSeconds: Double
    public let restSeconds: Double
    /// Attention time over that of dense, over the same ratio of pages read: 1 is in proportion.
    public let attentionPerPage: Double
    /// Selection time over dense attention time.
    public let selectionShare: Double
    /// Time of the whole pass, dense over this.
    public let speedup: Double
  }

  public let model: String
  public let processor: String
  public let backend: String
  public let layers: Int
  public let heads: Int
  public let headDim: Int
  /// Tokens of a page, and pages of a frame.
  public let tile: String
  public let pagesPerFrame: Int
  public let chunkFrames: Int
  public let historyFrames: Int
  public let repeats: Int
  public let rows: [Row]

  /// Limits that a good implementation keeps: attention in proportion to the pages read, selection a small share.
  public static let mostAttentionPerPage = 1.3
  public static let mostSelectionShare = 0.05

  /// Two blocks of Wan 2.1 1.3B at 480x832 with random weights.
  ///
  /// - Parameter settings: One per recipe; `dense` is among them and first.
  public init(wan settings: [RunSettings], repeats: Int = 3) throws {
    var configuration = TransformerConfiguration.wan1B
    configuration.layers = 2
    let backend = RecipeBench.backend(settings)
    let transformer = try WanTransformer(
      configuration, weights: RandomWeights(configuration, seed: 1), on: backend)
    try self.init(
      "Wan 2.1 1.3B at 832x480, 2 blocks, random weights", transformer: transformer,
      geometry: PageGeometry(rows: 30, columns: 52), settings: settings, steps: 1, repeats: repeats, on: backend)
  }

  /// The model of the settings at their size.
  public init(_ settings: [RunSettings], repeats: Int = 7) throws {
    let backend = RecipeBench.backend(settings)
    let first = settings[0]
    try self.init(
      first.model.settings.name, transformer: first.model.loadTransformer(on: backend),
      geometry: first.rollout.geometry(), settings: settings, steps: first.rollout.schedule.sigmas.count,
      repeats: repeats, on: backend)
  }

  /// What is timed: dense and every recipe, or dense and the one that `asked` names.
  /// - Parameter plain: The request without any choice of recipe.
  public static func settings(_ asked: RunRequest, plain: RunRequest) throws -> [RunSettings] {
    func named(_ name: String) throws -> RunSettings {
      var request = plain
      request.sparsity = name
      return try RunSettings(request)
    }
    let dense = try named("dense")
    if asked.sparsity != nil { return [dense, try RunSettings(asked)] }
    return [dense] + (try SparsityRecipe.names.filter { $0 != "dense" }.map(named))
  }

  private static func backend(_ settings: [RunSettings]) -> CPUBackend {
    CPUBackend(
      threads: settings[0].request.threads ?? Host.physicalCores, precision: settings[0].precision)
  }

  /// - Parameter steps: Passes that are timed after each filling of the memory, one per denoising step.
  private init(
    _ name: String, transformer: WanTransformer, geometry: PageGeometry, settings: [RunSettings], steps: Int,
    repeats: Int, on backend: CPUBackend
  ) throws {
    let c = transformer.configuration
    let frames = settings[0].chunkFrames
    let chunks = 7
    let noise = RandomChunks(transformer, geometry: geometry, frames: frames, on: backend)
    var measured = Array(repeating: [Measurement](), count: settings.count)
    // The first round takes memory and fills caches.
    for round in 0...repeats {
      for (i, setting) in settings.enumerated() {
        let memory = try KVMemory(
          recipe: setting.rollout.recipe, geometry: geometry, layers: c.layers, heads: c.heads, headDim: c.headDim,
          chunkFrames: frames, totalFrames: chunks * frames, on: backend)
        for _ in 1..<chunks { noise.fill(memory) }
        let result = noise.measure(memory, steps: steps)
        if round > 0 { measured[i].append(result) }
      }
    }
    let medians = measured.map { Measurement(medianOf: $0) }
    let dense = medians[0]
    rows = zip(settings, medians).map { setting, m in
      Row(
        recipe: setting.rollout.recipe.name, pagesKept: m.pagesKept, pagesRead: m.pagesRead,
        selectionSeconds: m.selection, attentionSeconds: m.attention, restSeconds: m.rest,
        attentionPerPage: m.attention / dense.attention / (m.pagesRead / dense.pagesRead),
        selectionShare: m.selection / dense.attention,
        speedup: (dense.selection + dense.attention + dense.rest) / (m.selection + m.attention + m.rest))
    }
    model = name
    processor = Host.processor
    self.backend = backend.name
    (layers, heads, headDim) = (c.layers, c.heads, c.headDim)
    tile = "\(geometry.tile)"
    pagesPerFrame = geometry.tilesPerFrame
    chunkFrames = frames
    historyFrames = (chunks - 1) * frames
    self.repeats = repeats
  }

  /// A table for people.
  public var text: String {
    func line(_ cells: [String]) -> String {
      cells.enumerated().map { i, cell in
        let space = String(repeating: " ", count: max(0, (i == 0 ? 16 : 11) - cell.count))
        return i == 0 ? cell + space : space + cell
      }.joined()
    }
    func milliseconds(_ seconds: Double) -> String { String(format: "%.2f", seconds * 1000) }
    let head = [
      "\(model): \(layers) layers of \(heads) heads of \(headDim), pages of \(tile), \(pagesPerFrame) a frame",
      "one pass of a chunk of \(chunkFrames) after \(historyFrames) latent frames, median of \(repeats), milliseconds",
      line(["recipe", "kept", "read", "selection", "attention", "the rest", "per page", "selection", "speed"]),
    ]
    let body = rows.map { row in
      line([
        row.recipe, "\(row.pagesKept)", String(format: "%.1f", row.pagesRead), milliseconds(row.selectionSeconds),
        milliseconds(row.attentionSeconds), milliseconds(row.restSeconds),
        String(format: "%.2fx%@", row.attentionPerPage, row.attentionPerPage > Self.mostAttentionPerPage ? "!" : ""),
        String(
          format: "%.2f%%%@", 100 * row.selectionShare, row.selectionShare > Self.mostSelectionShare ? "!" : ""),
        String(format: "%.2fx", row.speedup),
      ])
    }
    let foot =
      "per page: attention time over dense for each page read, 1 is in proportion (up to \(Self.mostAttentionPerPage) is "
      + "good); selection: of dense attention (up to \(Int(100 * Self.mostSelectionShare))% is good); ! is over"
    return (head + body + [foot]).joined(separator: "\n")
  }
}

/// What one recipe took for a pass.
private struct Measurement {
  var selection: Double
  var attention: Double
  var rest: Double
  let pagesKept: Int
  let pagesRead: Double

  init(selection: Double, attention: Double, rest: Double, pagesKept: Int, pagesRead: Double) {
    (self.selection, self.attention, self.rest) = (selection, attention, rest)
    (self.pagesKept, self.pagesRead) = (pagesKept, pagesRead)
  }

  init(medianOf all: [Measurement]) {
    func median(_ key: KeyPath<Measurement, Double>) -> Double { all.map { $0[keyPath: key] }.sorted()[all.count / 2] }
    self.init(
      selection: median(\.selection), attention: median(\.attention), rest: median(\.rest),
      pagesKept: all[0].pagesKept, pagesRead: all[0].pagesRead)
  }
}

/// Random numbers for a transformer: chunks that fill a memory, and a pass over one more.
private struct RandomChunks {
  private let transformer: WanTransformer
  private let layout: TokenLayout
  private let geometry: PageGeometry
  private let frames: Int
  private let latents: DeviceTensor
  private let text: TextContext
  /// `[tokens, width]`
  private let keys: DeviceTensor
  private let values: DeviceTensor
  private let norm: DeviceTensor
  private let backend: any Backend

  init(_ transformer: WanTransformer, geometry: PageGeometry, frames: Int, on backend: any Backend) {
    let c = transformer.configuration
    func numbers(_ shape: [Int], _ seed: UInt64) -> DeviceTensor {
      let count = shape.reduce(1, *)
      return backend.upload(Tensor(RandomWeights.uniform(count, seed: seed, amplitude: 1.7), shape: shape))
    }
    self.transformer = transformer
    self.geometry = geometry
    self.frames = frames
    self.backend = backend
    layout = transformer.layout(geometry: geometry, frames: frames)
    latents = numbers([frames, c.inputChannels, 2 * geometry.rows, 2 * geometry.columns], 2)
    text = transformer.context(text: numbers([24, c.textWidth], 3))
    let tokens = frames * geometry.tokensPerFrame
    keys = numbers([tokens, c.width], 4)
    values = numbers([tokens, c.width], 5)
    norm = backend.upload(Tensor([Float](repeating: 1, count: c.width), shape: [c.width]))
  }

  /// One chunk of random keys and values, the same in every layer but for its positions.
  func fill(_ memory: KVMemory) {
    memory.begin(frames: frames)
    let rotary = memory.rotation.rotary(
      geometry.tokens(frames: frames), framePositions: memory.positions, on: backend)
    for layer in 0..<transformer.configuration.layers {
      memory.write(layer: layer, keys: keys, norm: norm, epsilon: 1e-6, values: values, rotary: rotary)
    }
    memory.seal()
  }

  /// The mean of `steps` passes over one more chunk.
  func measure(_ memory: KVMemory, steps: Int) -> Measurement {
    let clock = ContinuousClock()
    memory.begin(frames: frames)
    var total = Duration.zero
    for step in 0..<steps {
      let start = clock.now
      memory.step = step
      _ = transformer.forward(
        latents, timesteps: [Float](repeating: 625, count: frames), text: text, layout: layout, memory: memory)
      total += clock.now - start
    }
    let (selection, attention) = (memory.times.selection.seconds, memory.times.attention.seconds)
    let read = memory.pagesListed.map { Double($0.listed) / Double(max(1, $0.visible)) }
    let n = Double(steps)
    return Measurement(
      selection: selection / n, attention: attention / n, rest: (total.seconds - selection - attention) / n,
      pagesKept: memory.pagesKept,
      pagesRead: read.reduce(0, +) / Double(max(1, read.count)) * Double(memory.pagesKept))
  }
}
