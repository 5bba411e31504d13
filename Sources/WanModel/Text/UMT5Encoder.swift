import Compute
import Tensors

/// The UMT5 text encoder: token ids in, one row per token out.
///
/// Pre-norm blocks without any bias or attention scale; every layer has its own relative position bias. Runs at the true
/// length: padded keys would have weight zero, and the bias depends on distance only, so this is exact.
/// Formulas: `transformers` `modeling_umt5.py`, Wan 2.1 `wan/modules/t5.py`.
public struct UMT5Encoder: Sendable {
  public let configuration: UMT5Configuration
  private let weights: CheckedWeights
  private let label: String
  private let backend: any Backend
  private let embedding: Tensor
  private let finalNorm: DeviceTensor
  // Empty if layers are prepared one by one.
  private let layers: [Layer]

  /// Checks the weights and takes them over.
  ///
  /// - Parameter keepsWeights: `false` prepares each layer when its turn comes and drops it after, which bounds the
  ///   memory of a large encoder by one layer, at the price of preparing all of them for each prompt.
  /// - Throws: ``ModelError/weights(module:label:missing:extra:misshapen:)``, or what reading a tensor throws.
  public init(
    _ configuration: UMT5Configuration, weights source: any WeightSource, on backend: any Backend,
    keepsWeights: Bool = true
  ) throws {
    let weights = try configuration.weightTable.check(source)
    label = source.label
    self.configuration = configuration
    self.weights = weights
    self.backend = backend
    embedding = try weights.tensor("token_embedding.weight")
    finalNorm = backend.upload(try weights.tensor("norm.weight"))
    layers =
      keepsWeights ? try (0..<configuration.layers).map { try Layer($0, weights, backend) } : []
  }

  /// The encoder's rows of a prompt, `[ids.count, width]`, `</s>` included.
  ///
  /// - Throws: ``ModelError/configuration(path:problem:)`` if tokenizer and encoder do not belong together.
  public func encode(ids: [Int32]) throws -> DeviceTensor {
    precondition(!ids.isEmpty, "a prompt has at least its end token")
    if let wrong = ids.first(where: { $0 < 0 || Int($0) >= configuration.vocabularyRows }) {
      throw ModelError.configuration(
        path: label,
        problem: "token \(wrong) has no row in the embedding of \(configuration.vocabularyRows) rows; "
          + "the tokenizer belongs to another text encoder")
    }
    let distances = biasIndices(length: ids.count)
    var x = backend.upload(embedding.rows(ids.map(Int.init)))
    for i in 0..<configuration.layers {
      let layer = try layers.isEmpty ? Layer(i, weights, backend) : layers[i]
      x = layer.forward(x, distances: distances, configuration, backend)
    }
    return backend.rmsNorm(x, epsilon: configuration.epsilon, weight: finalNorm, rotary: nil)
  }

  // Where the bias of head h and distance j - (length - 1) stands in a table [buckets, heads]: [heads, 2 length - 1].
  private func biasIndices(length: Int) -> DeviceIndices {
    let bucket = RelativePositionBuckets(buckets: configuration.buckets, maxDistance: configuration.maxDistance)
    let heads = configuration.heads
    let buckets = (1 - length..<length).map { bucket($0) }
    let indices = (0..<heads).flatMap { head in buckets.map { Int32($0 * heads + head) } }
    return backend.upload(indices: indices, shape: [heads, buckets.count])
  }

  private struct Layer: Sendable {
    let attentionNorm, feedForwardNorm: DeviceTensor
    let query, key, value, output: LinearWeight
    let gate, linear, down: LinearWeight
    // [buckets, heads]
    let bias: DeviceTensor

    init(_ i: Int, _ weights: CheckedWeights, _ backend: any Backend) throws {
      func matrix(_ name: String) throws -> LinearWeight {
        backend.prepareLinear(
          weight: try weights.tensor("blocks.\(i).\(name).weight"), bias: nil, role: .sensitive)
      }
      func tensor(_ name: String) throws -> DeviceTensor {
        backend.upload(try weights.tensor("blocks.\(i).\(name).weight"))
      }
      attentionNorm = try tensor("norm1")
      query = try matrix("attn.q")
      key = try matrix("attn.k")
      value = try matrix("attn.v")
      output = try matrix("attn.o")
      bias = try tensor("pos_embedding.embedding")
      feedForwardNorm = try tensor("norm2")
      gate = try matrix("ffn.gate.0")
      linear = try matrix("ffn.fc1")
      down = try matrix("ffn.fc2")
    }

    // x [length, width]
    func forward(_ x: DeviceTensor, distances: DeviceIndices, _ c: UMT5Configuration, _ backend: any Backend)
      -> DeviceTensor
    {
      let a = backend.rmsNorm(x, epsilon: c.epsilon, weight: attentionNorm, rotary: nil)
      let attended = backend.attention(
        queries: backend.linear(a, query, activation: .none), keys: backend.linear(a, key, activation: .none),
        values: backend.linear(a, value, activation: .none), heads: c.heads, scale: 1,
        bias: .relative(backend.gather(bias, distances, shape: distances.shape)))
      let y = backend.linear(attended, output, addedTo: x, gate: nil)
      let b = backend.rmsNorm(y, epsilon: c.epsilon, weight: feedForwardNorm, rotary: nil)
      let gated = backend.multiply(
        backend.linear(b, gate, activation: .geluTanh), backend.linear(b, linear, activation: .none))
      return backend.linear(gated, down, addedTo: y, gate: nil)
    }
  }
}
