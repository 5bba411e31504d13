/// The transformer's tensors under both naming schemes: the one table.
///
/// The engine's own names are the original ones of Wan (`wan/modules/model.py`); diffusers renames them (its
/// `convert_wan_to_diffusers.py`). Nothing is transposed between the two.
enum TransformerNames {
  /// Original stem and diffusers stem, outside the blocks.
  static let outer: [(original: String, diffusers: String)] = [
    ("patch_embedding", "patch_embedding"),
    ("text_embedding.0", "condition_embedder.text_embedder.linear_1"),
    ("text_embedding.2", "condition_embedder.text_embedder.linear_2"),
    ("time_embedding.0", "condition_embedder.time_embedder.linear_1"),
    ("time_embedding.2", "condition_embedder.time_embedder.linear_2"),
    ("time_projection.1", "condition_embedder.time_proj"),
    ("head.head", "proj_out"),
  ]

  /// Original and diffusers stem, inside block i. The norm before cross-attention is `norm3` there and `norm2` here:
  /// the original counts by role, diffusers by order.
  static let inner: [(original: String, diffusers: String)] = [
    ("self_attn.q", "attn1.to_q"), ("self_attn.k", "attn1.to_k"), ("self_attn.v", "attn1.to_v"),
    ("self_attn.o", "attn1.to_out.0"), ("self_attn.norm_q", "attn1.norm_q"), ("self_attn.norm_k", "attn1.norm_k"),
    ("norm3", "norm2"),
    ("cross_attn.q", "attn2.to_q"), ("cross_attn.k", "attn2.to_k"), ("cross_attn.v", "attn2.to_v"),
    ("cross_attn.o", "attn2.to_out.0"), ("cross_attn.norm_q", "attn2.norm_q"), ("cross_attn.norm_k", "attn2.norm_k"),
    ("ffn.0", "ffn.net.0.proj"), ("ffn.2", "ffn.net.2"),
  ]

  /// Parameters without `.weight` or `.bias`.
  private static let modulations = (block: "modulation", diffusersBlock: "scale_shift_table", head: "head.modulation")

  /// Wrappers that training and re-packing leave in front of the names.
  private static let prefixes = ["model.diffusion_model.", "model._fsdp_wrapped_module.", "model."]

  private static let diffusersOuter = Dictionary(uniqueKeysWithValues: outer.map { ($0.diffusers, $0.original) })
  private static let diffusersInner = Dictionary(uniqueKeysWithValues: inner.map { ($0.diffusers, $0.original) })

  /// A stored name without wrappers.
  static func stripped(_ name: String) -> String {
    var name = name
    for prefix in prefixes where name.hasPrefix(prefix) {
      name.removeFirst(prefix.count)
      break
    }
    while let wrapper = name.range(of: "_fsdp_wrapped_module.") { name.removeSubrange(wrapper) }
    return name
  }

  /// Whether the names are those of diffusers.
  static func areDiffusers(_ names: [String]) -> Bool { names.contains { stripped($0) == "blocks.0.attn1.to_q.weight" } }

  /// The original name of a stored tensor; nil for diffusers' unused leftovers.
  static func original(_ stored: String, diffusers: Bool) -> String? {
    let name = stripped(stored)
    guard diffusers else { return name }
    if name.contains(".norm_added_q") { return nil }
    if name == modulations.diffusersBlock { return modulations.head }
    let parts = name.split(separator: ".", maxSplits: 2).map(String.init)
    if parts.count == 3, parts[0] == "blocks" {
      let (block, rest) = ("blocks.\(parts[1]).", parts[2])
      if rest == modulations.diffusersBlock { return block + modulations.block }
      return block + renamed(rest, diffusersInner)
    }
    return renamed(name, diffusersOuter)
  }

  /// Swaps the stem in front of `.weight` or `.bias`; other names stay and will not be known.
  private static func renamed(_ name: String, _ table: [String: String]) -> String {
    guard let dot = name.lastIndex(of: "."), let stem = table[String(name[..<dot])] else { return name }
    return stem + name[dot...]
  }

  /// The original names and shapes of a transformer's tensors.
  static func shapes(_ c: TransformerConfiguration) -> [String: [Int]] {
    let d = c.width
    var shapes: [String: [Int]] = [
      "patch_embedding.weight": [d, c.inputChannels, 1, 2, 2], "patch_embedding.bias": [d], "head.modulation": [1, 2, d],
    ]
    func linear(_ name: String, _ out: Int, _ input: Int) {
      shapes[name + ".weight"] = [out, input]
      shapes[name + ".bias"] = [out]
    }
    linear("text_embedding.0", d, c.textWidth)
    linear("text_embedding.2", d, d)
    linear("time_embedding.0", d, c.frequencies)
    linear("time_embedding.2", d, d)
    linear("time_projection.1", 6 * d, d)
    linear("head.head", 4 * c.outputChannels, d)
    for i in 0..<c.layers {
      let block = "blocks.\(i)."
      shapes[block + "modulation"] = [1, 6, d]
      for attention in ["self_attn", "cross_attn"] {
        for part in ["q", "k", "v", "o"] { linear(block + "\(attention).\(part)", d, d) }
        for norm in ["norm_q", "norm_k"] { shapes[block + "\(attention).\(norm).weight"] = [d] }
      }
      shapes[block + "norm3.weight"] = [d]
      shapes[block + "norm3.bias"] = [d]
      linear(block + "ffn.0", c.feedForward, d)
      linear(block + "ffn.2", d, c.feedForward)
    }
    return shapes
  }
}
