import Tensors

/// What is wrong with a model's files; says the file, the tensor, what was found and what was wanted.
public enum ModelError: Error, CustomStringConvertible {
  /// Tensors that are missing, left over or of the wrong shape: all of them, in one message.
  case weights(module: String, label: String, missing: [String], extra: [String], misshapen: [String])
  /// A configuration that cannot be read or that asks for something that this engine does not have.
  case configuration(path: String, problem: String)
  /// A folder that is not a model.
  case folder(path: String, problem: String)

  public var description: String {
    switch self {
    case .weights(let module, let label, let missing, let extra, let misshapen):
      let parts = [("missing", missing), ("not expected", extra), ("of the wrong shape or type", misshapen)]
        .filter { !$0.1.isEmpty }
        .map { kind, names in
          let shown = names.prefix(6).joined(separator: ", ")
          return "\(names.count) \(kind): \(shown)" + (names.count > 6 ? ", and \(names.count - 6) more" : "")
        }
      return "\(label): these are not the weights of \(module); tensors \(parts.joined(separator: "; "))"
    case .configuration(let path, let problem), .folder(let path, let problem): return "\(path): \(problem)"
    }
  }
}

/// The weights of one module, checked as a whole before the first is used.
///
/// Stored names are turned into the module's own names first; see ``WeightTable``.
struct CheckedWeights {
  private let source: any WeightSource
  private let stored: [String: String]

  /// - Parameters:
  ///   - expected: The module's names and shapes.
  ///   - canonical: The module's name of a stored tensor; nil for one to ignore.
  /// - Throws: ``ModelError/weights(module:label:missing:extra:misshapen:)`` listing every difference.
  init(_ source: any WeightSource, module: String, expected: [String: [Int]], canonical: (String) -> String?) throws {
    self.source = source
    var stored: [String: String] = [:]
    var (extra, misshapen) = ([String](), [String]())
    for name in source.names {
      guard let own = canonical(name) else { continue }
      guard let wanted = expected[own] else {
        extra.append(name)
        continue
      }
      if let other = stored[own] {
        extra.append("\(name) (the same as \(other))")
        continue
      }
      stored[own] = name
      let found = source.shape(of: name) ?? []
      if found != wanted { misshapen.append("\(name) (found \(found), wanted \(wanted))") }
      if let dtype = source.dtype(of: name), ![.f32, .bf16, .f16].contains(dtype) {
        misshapen.append("\(name) (found \(dtype), wanted f32, bf16 or f16)")
      }
    }
    let missing = expected.keys.filter { stored[$0] == nil }.sorted()
    guard missing.isEmpty, extra.isEmpty, misshapen.isEmpty else {
      let wanted = missing.map { "\($0) \(expected[$0] ?? [])" }
      throw ModelError.weights(
        module: module, label: source.label, missing: wanted, extra: extra.sorted(), misshapen: misshapen.sorted())
    }
    self.stored = stored
  }

  /// A tensor by the module's own name.
  func tensor(_ name: String) throws -> Tensor {
    guard let found = stored[name] else { preconditionFailure("'\(name)' is not among the names that were checked") }
    return try source.tensor(found)
  }
}
