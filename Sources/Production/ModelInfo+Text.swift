extension ModelInfo {
  /// The facts for people.
  public var text: String {
    var lines = [
      "\(name)  (\(path))",
      "kind         Wan transformer, causal use: \(layers) layers, \(heads) heads of \(headDim), feed-forward \(feedForward), "
        + "text \(textWidth)",
      "size         \(width)x\(height) at \(fps) fps",
      "rollout      chunks of \(chunkFrames) latent frames, window \(windowFrames), sink \(sinkFrames); trained on \(trainedFrames)",
      "steps        \(steps.count): " + steps.map { "\(($0 * 10).rounded() / 10)" }.joined(separator: ", ")
        + (distilled ? "" : "  (not distilled)"),
      "decoder      \(autoencoder ?? "none")",
    ]
    for part in parts {
      let types = part.dtypes.sorted { $0.value > $1.value }.map { "\($0.key) x \($0.value)" }.joined(separator: ", ")
      let name = part.part + String(repeating: " ", count: max(1, 13 - part.part.count))
      lines.append("\(name)\(Format.count(part.parameters)) parameters, \(Format.bytes(part.bytes)), \(types)")
      if let problem = part.problem { lines.append("  problem: \(problem)") }
    }
    lines.append("lora         " + (lora.isEmpty ? "none" : lora.joined(separator: ", ")))
    lines += missing.map { "missing: \($0)" } + warnings.map { "warning: \($0)" }
    lines.append(
      "this machine \(threads) core\(threads == 1 ? "" : "s"), kernels for \(simd), keys and values in \(kvFormat), "
        + "layers in \(precision)")
    for (name, kernel) in kernels.sorted(by: { $0.key < $1.key }) {
      lines.append("  --precision \(name) multiplies by \(kernel)" + (name == precision ? " (default)" : ""))
    }
    return lines.joined(separator: "\n")
  }
}
