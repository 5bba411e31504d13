import Compute
import SparseAttention

/// One transformer block: self-attention over the memory, cross-attention over the prompt, feed-forward; pre-norm, the
/// first and last modulated by the timestep (`wan/modules/model.py`, WanAttentionBlock).
struct WanBlock: Sendable {
  let layer: Int
  private let configuration: TransformerConfiguration
  private let backend: any Backend
  /// `[6, d]`: shift, scale, gate of self-attention, then of the feed-forward layers.
  private let modulation: DeviceTensor
  private let selfAttention: AttentionWeights
  private let crossNorm: (weight: DeviceTensor, bias: DeviceTensor)
  private let crossAttention: AttentionWeights
  private let feedForward: (LinearWeight, LinearWeight)

  private struct AttentionWeights: Sendable {
    let q, k, v, o: LinearWeight
    let queryNorm, keyNorm: DeviceTensor
  }

  init(
    layer: Int, configuration: TransformerConfiguration, on backend: any Backend,
    linear: (String) throws -> LinearWeight, vector: (String) throws -> DeviceTensor
  ) throws {
    self.layer = layer
    self.configuration = configuration
    self.backend = backend
    modulation = try vector("modulation").reshaped([6, configuration.width])
    func attention(_ name: String) throws -> AttentionWeights {
      AttentionWeights(
        q: try linear(name + ".q"), k: try linear(name + ".k"), v: try linear(name + ".v"), o: try linear(name + ".o"),
        queryNorm: try vector(name + ".norm_q.weight"), keyNorm: try vector(name + ".norm_k.weight"))
    }
    selfAttention = try attention("self_attn")
    crossAttention = try attention("cross_attn")
    crossNorm = (try vector("norm3.weight"), try vector("norm3.bias"))
    feedForward = (try linear("ffn.0"), try linear("ffn.2"))
  }

  private var scale: Float { 1 / Float(configuration.headDim).squareRoot() }

  /// Keys and values of the embedded prompt `[rows, d]`.
  func context(_ text: DeviceTensor) -> TextContext.Layer {
    let keys = backend.linear(text, crossAttention.k, activation: .none)
    return TextContext.Layer(
      keys: backend.rmsNorm(keys, epsilon: configuration.epsilon, weight: crossAttention.keyNorm, rotary: nil),
      values: backend.linear(text, crossAttention.v, activation: .none))
  }

  /// x `[tokens, d]` → `[tokens, d]`; nil once keys and values are written, with `onlyMemory`.
  func forward(
    _ x: DeviceTensor, modulation time: DeviceTensor, groups: DeviceIndices, rotary: Rotary, text: TextContext,
    memory: KVMemory, onlyMemory: Bool
  ) -> DeviceTensor? {
    let epsilon = configuration.epsilon
    let table = backend.add(time, modulation)
    func row(_ i: Int) -> ModulationRow { ModulationRow(table: table, row: i, groups: groups) }

    let a = backend.layerNorm(x, epsilon: epsilon, shift: row(0), scale: row(1))
    let wanted = [selfAttention.k, selfAttention.v] + (onlyMemory && !memory.observesQueries ? [] : [selfAttention.q])
    let rows = backend.linears(a, wanted)
    memory.write(
      layer: layer, keys: rows[0], norm: selfAttention.keyNorm, epsilon: epsilon, values: rows[1], rotary: rotary)
    guard rows.count > 2 else { return nil }
    let queries = backend.rmsNorm(rows[2], epsilon: epsilon, weight: selfAttention.queryNorm, rotary: rotary)
    if onlyMemory {
      memory.observe(layer: layer, queries: queries, scale: scale)
      return nil
    }
    let seen = memory.attend(layer: layer, queries: queries, scale: scale)
    let x1 = backend.linear(seen, selfAttention.o, addedTo: x, gate: row(2))

    let b = backend.layerNorm(x1, epsilon: epsilon, weight: crossNorm.weight, bias: crossNorm.bias)
    let questions = backend.rmsNorm(
      backend.linear(b, crossAttention.q, activation: .none), epsilon: epsilon, weight: crossAttention.queryNorm,
      rotary: nil)
    let context = text.layers[layer]
    let answers = backend.attention(
      queries: questions, keys: context.keys, values: context.values, heads: configuration.heads, scale: scale,
      bias: text.bias)
    let x2 = backend.linear(answers, crossAttention.o, addedTo: x1, gate: nil)

    let g = backend.layerNorm(x2, epsilon: epsilon, shift: row(3), scale: row(4))
    let hidden = backend.linear(g, feedForward.0, activation: .geluTanh)
    return backend.linear(hidden, feedForward.1, addedTo: x2, gate: row(5))
  }
}
