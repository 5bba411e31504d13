/// Sizes of a UMT5 encoder; names as in the `config.json` of transformers.
public struct UMT5Configuration: Sendable, Equatable {
  /// Rows of the embedding, at least the tokenizer's largest id + 1.
  public var vocabularyRows = 256_384
  /// Width of the residual stream, d.
  public var width = 4096
  public var heads = 64
  /// Width of a head; `heads * headDim` need not be `width`.
  public var headDim = 64
  /// Width of the gated feed-forward layer.
  public var hidden = 10_240
  public var layers = 24
  /// Buckets of the relative position bias, both directions together.
  public var buckets = 32
  /// Distance from which on all keys share a bucket.
  public var maxDistance = 128
  public var epsilon: Float = 1e-6

  /// UMT5-XXL, the text encoder of Wan 2.1 and its descendants.
  public init() {}

  /// Reads the `config.json` of transformers; what it does not say keeps the value of UMT5-XXL.
  ///
  /// - Throws: ``ModelError/configuration(path:problem:)`` if the file is none of a gated-GELU UMT5.
  public init(path: String) throws {
    let json = try ConfigurationFile(path: path)
    self.init()
    try json.requireClass("umt5", key: "model_type")
    try json.requireClass("gated-gelu", key: "feed_forward_proj")
    vocabularyRows = try json.positive("vocab_size", default: vocabularyRows)
    width = try json.positive("d_model", default: width)
    heads = try json.positive("num_heads", default: heads)
    headDim = try json.positive("d_kv", default: headDim)
    hidden = try json.positive("d_ff", default: hidden)
    layers = try json.positive("num_layers", default: layers)
    buckets = try json.positive("relative_attention_num_buckets", default: buckets)
    maxDistance = try json.positive("relative_attention_max_distance", default: maxDistance)
    if let value = json.value("layer_norm_epsilon") as? Double { epsilon = Float(value) }
    guard max(width, hidden) <= 1 << 20, vocabularyRows <= 1 << 28, max(layers, heads, headDim) <= 4096 else {
      throw json.problem("absurd sizes: \(layers) layers, \(heads) heads of \(headDim), width \(width), ffn \(hidden)")
    }
    guard buckets % 4 == 0, buckets <= 4096, maxDistance > buckets / 4, maxDistance <= 1 << 20 else {
      throw json.problem("\(buckets) buckets up to distance \(maxDistance) do not make a position bias")
    }
  }

  /// The tensors of `text_encoder/` and of `models_t5_umt5-xxl-enc-bf16.pth`: 10 per layer and 2.
  public var weightTable: WeightTable {
    var table = WeightTable(module: "a UMT5 encoder of \(layers) layers and \(heads) heads")
    // The encoder's embedding is the shared one, which some files hold a second time.
    table.ignored = ["encoder.embed_tokens.weight"]
    let inner = heads * headDim
    table.add("token_embedding.weight", converted: "shared.weight", [vocabularyRows, width])
    for i in 0..<layers {
      func add(_ name: String, _ converted: String, _ shape: [Int]) {
        table.add("blocks.\(i).\(name).weight", converted: "encoder.block.\(i).layer.\(converted).weight", shape)
      }
      add("norm1", "0.layer_norm", [width])
      for part in ["q", "k", "v"] { add("attn.\(part)", "0.SelfAttention.\(part)", [inner, width]) }
      add("attn.o", "0.SelfAttention.o", [width, inner])
      add("pos_embedding.embedding", "0.SelfAttention.relative_attention_bias", [buckets, heads])
      add("norm2", "1.layer_norm", [width])
      add("ffn.gate.0", "1.DenseReluDense.wi_0", [hidden, width])
      add("ffn.fc1", "1.DenseReluDense.wi_1", [hidden, width])
      add("ffn.fc2", "1.DenseReluDense.wo", [width, hidden])
    }
    table.add("norm.weight", converted: "encoder.final_layer_norm.weight", [width])
    return table
  }
}
