/// What is wrong with a `tokenizer.json`: the file, the field, and what it says.
public struct TokenizerError: Error, Equatable, Sendable, CustomStringConvertible {
  public let path: String
  /// The field, as `normalizer` or `model.vocab`; nil for the file as a whole.
  public let field: String?
  public let reason: String

  public var description: String { field.map { "\(path): \($0): \(reason)" } ?? "\(path): \(reason)" }
}

/// Why a part of a field cannot be obeyed, before the field's name is known.
struct Refusal: Error {
  let reason: String
}

/// A field that cannot be obeyed, before the file's name is known.
struct TokenizerFieldError: Error {
  let field: String
  let reason: String
}
