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
    /// Seconds of one pass by the wall clock.
    public let selectionSeconds: Double
    public let attentionSeconds: Double
    public let restSeconds: Double
    /// Processor seconds of one pass, all threads; the ratios below are of such, which other work does not disturb.
    public let processorSeconds: Double
    /// Attention time over that of dense, over the same ratio of pages read: 1 is in proportion.
    public let attentionPerPage: Double
    /// Selection time over dense attention time.
    public let selectionShare: Double
    /// The whole pass, dense over this.
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
      threads: settings[0].request.threads ?? Host.physicalCores, precision: settings[0].precision,
      pages: settings[0].pages)
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
        selectionSeconds: m.selection.wall, attentionSeconds: m.attention.wall, restSeconds: m.rest.wall,
        processorSeconds: m.processor,
        attentionPerPage: m.attention.processor / dense.attention.processor / (m.pagesRead / dense.pagesRead),
        selectionShare: m.selection.processor / dense.attention.processor, speedup: dense.processor / m.processor)
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
      line(["recipe", "kept", "read", "selection", "attention", "the rest", "per page", "share", "speed"]),
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
      "Ratios are of processor time, to dense: attention for each page read (1 is in proportion, up to "
      + "\(Self.mostAttentionPerPage) is good), selection as a share of dense attention (up to "
      + "\(Int(100 * Self.mostSelectionShare))% is good; ! is over), and the pass."
    return (head + body + [foot]).joined(separator: "\n")
  }
}

/// What one recipe took for a pass.
private struct Measurement {
  var selection: WorkTime
  var attention: WorkTime
  var rest: WorkTime
  var pagesKept: Int
  var pagesRead: Double

  init(selection: WorkTime, attention: WorkTime, rest: WorkTime, pagesKept: Int, pagesRead: Double) {
    (self.selection, self.attention, self.rest) = (selection, attention, rest)
    (self.pagesKept, self.pagesRead) = (pagesKept, pagesRead)
  }

  /// The median of each figure.
  init(medianOf all: [Measurement]) {
    self = all[0]
    func median(_ key: WritableKeyPath<Measurement, Double>) {
      self[keyPath: key] = all.map { $0[keyPath: key] }.sorted()[all.count / 2]
    }
    let parts: [WritableKeyPath<Measurement, WorkTime>] = [\.selection, \.attention, \.rest]
    for part in parts {
      median(part.appending(path: \.wall))
      median(part.appending(path: \.processor))
    }
  }

  /// Processor seconds of the pass.
  var processor: Double { selection.processor + attention.processor + rest.processor }
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
    memory.begin(frames: frames)
    var total = WorkTime()
    for step in 0..<steps {
      let start = WorkTime.now
      memory.step = step
      _ = transformer.forward(
        latents, timesteps: [Float](repeating: 625, count: frames), text: text, layout: layout, memory: memory)
      total += WorkTime.now - start
    }
    func mean(_ time: WorkTime) -> WorkTime {
      var time = time
      time.wall /= Double(steps)
      time.processor /= Double(steps)
      return time
    }
    let (selection, attention) = (mean(memory.times.selection), mean(memory.times.attention))
    let read = memory.pagesListed.map { Double($0.listed) / Double(max(1, $0.visible)) }
    return Measurement(
      selection: selection, attention: attention, rest: mean(total) - selection - attention,
      pagesKept: memory.pagesKept,
      pagesRead: read.reduce(0, +) / Double(max(1, read.count)) * Double(memory.pagesKept))
  }
}
