import Tensors

/// How the keys and values of pages are kept. Statistics, and the unrotated channels of keys, are float32 in all of them.
public enum PageFormat: String, Sendable, Codable, CaseIterable {
  case f32
  /// Each number rounded to 8 significant bits.
  case bf16
  /// Keys as steps from the mean of each channel, the step being the page's; values as steps of each token's own.
  case int8

  /// What goes with a precision of matrix products: the same.
  public static func standard(for precision: Precision) -> PageFormat {
    switch precision {
    case .f32: .f32
    case .bf16: .bf16
    case .int8: .int8
    }
  }

  /// Bytes for each token of one head, without the padding of pages: its key, its value, what they are scaled by, and the
  /// unrotated channels.
  public func bytesPerToken(headDim: Int, temporalChannels: Int, tokensPerPage: Int) -> Double {
    let numbers = Double(2 * headDim)
    let temporal = Double(4 * temporalChannels)
    switch self {
    case .f32: return 4 * numbers + temporal
    case .bf16: return 2 * numbers + temporal
    // A mean in bf16 for each channel of a page and its step; a step and a sum for each token.
    case .int8: return numbers + 8 + Double(2 * headDim + 4) / Double(tokensPerPage) + temporal
    }
  }
}

/// The fixed size of a page pool. Slots are counted per layer and head, since each may keep other pages.
public struct PagePoolLayout: Sendable, Equatable, Codable {
  public var layers: Int
  public var heads: Int
  public var headDim: Int
  /// Pages that one layer's head can hold at a time.
  public var slots: Int
  /// Tokens of a full page (15 x 4 = 60, 5 x 8 = 40), at most 64.
  public var tokensPerPage: Int
  /// Tokens of one latent frame in a page: all of them unless a tile spans frames.
  public var tokensPerFrame: Int
  /// Leading channels of a key that its temporal position turns, kept unrotated beside the key so that the page can be
  /// given another position; 0 if positions never change (DESIGN: positions `absolute`).
  public var temporalChannels: Int

  public init(
    layers: Int, heads: Int, headDim: Int, slots: Int, tokensPerPage: Int, tokensPerFrame: Int? = nil,
    temporalChannels: Int = 0
  ) {
    precondition(layers > 0 && heads > 0 && headDim > 0 && slots > 0, "an empty page pool")
    precondition(headDim % 2 == 0, "a head of \(headDim) channels; they turn in pairs")
    precondition((1...64).contains(tokensPerPage), "a page of \(tokensPerPage) tokens; 1 to 64 are possible")
    precondition(temporalChannels % 2 == 0 && temporalChannels <= headDim)
    self.layers = layers
    self.heads = heads
    self.headDim = headDim
    self.slots = slots
    self.tokensPerPage = tokensPerPage
    self.tokensPerFrame = tokensPerFrame ?? tokensPerPage
    self.temporalChannels = temporalChannels
  }

  /// Numbers kept for each token of one head: its key, its value and the key's unrotated channels.
  public var numbersPerToken: Int { 2 * headDim + temporalChannels }
}

/// Keys and values of fixed capacity in a backend's memory, in the order that its attention kernel reads.
///
/// A page belongs to one layer and one head and sits in a slot; which page is where is the business of a table above
/// (`SparseAttention.KVMemory`). Eviction edits that table and never moves a key or value.
public protocol PagePool: AnyObject, Sendable {
  var layout: PagePoolLayout { get }
  /// How its numbers are kept, by the choice of the backend.
  var format: PageFormat { get }
  /// Bytes that the pool really takes, padding included.
  var bytes: Int { get }
  /// What a stored page is: backend, arithmetic and layout. Only a pool with an equal one can take it back.
  var snapshotFormat: String { get }
  /// Bytes of one stored page.
  var snapshotBytes: Int { get }
  /// Everything that the pool knows of some pages, as it stands in memory: `u8 [pages, snapshotBytes]`.
  func snapshot(_ pages: [PagePlace]) -> Tensor
  /// Puts stored pages into slots, bit for bit; they need not be the slots that they came from.
  func restore(_ pages: [PagePlace], from stored: Tensor)
}

/// Where a page is.
public struct PagePlace: Sendable, Hashable {
  public var layer: Int
  public var head: Int
  public var slot: Int32

  public init(layer: Int, head: Int, slot: Int32) {
    self.layer = layer
    self.head = head
    self.slot = slot
  }
}

/// Which pages are read: the only language between selection and kernels.
///
/// Lists have a fixed capacity and pad with -1, which is skipped. Nothing may be listed twice for one tile.
public struct PageLists: Sendable {
  /// `[heads, n]`: slots that every query tile of a head reads.
  public let shared: DeviceIndices
  /// `[heads, tiles, m]`: slots that a query tile reads beside the shared ones.
  public let perTile: DeviceIndices?
  /// `[heads, n]`: pages of which those that a tile does not list still take part in its softmax, each as one row: mean
  /// key, mean value, and `ln n` added to the logit, n being the page's tokens (centroid tail). nil: they are dropped.
  public var tail: DeviceIndices?

  public init(shared: DeviceIndices, perTile: DeviceIndices? = nil, tail: DeviceIndices? = nil) {
    precondition(
      shared.shape.count == 2 && perTile?.shape.count ?? 3 == 3, "page lists are [heads, n] and [heads, tiles, m]")
    self.shared = shared
    self.perTile = perTile
    self.tail = tail
  }

  /// The most pages that a query tile reads.
  public var pagesPerTile: Int { shared.shape[1] + (perTile?.shape[2] ?? 0) }
}

/// What a kernel is asked beside its output.
public struct AttentionAnswers: OptionSet, Sendable {
  public let rawValue: Int
  public init(rawValue: Int) { self.rawValue = rawValue }
  /// The logarithm of each softmax's denominator.
  public static let logSumExp = AttentionAnswers(rawValue: 1)
  /// The attention that each page received.
  public static let mass = AttentionAnswers(rawValue: 2)
}

/// What paged attention gives back.
public struct Attended: Sendable {
  /// `[rows, heads x headDim]`; zero where a tile reads nothing.
  public let output: DeviceTensor
  /// `[heads, rows]`, natural logarithm, -inf where a tile reads nothing; nil unless asked.
  public let logSumExp: DeviceTensor?
  /// `[heads, slots of the pool]`: softmax weights on the page in each slot, summed over all queries; a page that a tile
  /// skips counts with the weight of its row in the tail. A head's masses add up to its rows. nil unless asked.
  public let mass: DeviceTensor?

  public init(output: DeviceTensor, logSumExp: DeviceTensor? = nil, mass: DeviceTensor? = nil) {
    self.output = output
    self.logSumExp = logSumExp
    self.mass = mass
  }
}

/// What is known of pages without reading them. Written with a page's keys and values by each pass, so that those of the
/// chunk being denoised are of its last pass and those of a sealed chunk of its clean one; keys are taken as they are read,
/// after any rotation, and anew when a page is repositioned.
public struct PageStatistics: Sendable {
  /// `[heads, n, headDim]`
  public let meanKeys: DeviceTensor
  /// `[heads, n, headDim]`
  public let meanValues: DeviceTensor
  /// `[heads, n]`: tokens of the page.
  public let counts: DeviceTensor
  /// `[heads, n]`: root mean square distance of the page's keys from their mean; 0 when they are all alike.
  public let dispersion: DeviceTensor
}

/// How the rows of a chunk are cut into tiles: one page each for keys, one list each for queries.
///
/// Every tile has at most `tokensPerPage` rows; those of a frame group that is cut short at the chunk's end have fewer.
public struct RowTiles: Sendable, Equatable {
  /// Tile t holds rows `offsets[t] ..< offsets[t + 1]`.
  public let offsets: [Int]

  public init(offsets: [Int]) {
    precondition(
      offsets.first == 0 && zip(offsets, offsets.dropFirst()).allSatisfy(<), "tiles must be rising and not empty")
    self.offsets = offsets
  }

  /// `rows` rows in tiles of `tokens`, the last one perhaps shorter.
  public init(rows: Int, tokens: Int) { self.init(offsets: Array(stride(from: 0, to: rows, by: tokens)) + [rows]) }

  public var count: Int { offsets.count - 1 }
  public var rows: Int { offsets[offsets.count - 1] }
  public subscript(_ tile: Int) -> Range<Int> { offsets[tile]..<offsets[tile + 1] }
}
