extension TransformerConfiguration {
  /// The transformer's tensors under both naming schemes: the one table.
  ///
  /// diffusers renames the tensors of Wan (`convert_wan_to_diffusers.py`) and transposes none. Its block norms count by
  /// order where the original's count by role: the norm before cross-attention is `norm2` there and `norm3` here.
  public var weightTable: WeightTable {
    let d = width
    var table = WeightTable(module: "a Wan transformer of \(layers) layers and \(heads) heads of \(headDim)")
    table.prefixes = ["model.diffusion_model.", "model._fsdp_wrapped_module.", "model."]
    table.infixes = ["_fsdp_wrapped_module."]
    table.addLayer("patch_embedding", [d, inputChannels, 1, 2, 2])
    let embedder = "condition_embedder."
    table.addLayer("text_embedding.0", converted: embedder + "text_embedder.linear_1", [d, textWidth])
    table.addLayer("text_embedding.2", converted: embedder + "text_embedder.linear_2", [d, d])
    table.addLayer("time_embedding.0", converted: embedder + "time_embedder.linear_1", [d, frequencies])
    table.addLayer("time_embedding.2", converted: embedder + "time_embedder.linear_2", [d, d])
    table.addLayer("time_projection.1", converted: embedder + "time_proj", [6 * d, d])
    for i in 0..<layers {
      let block = "blocks.\(i)."
      table.add(block + "modulation", converted: block + "scale_shift_table", [1, 6, d])
      for (name, converted) in [("self_attn", "attn1"), ("cross_attn", "attn2")] {
        for part in ["q", "k", "v"] {
          table.addLayer(block + "\(name).\(part)", converted: block + "\(converted).to_\(part)", [d, d])
        }
        table.addLayer(block + "\(name).o", converted: block + "\(converted).to_out.0", [d, d])
        for norm in ["norm_q.weight", "norm_k.weight"] {
          table.add(block + "\(name).\(norm)", converted: block + "\(converted).\(norm)", [d])
        }
        table.ignored.insert(block + "\(converted).norm_added_q.weight")
      }
      table.addLayer(block + "norm3", converted: block + "norm2", [d])
      table.addLayer(block + "ffn.0", converted: block + "ffn.net.0.proj", [feedForward, d])
      table.addLayer(block + "ffn.2", converted: block + "ffn.net.2", [d, feedForward])
    }
    table.add("head.modulation", converted: "scale_shift_table", [1, 2, d])
    table.addLayer("head.head", converted: "proj_out", [4 * outputChannels, d])
    return table
  }

  /// Parameters of the transformer.
  public var parameters: Int { weightTable.parameters }
}
