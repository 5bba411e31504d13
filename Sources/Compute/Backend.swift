import Tensors

/// The operations that a model may use, on memory that the backend owns.
///
/// Models are written once against this protocol; a backend for another device implements the same operations. They are
/// coarse so that each can be one fused kernel, every size is known to the host before the call, and no result is read
/// back but through ``download(_:)`` and ``allFinite(_:)``.
///
/// Shapes: tokens are rows `[rows, width]` with `width = heads x headDim`; feature maps are channels-last
/// `[frames, height, width, channels]`; latents are `[frames, channels, height, width]` as in files.
/// Shapes that do not fit are programmer errors and trap.
public protocol Backend: AnyObject, Sendable {
  /// What a user reads in `info` and in the run's record, such as `cpu f32, 2 threads`.
  var name: String { get }

  // MARK: Transfers

  /// Copies a host tensor of any type into the backend as float32.
  func upload(_ tensor: Tensor) -> DeviceTensor
  /// Copies a tensor to the host as float32.
  func download(_ tensor: DeviceTensor) -> Tensor
  /// Copies indices into the backend.
  func upload(indices: [Int32], shape: [Int]) -> DeviceIndices
  /// Copies indices to the host: for inspection, never to decide what to launch.
  func download(_ indices: DeviceIndices) -> [Int32]
  /// Takes over a linear layer: `weight` `[outputs, inputs]`, `bias` `[outputs]`. How exactly it will multiply follows
  /// from the backend's precision and the layer's role.
  func prepareLinear(weight: Tensor, bias: Tensor?, role: LinearRole) -> LinearWeight
  /// Takes over a convolution: `weight` `[out, in, kt, kh, kw]`, or `[out, in, kh, kw]` for one frame at a time.
  /// With `keepsSize` it is promised that the kernel meets every position, in steps of one, with half of its size as padding
  /// on each side (``SpatialPadding/half(of:)``), so that a backend may choose a faster algorithm.
  func prepareConvolution(weight: Tensor, bias: Tensor?, keepsSize: Bool) -> ConvolutionWeight
  /// Takes over a convolution behind a doubling of height and width: `weight` `[frames x out, in, 3, 3]`, without bias.
  func prepareDoubledConvolution(weight: Tensor, frames: Int) -> ConvolutionWeight
  /// Gives back memory that is only kept for reuse, as after a module that will not run again.
  func releaseUnusedMemory()
  /// Page memory of fixed capacity.
  func makePagePool(_ layout: PagePoolLayout) -> any PagePool

  // MARK: Rows

  /// `activation(x W^T + b)`; x `[rows, inputs]` → `[rows, outputs]`.
  func linear(_ x: DeviceTensor, _ weight: LinearWeight, activation: Activation) -> DeviceTensor
  /// `x W^T + b` for each of some layers of the same input.
  func linears(_ x: DeviceTensor, _ weights: [LinearWeight]) -> [DeviceTensor]
  /// `residual + gate * (x W^T + b)`, the gate one row per group of rows, or 1.
  func linear(_ x: DeviceTensor, _ weight: LinearWeight, addedTo residual: DeviceTensor, gate: ModulationRow?)
    -> DeviceTensor
  /// `norm(x) * (1 + scale) + shift` over the last axis, without affine parameters of its own.
  func layerNorm(_ x: DeviceTensor, epsilon: Float, shift: ModulationRow, scale: ModulationRow) -> DeviceTensor
  /// `norm(x) * weight + bias` over the last axis; weight, bias `[width]`.
  func layerNorm(_ x: DeviceTensor, epsilon: Float, weight: DeviceTensor, bias: DeviceTensor) -> DeviceTensor
  /// `x * rsqrt(mean(x^2) + epsilon) * weight` over the last axis (the full width, before any split into heads), then,
  /// with `rotary`, the rotation of each head. x `[rows, width]`, weight `[width]`.
  func rmsNorm(_ x: DeviceTensor, epsilon: Float, weight: DeviceTensor, rotary: Rotary?) -> DeviceTensor

  // MARK: Attention

  /// Writes one chunk's keys and values into pages. `keys` and `values` are raw projections `[rows, heads x headDim]`,
  /// rows in page order; keys are normed and rotated on the way as in ``rmsNorm(_:epsilon:weight:rotary:)``.
  /// `slots` `[heads, pages]`: page p holds the rows of tile p.
  func writePages(
    keys: DeviceTensor, keyNorm: DeviceTensor, epsilon: Float, rotary: Rotary, values: DeviceTensor,
    to pool: any PagePool, layer: Int, tiles: RowTiles, slots: DeviceIndices)
  /// Gives the keys of sealed pages new temporal positions, always from the unrotated channels that the pool keeps (a
  /// pool with `temporalChannels > 0`). `slots` and `positions` `[heads, n]`: frame j of a tile in slot `slots[h, i]`
  /// turns by row `positions[h, i] + j` of `table` `[rows, temporalChannels / 2]`.
  func repositionPages(
    in pool: any PagePool, layer: Int, slots: DeviceIndices, positions: DeviceIndices, table: Rotary)
  /// Block-sparse attention over pages with one softmax: each tile of query rows reads the pages that `lists` names for
  /// it and, with a tail, one row for each page that it skips. `queries` `[rows, heads x headDim]`, normed and rotated.
  /// Costs in proportion to the pages listed; `answers` beyond the output cost a little more.
  func attend(
    _ queries: DeviceTensor, tiles: RowTiles, pool: any PagePool, layer: Int, lists: PageLists, scale: Float,
    answers: AttentionAnswers
  ) -> Attended
  /// Dense attention of queries `[n, heads x headDim]` over keys and values `[m, heads x headDim]`; never forms n x m.
  func attention(
    queries: DeviceTensor, keys: DeviceTensor, values: DeviceTensor, heads: Int, scale: Float, bias: AttentionBias
  )
    -> DeviceTensor

  // MARK: Page selection

  /// The statistics of the pages in `slots` `[heads, n]`; zero for -1.
  func pageStatistics(of pool: any PagePool, layer: Int, slots: DeviceIndices) -> PageStatistics
  /// The mean row of each tile: `[rows, heads x headDim]` → `[heads, tiles, headDim]`.
  func tileMeans(_ x: DeviceTensor, tiles: RowTiles, heads: Int) -> DeviceTensor
  /// `scale * mean query . mean key` of every tile and page: `means` `[heads, tiles, headDim]`, `slots` `[heads, n]` →
  /// `[heads, tiles, n]`, -inf for a slot of -1.
  func pageScores(_ means: DeviceTensor, pool: any PagePool, layer: Int, slots: DeviceIndices, scale: Float)
    -> DeviceTensor
  /// Pooled attention mass `[heads, n]`: the softmax of each row of `scores` `[heads, tiles, n]`, summed over the tiles.
  func pageMass(_ scores: DeviceTensor) -> DeviceTensor
  /// The mean score of each of `count` groups of pages: `scores` `[heads, tiles, n]`, `groups` `[heads, n]` (-1: in none) →
  /// `[heads, tiles, count]`, -inf for a group without pages.
  func groupMeans(_ scores: DeviceTensor, groups: DeviceIndices, count: Int) -> DeviceTensor
  /// `scores` with -inf for the pages of groups that are not among `kept` `[heads, tiles, r]`; pages of no group stay.
  func keepGroups(_ scores: DeviceTensor, groups: DeviceIndices, kept: DeviceIndices) -> DeviceTensor
  /// The `count` best pages of every row of `scores` `[heads, tiles, n]` → `[heads, tiles, count]`: their slots, or their
  /// places in the row without `slots` `[heads, n]`. In rising order of place, padded with -1; equal scores go to the
  /// lower place; a score of -inf or a slot of -1 is never chosen; pages with a 1 in `forced` `[heads, n]` come first.
  func topPages(_ scores: DeviceTensor, count: Int, slots: DeviceIndices?, forced: DeviceIndices?) -> DeviceIndices
  /// `[heads]`: how many pages `lists` names for `tiles` query tiles of each head, the shared ones once for each tile;
  /// entries of -1 and the tail's rows do not count. For reports: nothing depends on it.
  func listedPages(_ lists: PageLists, tiles: Int) -> DeviceTensor

  // MARK: Feature maps

  /// Cross-correlation in space and time. x `[frames, height, width, in]` is preceded by the h frames of `history`, oldest
  /// first, in maps `[n, height, width, in]` (causal convolutions) and nothing is padded in time:
  /// `(h + frames - kt) / stride.frames + 1` frames come out. Space is zero-padded by `padding`. With a `residual` of the
  /// output's shape the result is `activation(residual + convolution)`.
  func convolve(
    _ x: DeviceTensor, after history: [DeviceTensor], _ weight: ConvolutionWeight, stride: ConvolutionStride,
    padding: SpatialPadding, addedTo residual: DeviceTensor?, activation: Activation
  ) -> DeviceTensor
  /// Zeros, in the form in which this backend keeps maps.
  func zeros(_ shape: [Int]) -> DeviceTensor
  /// Frames `[n, h, w, in]` as a stream keeps them for a later convolution with `weight`: as they are, or in less memory with
  /// an error. Uploaded again after a download they are the same numbers.
  func remembered(_ x: DeviceTensor, for weight: ConvolutionWeight) -> DeviceTensor
  /// ``upsampleTwice(_:)``, then a convolution with a weight that was prepared with `keepsSize`, of one frame at a time.
  func convolveDoubled(_ x: DeviceTensor, _ weight: ConvolutionWeight, activation: Activation) -> DeviceTensor
  /// The convolution of ``prepareDoubledConvolution(weight:frames:)`` over `x` `[n, h, w, in]` with height and width doubled
  /// (``upsampleTwice(_:)``) and a border of zeros, then ``channelsToFrames(_:_:)``: `[n frames, 2 h, 2 w, out]`.
  func convolveDoubled(_ x: DeviceTensor, _ weight: ConvolutionWeight, frames: Int, activation: Activation)
    -> DeviceTensor
  /// `x / max(|x|_2, 1e-12) * sqrt(C) * gamma` over the channels of each position, then SiLU if asked; gamma `[C]`.
  func channelNorm(_ x: DeviceTensor, gamma: DeviceTensor, silu: Bool) -> DeviceTensor
  /// Nearest-neighbour doubling of height and width.
  func upsampleTwice(_ x: DeviceTensor) -> DeviceTensor
  /// `[frames, h, w, n c]` → `[frames n, h, w, c]`: the first c channels become the earliest of n frames.
  func channelsToFrames(_ x: DeviceTensor, _ n: Int) -> DeviceTensor
  /// `[frames n, h, w, c]` → `[frames, h, w, n c]`: the inverse of ``channelsToFrames(_:_:)``.
  func framesToChannels(_ x: DeviceTensor, _ n: Int) -> DeviceTensor
  /// Joins two maps along the channels, x first.
  func joinChannels(_ x: DeviceTensor, _ y: DeviceTensor) -> DeviceTensor
  /// `[frames, channels, h, w]` → `[frames, h, w, channels]`.
  func channelsLast(_ x: DeviceTensor) -> DeviceTensor
  /// `[frames, h, w, channels]` → `[frames, channels, h, w]`.
  func channelsFirst(_ x: DeviceTensor) -> DeviceTensor
  /// `x * scale + shift` per channel (last axis); scale, shift `[C]`.
  func scaleChannels(_ x: DeviceTensor, scale: DeviceTensor, shift: DeviceTensor) -> DeviceTensor

  // MARK: Any shape

  /// The part `range` of the first axis.
  func slice(_ x: DeviceTensor, _ range: Range<Int>) -> DeviceTensor
  /// Joins tensors along the first axis.
  func concatenate(_ parts: [DeviceTensor]) -> DeviceTensor
  /// `out[i] = x.flat[indices[i]]`, zero where the index is -1; `shape` has as many elements as `indices`.
  func gather(_ x: DeviceTensor, _ indices: DeviceIndices, shape: [Int]) -> DeviceTensor
  /// `a x + b y`, same shapes.
  func combine(_ a: Float, _ x: DeviceTensor, _ b: Float, _ y: DeviceTensor) -> DeviceTensor
  /// `x + y`; y may be shorter and is then repeated along the leading axes.
  func add(_ x: DeviceTensor, _ y: DeviceTensor) -> DeviceTensor
  /// `x * y`, same shapes.
  func multiply(_ x: DeviceTensor, _ y: DeviceTensor) -> DeviceTensor
  /// The activation of every element.
  func activate(_ x: DeviceTensor, _ activation: Activation) -> DeviceTensor
  /// Every element limited to `range`; NaN stays NaN.
  func clamp(_ x: DeviceTensor, to range: ClosedRange<Float>) -> DeviceTensor
  /// Whether no element is NaN or infinite: the one question that reads a value back.
  func allFinite(_ x: DeviceTensor) -> Bool
  /// Pixels for the host: every number of 0...1 times 255, truncated, as `u8`, with what lies outside limited; nil if
  /// there is a NaN or an infinity.
  func downloadPixels(_ x: DeviceTensor) -> Tensor?
}

extension Backend {
  /// A linear layer inside a block.
  public func prepareLinear(weight: Tensor, bias: Tensor?) -> LinearWeight {
    prepareLinear(weight: weight, bias: bias, role: .block)
  }
  /// A convolution of any steps and padding.
  public func prepareConvolution(weight: Tensor, bias: Tensor?) -> ConvolutionWeight {
    prepareConvolution(weight: weight, bias: bias, keepsSize: false)
  }
  public func remembered(_ x: DeviceTensor, for weight: ConvolutionWeight) -> DeviceTensor { x }
  public func zeros(_ shape: [Int]) -> DeviceTensor {
    upload(Tensor([Float](repeating: 0, count: shape.reduce(1, *)), shape: shape))
  }
  /// See the requirement; two operations.
  public func convolveDoubled(_ x: DeviceTensor, _ weight: ConvolutionWeight, activation: Activation) -> DeviceTensor {
    convolve(
      upsampleTwice(x), after: [], weight, stride: .one, padding: .half(of: weight), activation: activation)
  }
  public func linears(_ x: DeviceTensor, _ weights: [LinearWeight]) -> [DeviceTensor] {
    weights.map { linear(x, $0, activation: .none) }
  }
  /// A convolution with nothing added.
  public func convolve(
    _ x: DeviceTensor, after history: [DeviceTensor], _ weight: ConvolutionWeight, stride: ConvolutionStride,
    padding: SpatialPadding, activation: Activation
  ) -> DeviceTensor {
    convolve(
      x, after: history, weight, stride: stride, padding: padding, addedTo: nil, activation: activation)
  }
}

/// A pointwise function.
public enum Activation: Sendable, CaseIterable {
  case none
  /// `max(x, 0)`
  case relu
  /// `x * sigmoid(x)`
  case silu
  /// `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`
  case geluTanh
  /// `3 tanh(x / 3)`, the soft clamp in front of the tiny decoder (TAEHV).
  case softClamp3
}

/// One row of adaptive modulation per group of rows: shift, scale or gate of adaLN.
public struct ModulationRow: Sendable {
  /// `[groups, rows, width]`; a group is a latent frame.
  public let table: DeviceTensor
  /// Which of the `rows`.
  public let row: Int
  /// `[rows of x]`: the group of each row.
  public let groups: DeviceIndices

  public init(table: DeviceTensor, row: Int, groups: DeviceIndices) {
    precondition(table.shape.count == 3 && row < table.shape[1], "no row \(row) in a table of shape \(table.shape)")
    self.table = table
    self.row = row
    self.groups = groups
  }
}

/// Rotary embedding by interleaved pairs: channels (2p, 2p + 1) of each head turn by the row's angle p.
public struct Rotary: Sendable {
  /// `[rows, headDim / 2]`
  public let cosines: DeviceTensor
  /// `[rows, headDim / 2]`
  public let sines: DeviceTensor
  /// Width of one head.
  public let headDim: Int

  public init(cosines: DeviceTensor, sines: DeviceTensor, headDim: Int) {
    precondition(headDim % 2 == 0 && cosines.shape == sines.shape && cosines.shape.last == headDim / 2)
    self.cosines = cosines
    self.sines = sines
    self.headDim = headDim
  }
}

/// What is added to attention logits, in units of the logit.
public enum AttentionBias: Sendable {
  case none
  /// One number per key, `[m]`; `ln n` makes one row stand for n equal ones.
  case perKey(DeviceTensor)
  /// By distance, `[heads, n + m - 1]`: entry `key - query + n - 1` (UMT5's relative position bias).
  case relative(DeviceTensor)
}

/// Steps of a convolution.
public struct ConvolutionStride: Sendable, Equatable {
  /// Step in time.
  public var frames = 1
  /// Step in height and width.
  public var space = 1
  public init(frames: Int = 1, space: Int = 1) {
    self.frames = frames
    self.space = space
  }
  /// One step in each direction.
  public static let one = ConvolutionStride()
}

/// Zero padding in space.
public struct SpatialPadding: Sendable, Equatable {
  public var top = 0
  public var bottom = 0
  public var left = 0
  public var right = 0
  public init(top: Int = 0, bottom: Int = 0, left: Int = 0, right: Int = 0) {
    self.top = top
    self.bottom = bottom
    self.left = left
    self.right = right
  }
  /// The same on all four sides.
  public static func all(_ n: Int) -> SpatialPadding { SpatialPadding(top: n, bottom: n, left: n, right: n) }
  /// Half of a kernel on each side: a map keeps its size under a kernel of odd extent.
  public static func half(of weight: ConvolutionWeight) -> SpatialPadding {
    let (rows, columns) = (weight.kernel.rows / 2, weight.kernel.columns / 2)
    return SpatialPadding(top: rows, bottom: rows, left: columns, right: columns)
  }
}
