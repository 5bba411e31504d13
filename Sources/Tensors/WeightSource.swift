/// Named tensors, wherever they come from: a file, shards, or memory.
public protocol WeightSource: Sendable {
  /// What error messages call it: a path.
  var label: String { get }
  /// The names of all tensors.
  var names: [String] { get }
  /// The shape of a tensor; nil if there is none of that name.
  func shape(of name: String) -> [Int]?
  /// The element type of a tensor; nil if there is none of that name.
  func dtype(of name: String) -> DType?
  /// A tensor's elements; throws if there is none of that name or it cannot be read.
  func tensor(_ name: String) throws -> Tensor
}

/// Weights that are made rather than read.
public struct WeightDictionary: WeightSource {
  public let label: String
  public var tensors: [String: Tensor]

  public init(_ tensors: [String: Tensor], label: String) {
    self.label = label
    self.tensors = tensors
  }

  public var names: [String] { tensors.keys.sorted() }
  public func shape(of name: String) -> [Int]? { tensors[name]?.shape }
  public func dtype(of name: String) -> DType? { tensors[name]?.dtype }
  public func tensor(_ name: String) throws -> Tensor {
    guard let tensor = tensors[name] else { throw MissingTensor(name: name, label: label) }
    return tensor
  }

  /// There is no tensor of this name.
  public struct MissingTensor: Error, CustomStringConvertible {
    public let name: String
    public let label: String
    public var description: String { "\(label): no tensor '\(name)'" }
  }
}
