/// What is wrong with a file of tensors: one line that names the file, the tensor, what was found and what was wanted.
public struct TensorError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The kind of problem, for programs.
  public enum Problem: Sendable, Equatable {
    /// The file cannot be opened or read.
    case unreadable
    /// The file cannot be created, written or renamed.
    case unwritable
    /// The disk is full, or the quota is used up.
    case noSpace
    /// The file ends before what its header promises.
    case truncated
    /// The header's length or text is not that of a safetensors file.
    case malformedHeader
    /// A name occurs twice.
    case duplicateName
    /// An element type that is unknown or not supported.
    case dtype
    /// A shape whose size cannot be computed, or that does not fit its bytes.
    case shape
    /// Byte ranges that overlap, leave holes, run backwards or leave the file.
    case offsets
    /// The index of a sharded checkpoint disagrees with its shards.
    case index
    /// There is no tensor of this name.
    case missingTensor
    /// A folder that holds no weights, or several files to choose from.
    case ambiguous
  }

  public let problem: Problem
  /// The file or folder.
  public let path: String
  /// The tensor, where it is about one.
  public let tensor: String?
  /// What was found, and what was wanted.
  public let reason: String

  public init(_ problem: Problem, path: String, tensor: String? = nil, _ reason: String) {
    self.problem = problem
    self.path = path
    self.tensor = tensor
    self.reason = reason
  }

  public var description: String {
    if let tensor { return "\(path): tensor '\(tensor)': \(reason)" }
    return "\(path): \(reason)"
  }
}
