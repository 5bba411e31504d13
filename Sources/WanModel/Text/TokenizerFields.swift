import Tensors

/// An object of `tokenizer.json` and the name of its field, with accessors that refuse what they do not expect.
struct TokenizerFields {
  let field: String
  let members: [String: JSONValue]

  init(_ value: JSONValue, _ field: String) throws(TokenizerFieldError) {
    guard case .object(let members) = value else {
      throw TokenizerFieldError(field: field, reason: "wanted an object")
    }
    self.field = field
    self.members = members
  }

  /// The value of `type`, by which parts are told apart.
  func type() throws(TokenizerFieldError) -> String { try string("type") }

  func fail(_ reason: String) -> TokenizerFieldError { TokenizerFieldError(field: field, reason: reason) }

  func isAbsent(_ name: String) -> Bool { members[name] == nil || members[name] == .null }

  func string(_ name: String) throws(TokenizerFieldError) -> String {
    guard case .string(let text) = members[name] else { throw fail("wanted a text '\(name)'") }
    return text
  }

  func boolean(_ name: String, default fallback: Bool? = nil) throws(TokenizerFieldError) -> Bool {
    if let fallback, isAbsent(name) { return fallback }
    guard case .boolean(let value) = members[name] else { throw fail("wanted true or false for '\(name)'") }
    return value
  }

  func array(_ name: String) throws(TokenizerFieldError) -> [JSONValue] {
    guard case .array(let elements) = members[name] else { throw fail("wanted an array '\(name)'") }
    return elements
  }

  /// A token id: a whole number from 0 to 2^31 - 1.
  func id(_ name: String) throws(TokenizerFieldError) -> Int32 {
    guard let value = members[name], let id = TokenizerFields.id(value) else {
      throw fail("wanted a token id '\(name)'")
    }
    return id
  }

  static func id(_ value: JSONValue) -> Int32? {
    guard case .number(let number) = value, let id = Int32(exactly: number), id >= 0 else { return nil }
    return id
  }
}
