import Compute
import Synchronization
import Tensors

/// A backend that notes every call with the sizes it is made with, and leaves the work to another.
///
/// Two rollouts with other numbers in them that make the same calls with the same sizes could be one captured graph: no size
/// was decided by a number that came back.
final class CallRecorder: Backend {
  private let backend: CPUBackend
  private let calls = Mutex<[String]>([])

  init(_ backend: CPUBackend) { self.backend = backend }

  /// What was called since the last question, in order.
  func take() -> [String] {
    calls.withLock { calls in
      defer { calls = [] }
      return calls
    }
  }

  private func note(_ call: String, _ shapes: [Int]?...) {
    calls.withLock { $0.append(call + shapes.map { " \($0 ?? [])" }.joined()) }
  }

  var name: String { backend.name }

  // MARK: Transfers

  func upload(_ tensor: Tensor) -> DeviceTensor {
    note("upload", tensor.shape)
    return backend.upload(tensor)
  }
  func download(_ tensor: DeviceTensor) -> Tensor {
    note("download numbers", tensor.shape)
    return backend.download(tensor)
  }
  func upload(indices: [Int32], shape: [Int]) -> DeviceIndices {
    note("upload indices", shape)
    return backend.upload(indices: indices, shape: shape)
  }
  func download(_ indices: DeviceIndices) -> [Int32] {
    note("download indices", indices.shape)
    return backend.download(indices)
  }
  func prepareLinear(weight: Tensor, bias: Tensor?, role: LinearRole) -> LinearWeight {
    backend.prepareLinear(weight: weight, bias: bias, role: role)
  }
  func prepareConvolution(weight: Tensor, bias: Tensor?, keepsSize: Bool) -> ConvolutionWeight {
    backend.prepareConvolution(weight: weight, bias: bias, keepsSize: keepsSize)
  }
  func prepareDoubledConvolution(weight: Tensor, frames: Int) -> ConvolutionWeight {
    backend.prepareDoubledConvolution(weight: weight, frames: frames)
  }
  func releaseUnusedMemory() { backend.releaseUnusedMemory() }
  func makePagePool(_ layout: PagePoolLayout) -> any PagePool { backend.makePagePool(layout) }

  // MARK: Rows

  func linear(_ x: DeviceTensor, _ weight: LinearWeight, activation: Activation) -> DeviceTensor {
    note("linear", x.shape, [weight.inputs, weight.outputs])
    return backend.linear(x, weight, activation: activation)
  }
  func linears(_ x: DeviceTensor, _ weights: [LinearWeight]) -> [DeviceTensor] {
    note("linears", x.shape, weights.map(\.outputs))
    return backend.linears(x, weights)
  }
  func linear(_ x: DeviceTensor, _ weight: LinearWeight, addedTo residual: DeviceTensor, gate: ModulationRow?)
    -> DeviceTensor
  {
    note("linear, added", x.shape, residual.shape, gate?.table.shape)
    return backend.linear(x, weight, addedTo: residual, gate: gate)
  }
  func layerNorm(_ x: DeviceTensor, epsilon: Float, shift: ModulationRow, scale: ModulationRow) -> DeviceTensor {
    note("layerNorm", x.shape, shift.table.shape)
    return backend.layerNorm(x, epsilon: epsilon, shift: shift, scale: scale)
  }
  func layerNorm(_ x: DeviceTensor, epsilon: Float, weight: DeviceTensor, bias: DeviceTensor) -> DeviceTensor {
    note("layerNorm", x.shape)
    return backend.layerNorm(x, epsilon: epsilon, weight: weight, bias: bias)
  }
  func rmsNorm(_ x: DeviceTensor, epsilon: Float, weight: DeviceTensor, rotary: Rotary?) -> DeviceTensor {
    note("rmsNorm", x.shape, rotary?.cosines.shape)
    return backend.rmsNorm(x, epsilon: epsilon, weight: weight, rotary: rotary)
  }

  // MARK: Attention

  func writePages(
    keys: DeviceTensor, keyNorm: DeviceTensor, epsilon: Float, rotary: Rotary, values: DeviceTensor,
    to pool: any PagePool, layer: Int, tiles: RowTiles, slots: DeviceIndices
  ) {
    note("writePages", keys.shape, [layer, tiles.count], slots.shape)
    backend.writePages(
      keys: keys, keyNorm: keyNorm, epsilon: epsilon, rotary: rotary, values: values, to: pool, layer: layer,
      tiles: tiles, slots: slots)
  }
  func repositionPages(
    in pool: any PagePool, layer: Int, slots: DeviceIndices, positions: DeviceIndices, table: Rotary
  ) {
    note("repositionPages", [layer], slots.shape, table.cosines.shape)
    backend.repositionPages(in: pool, layer: layer, slots: slots, positions: positions, table: table)
  }
  func attend(
    _ queries: DeviceTensor, tiles: RowTiles, pool: any PagePool, layer: Int, lists: PageLists, scale: Float,
    answers: AttentionAnswers
  ) -> Attended {
    note("attend", queries.shape, [layer], lists.shared.shape, lists.perTile?.shape, lists.tail?.shape)
    return backend.attend(
      queries, tiles: tiles, pool: pool, layer: layer, lists: lists, scale: scale, answers: answers)
  }
  func attention(
    queries: DeviceTensor, keys: DeviceTensor, values: DeviceTensor, heads: Int, scale: Float, bias: AttentionBias
  ) -> DeviceTensor {
    note("attention", queries.shape, keys.shape)
    return backend.attention(
      queries: queries, keys: keys, values: values, heads: heads, scale: scale, bias: bias)
  }

  // MARK: Page selection

  func pageStatistics(of pool: any PagePool, layer: Int, slots: DeviceIndices) -> PageStatistics {
    note("pageStatistics", [layer], slots.shape)
    return backend.pageStatistics(of: pool, layer: layer, slots: slots)
  }
  func tileMeans(_ x: DeviceTensor, tiles: RowTiles, heads: Int) -> DeviceTensor {
    note("tileMeans", x.shape)
    return backend.tileMeans(x, tiles: tiles, heads: heads)
  }
  func pageScores(_ means: DeviceTensor, pool: any PagePool, layer: Int, slots: DeviceIndices, scale: Float)
    -> DeviceTensor
  {
    note("pageScores", means.shape, [layer], slots.shape)
    return backend.pageScores(means, pool: pool, layer: layer, slots: slots, scale: scale)
  }
  func pageMass(_ scores: DeviceTensor) -> DeviceTensor {
    note("pageMass", scores.shape)
    return backend.pageMass(scores)
  }
  func groupMeans(_ scores: DeviceTensor, groups: DeviceIndices, count: Int) -> DeviceTensor {
    note("groupMeans", scores.shape, groups.shape, [count])
    return backend.groupMeans(scores, groups: groups, count: count)
  }
  func keepGroups(_ scores: DeviceTensor, groups: DeviceIndices, kept: DeviceIndices) -> DeviceTensor {
    note("keepGroups", scores.shape, groups.shape, kept.shape)
    return backend.keepGroups(scores, groups: groups, kept: kept)
  }
  func topPages(_ scores: DeviceTensor, count: Int, slots: DeviceIndices?, forced: DeviceIndices?) -> DeviceIndices {
    note("topPages", scores.shape, [count], slots?.shape, forced?.shape)
    return backend.topPages(scores, count: count, slots: slots, forced: forced)
  }
  func listedPages(_ lists: PageLists, tiles: Int) -> DeviceTensor {
    note("listedPages", lists.shared.shape, lists.perTile?.shape)
    return backend.listedPages(lists, tiles: tiles)
  }

  // MARK: Feature maps, which a rollout does not use

  func convolve(
    _ x: DeviceTensor, after history: [DeviceTensor], _ weight: ConvolutionWeight, stride: ConvolutionStride,
    padding: SpatialPadding, addedTo residual: DeviceTensor?, activation: Activation
  ) -> DeviceTensor {
    note("convolve", x.shape, history.flatMap(\.shape))
    return backend.convolve(
      x, after: history, weight, stride: stride, padding: padding, addedTo: residual, activation: activation)
  }
  func zeros(_ shape: [Int]) -> DeviceTensor {
    note("zeros", shape)
    return backend.zeros(shape)
  }
  func remembered(_ x: DeviceTensor, for weight: ConvolutionWeight) -> DeviceTensor {
    note("remembered", x.shape)
    return backend.remembered(x, for: weight)
  }
  func convolveDoubled(_ x: DeviceTensor, _ weight: ConvolutionWeight, activation: Activation) -> DeviceTensor {
    note("convolveDoubled", x.shape)
    return backend.convolveDoubled(x, weight, activation: activation)
  }
  func convolveDoubled(_ x: DeviceTensor, _ weight: ConvolutionWeight, frames: Int, activation: Activation)
    -> DeviceTensor
  {
    note("convolveDoubled", x.shape, [frames])
    return backend.convolveDoubled(x, weight, frames: frames, activation: activation)
  }
  func channelNorm(_ x: DeviceTensor, gamma: DeviceTensor, silu: Bool) -> DeviceTensor {
    note("channelNorm", x.shape)
    return backend.channelNorm(x, gamma: gamma, silu: silu)
  }
  func upsampleTwice(_ x: DeviceTensor) -> DeviceTensor {
    note("upsampleTwice", x.shape)
    return backend.upsampleTwice(x)
  }
  func channelsToFrames(_ x: DeviceTensor, _ n: Int) -> DeviceTensor {
    note("channelsToFrames", x.shape)
    return backend.channelsToFrames(x, n)
  }
  func framesToChannels(_ x: DeviceTensor, _ n: Int) -> DeviceTensor {
    note("framesToChannels", x.shape)
    return backend.framesToChannels(x, n)
  }
  func joinChannels(_ x: DeviceTensor, _ y: DeviceTensor) -> DeviceTensor {
    note("joinChannels", x.shape, y.shape)
    return backend.joinChannels(x, y)
  }
  func channelsLast(_ x: DeviceTensor) -> DeviceTensor {
    note("channelsLast", x.shape)
    return backend.channelsLast(x)
  }
  func channelsFirst(_ x: DeviceTensor) -> DeviceTensor {
    note("channelsFirst", x.shape)
    return backend.channelsFirst(x)
  }
  func scaleChannels(_ x: DeviceTensor, scale: DeviceTensor, shift: DeviceTensor) -> DeviceTensor {
    note("scaleChannels", x.shape)
    return backend.scaleChannels(x, scale: scale, shift: shift)
  }

  // MARK: Any shape

  func slice(_ x: DeviceTensor, _ range: Range<Int>) -> DeviceTensor {
    note("slice \(range)", x.shape)
    return backend.slice(x, range)
  }
  func concatenate(_ parts: [DeviceTensor]) -> DeviceTensor {
    note("concatenate", parts.map(\.shape).flatMap { $0 })
    return backend.concatenate(parts)
  }
  func gather(_ x: DeviceTensor, _ indices: DeviceIndices, shape: [Int]) -> DeviceTensor {
    note("gather", x.shape, indices.shape)
    return backend.gather(x, indices, shape: shape)
  }
  func combine(_ a: Float, _ x: DeviceTensor, _ b: Float, _ y: DeviceTensor) -> DeviceTensor {
    note("combine", x.shape)
    return backend.combine(a, x, b, y)
  }
  func add(_ x: DeviceTensor, _ y: DeviceTensor) -> DeviceTensor {
    note("add", x.shape, y.shape)
    return backend.add(x, y)
  }
  func multiply(_ x: DeviceTensor, _ y: DeviceTensor) -> DeviceTensor {
    note("multiply", x.shape)
    return backend.multiply(x, y)
  }
  func activate(_ x: DeviceTensor, _ activation: Activation) -> DeviceTensor {
    note("activate", x.shape)
    return backend.activate(x, activation)
  }
  func clamp(_ x: DeviceTensor, to range: ClosedRange<Float>) -> DeviceTensor {
    note("clamp", x.shape)
    return backend.clamp(x, to: range)
  }
  func allFinite(_ x: DeviceTensor) -> Bool {
    note("allFinite", x.shape)
    return backend.allFinite(x)
  }
  func downloadPixels(_ x: DeviceTensor) -> Tensor? {
    note("downloadPixels", x.shape)
    return backend.downloadPixels(x)
  }
}
