import Tensors

/// A transformer's weights with a low-rank addition (LoRA) merged in: `W + alpha / r * B A` for each layer that has one.
///
/// Names are PEFT's, `<layer>.lora_A.weight` `[r, inputs]` and `<layer>.lora_B.weight` `[outputs, r]`, with or without
/// `base_model.model.` in front; `alpha` is a number in the file's metadata, r without it. Each tensor is merged when it is
/// asked for, in float32.
struct LowRankWeights: WeightSource {
  private let base: any WeightSource
  private let addition: TensorArchive
  private let scale: Float?
  /// By the base's name of a weight, the addition's layer.
  private let layers: [String: String]

  /// Checks that all of `addition` belongs to `base`.
  /// - Throws: ``ModelError/weights(module:label:missing:extra:misshapen:)`` listing every difference, or
  ///   ``ModelError/configuration(path:problem:)`` for an alpha that is no number.
  init(_ base: any WeightSource, adding addition: TensorArchive) throws {
    self.base = base
    self.addition = addition
    if let alpha = addition.metadata["alpha"] {
      guard let number = Float(alpha), number.isFinite else {
        throw ModelError.configuration(
          path: addition.label, problem: "its metadata has alpha '\(alpha)', wanted a number")
      }
      scale = number
    } else {
      scale = nil
    }
    let (first, second, wrapper) = (".lora_A.weight", ".lora_B.weight", "base_model.model.")
    var layers: [String: String] = [:]
    var (missing, extra, misshapen) = ([String](), [String](), [String]())
    for name in addition.names {
      if name.hasSuffix(second) {
        let partner = name.dropLast(second.count) + first
        if !addition.contains(String(partner)) { missing.append(String(partner)) }
        continue
      }
      guard name.hasSuffix(first) else {
        extra.append(name)
        continue
      }
      let layer = String(name.dropLast(first.count))
      let weight = (layer.hasPrefix(wrapper) ? String(layer.dropFirst(wrapper.count)) : layer) + ".weight"
      guard let found = base.shape(of: weight) else {
        extra.append("\(name) (the transformer has no \(weight))")
        continue
      }
      guard let a = addition.shape(of: name), let b = addition.shape(of: layer + second) else {
        missing.append(layer + second)
        continue
      }
      guard a.count == 2, b.count == 2, a[0] == b[1], a[0] > 0, [b[0], a[1]] == found else {
        misshapen.append("\(name) (found \(a) and \(b) for a weight of \(found))")
        continue
      }
      layers[weight] = layer
    }
    guard missing.isEmpty, extra.isEmpty, misshapen.isEmpty else {
      throw ModelError.weights(
        module: "a low-rank addition to this transformer", label: addition.label, missing: missing, extra: extra,
        misshapen: misshapen)
    }
    self.layers = layers
  }

  var label: String { base.label }
  var names: [String] { base.names }
  func shape(of name: String) -> [Int]? { base.shape(of: name) }
  func dtype(of name: String) -> DType? { layers[name] == nil ? base.dtype(of: name) : .f32 }

  func tensor(_ name: String) throws -> Tensor {
    let weight = try base.tensor(name)
    guard let layer = layers[name] else { return weight }
    let a = try addition.tensor(layer + ".lora_A.weight")
    let b = try addition.tensor(layer + ".lora_B.weight")
    let (rank, inputs, outputs) = (a.shape[0], a.shape[1], b.shape[0])
    let factor = (scale ?? Float(rank)) / Float(rank)
    let (down, up) = (a.floats(), b.floats())
    var sum = weight.floats()
    for o in 0..<outputs {
      for k in 0..<rank {
        let weight = factor * up[o * rank + k]
        for i in 0..<inputs { sum[o * inputs + i] += weight * down[k * inputs + i] }
      }
    }
    return Tensor(sum, shape: weight.shape)
  }
}
