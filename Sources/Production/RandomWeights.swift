import Tensors
import WanModel

/// Weights of a Wan transformer made by a seeded generator, for benchmarks at sizes of which no weights are at hand.
///
/// Matrices are uniform with a variance of 1 / inputs, norms 1, biases and modulation small: numbers of the size that a
/// trained model has, so that nothing overflows and no page is alike. Made when they are asked for, the same each time.
struct RandomWeights: WeightSource {
  let label: String
  private let shapes: [String: [Int]]
  private let seeds: [String: UInt64]

  init(_ configuration: TransformerConfiguration, seed: UInt64) {
    label = "random weights of seed \(seed)"
    let entries = configuration.weightTable.entries
    shapes = Dictionary(uniqueKeysWithValues: entries.map { ($0.name, $0.shape) })
    seeds = Dictionary(
      uniqueKeysWithValues: entries.enumerated().map { ($1.name, seed &* 0x9E37_79B9_7F4A_7C15 &+ UInt64($0)) })
  }

  var names: [String] { shapes.keys.sorted() }
  func shape(of name: String) -> [Int]? { shapes[name] }
  func dtype(of name: String) -> DType? { shapes[name] == nil ? nil : .f32 }

  func tensor(_ name: String) throws -> Tensor {
    guard let shape = shapes[name], let seed = seeds[name] else {
      throw RunError("\(label): no tensor '\(name)'")
    }
    let count = shape.reduce(1, *)
    let isNorm = name.contains("norm") && name.hasSuffix(".weight")
    let inputs = Float(shape.dropFirst().reduce(1, *))
    let amplitude: Float = isNorm ? 0 : shape.count > 1 && name.hasSuffix(".weight") ? (3 / inputs).squareRoot() : 0.02
    return Tensor(
      RandomWeights.uniform(count, seed: seed, amplitude: amplitude, offset: isNorm ? 1 : 0), shape: shape)
  }

  /// `count` numbers between `offset - amplitude` and `offset + amplitude`.
  static func uniform(_ count: Int, seed: UInt64, amplitude: Float, offset: Float = 0) -> [Float] {
    // A linear congruential generator (Knuth's MMIX), its upper bits.
    var state = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return (0..<count).map { _ in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return offset + amplitude * (Float(state >> 40) / Float(1 << 23) - 1)
    }
  }
}
