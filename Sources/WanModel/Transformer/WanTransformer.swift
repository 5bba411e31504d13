import Compute
import SparseAttention
import Tensors

/// The Wan video transformer: text-conditioned, with per-frame timesteps, reading and writing a paged memory.
///
/// One forward serves both uses. Chunk by chunk, `memory` holds earlier chunks and the call's frames attend to them and
/// to each other. For a whole clip at once the memory is empty and the call brings all frames. Neither needs a mask:
/// causality comes from what is in memory (Self-Forcing, `wan/modules/causal_model.py`).
public final class WanTransformer: Sendable {
  public let configuration: TransformerConfiguration
  private let backend: any Backend
  private let patchEmbedding: LinearWeight
  private let textEmbedding: (LinearWeight, LinearWeight)
  private let timeEmbedding: (LinearWeight, LinearWeight)
  private let timeProjection: LinearWeight
  private let blocks: [WanBlock]
  private let head: LinearWeight
  /// `[d]` each.
  private let headShift: DeviceTensor
  private let headScale: DeviceTensor

  /// Takes over the weights, under original or diffusers names, with any of the usual prefixes.
  /// - Throws: ``ModelError/weights(module:label:missing:extra:misshapen:)``, or what reading a tensor throws.
  public init(_ configuration: TransformerConfiguration, weights source: any WeightSource, on backend: any Backend)
    throws
  {
    let weights = try configuration.weightTable.check(source)
    self.configuration = configuration
    self.backend = backend
    func linear(_ name: String, _ role: LinearRole = .sensitive) throws -> LinearWeight {
      let weight = try weights.tensor(name + ".weight")
      return backend.prepareLinear(
        weight: weight.reshaped([weight.shape[0], weight.count / weight.shape[0]]),
        bias: try weights.tensor(name + ".bias"), role: role)
    }
    func vector(_ name: String) throws -> DeviceTensor { backend.upload(try weights.tensor(name)) }
    patchEmbedding = try linear("patch_embedding")
    textEmbedding = (try linear("text_embedding.0"), try linear("text_embedding.2"))
    timeEmbedding = (try linear("time_embedding.0"), try linear("time_embedding.2"))
    timeProjection = try linear("time_projection.1")
    head = try linear("head.head")
    let rows = try vector("head.modulation").reshaped([2, configuration.width])
    headShift = backend.slice(rows, 0..<1).reshaped([configuration.width])
    headScale = backend.slice(rows, 1..<2).reshaped([configuration.width])
    blocks = try (0..<configuration.layers).map { i in
      try WanBlock(
        layer: i, configuration: configuration, on: backend, linear: { try linear("blocks.\(i).\($0)", .block) },
        vector: { try vector("blocks.\(i).\($0)") })
    }
  }

  /// Keys and values of the prompt for every layer's cross-attention; computed once per prompt.
  ///
  /// Rows past the prompt are zero, become one constant row by the embedding's biases, and are attended: that row is
  /// kept once and weighs as many times as there are of it, by a bias of `ln n` on its logit (exact).
  ///
  /// - Parameter text: The text encoder's output `[length, textWidth]`, 1 to `textLength` rows.
  public func context(text: DeviceTensor) -> TextContext {
    let rows = text.shape[0]
    precondition(text.shape == [rows, configuration.textWidth] && rows >= 1 && rows <= configuration.textLength)
    let padding = configuration.textLength - rows
    let zero = Tensor([Float](repeating: 0, count: configuration.textWidth), shape: [1, configuration.textWidth])
    let padded = padding > 0 ? backend.concatenate([text, backend.upload(zero)]) : text
    let hidden = backend.linear(padded, textEmbedding.0, activation: .geluTanh)
    let embedded = backend.linear(hidden, textEmbedding.1, activation: .none)
    let bias = [Float](repeating: 0, count: rows) + (padding > 0 ? [Logarithm.natural(padding)] : [])
    return TextContext(
      layers: blocks.map { $0.context(embedded) }, bias: .perKey(backend.upload(Tensor(bias, shape: [bias.count]))))
  }

  /// Where the tokens of a chunk lie, for one latent size; the same for every chunk of a rollout.
  public func layout(geometry: PageGeometry, frames: Int) -> TokenLayout {
    TokenLayout(geometry: geometry, frames: frames, configuration: configuration, on: backend)
  }

  /// One pass over one chunk.
  ///
  /// - Parameters:
  ///   - latents: `[frames, inputChannels, height, width]`.
  ///   - timesteps: 1000 sigma, one per frame, not rounded.
  ///   - text: Of ``context(text:)``.
  ///   - layout: Of ``layout(geometry:frames:)``.
  ///   - memory: Begun for as many frames.
  ///   - onlyMemory: Only write keys and values (a clean pass whose output nobody needs).
  /// - Returns: The flow `[frames, outputChannels, height, width]`; nil with `onlyMemory`.
  public func forward(
    _ latents: DeviceTensor, timesteps: [Float], text: TextContext, layout: TokenLayout, memory: KVMemory,
    onlyMemory: Bool = false
  ) -> DeviceTensor? {
    let (frames, d) = (layout.frames, configuration.width)
    precondition(
      latents.shape[0] == frames && timesteps.count == frames, "\(latents.shape), \(timesteps.count) timesteps")
    let sinusoid = backend.upload(TimeSinusoid.rows(timesteps, count: configuration.frequencies))
    let time = backend.linear(
      backend.linear(sinusoid, timeEmbedding.0, activation: .silu), timeEmbedding.1, activation: .none)
    let modulation = backend.linear(backend.activate(time, .silu), timeProjection, activation: .none)
      .reshaped([frames, 6, d])
    let rotary = memory.rotation.rotary(layout.tokens, framePositions: memory.positions, on: backend)
    let patches = backend.gather(latents, layout.patches, shape: [layout.tokens.count, patchEmbedding.inputs])
    var x = backend.linear(patches, patchEmbedding, activation: .none)
    for block in blocks {
      let last = onlyMemory && block.layer == configuration.layers - 1
      guard
        let next = block.forward(
          x, modulation: modulation, groups: layout.frameOfToken, rotary: rotary, text: text, memory: memory,
          onlyMemory: last)
      else { return nil }
      x = next
    }
    func row(_ parameter: DeviceTensor) -> ModulationRow {
      ModulationRow(table: backend.add(time, parameter).reshaped([frames, 1, d]), row: 0, groups: layout.frameOfToken)
    }
    x = backend.layerNorm(x, epsilon: configuration.epsilon, shift: row(headShift), scale: row(headScale))
    let shape = [frames, configuration.outputChannels, latents.shape[2], latents.shape[3]]
    return backend.gather(backend.linear(x, head, activation: .none), layout.pixels, shape: shape)
  }
}

/// Keys and values of one prompt.
public struct TextContext: Sendable {
  struct Layer: Sendable {
    let keys: DeviceTensor
    let values: DeviceTensor
  }
  let layers: [Layer]
  let bias: AttentionBias
}
