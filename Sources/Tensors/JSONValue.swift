/// Any JSON value, for the small parts of a file whose shape depends on what they say.
package enum JSONValue: Sendable, Equatable {
  case null
  case boolean(Bool)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object([String: JSONValue])
}

extension JSONReader {
  /// Reads any value.
  package mutating func value() throws -> JSONValue {
    switch try peek() {
    case .object:
      var members: [String: JSONValue] = [:]
      try object { reader, name in members[name] = try reader.value() }
      return .object(members)
    case .array:
      var elements: [JSONValue] = []
      try array { elements.append(try $0.value()) }
      return .array(elements)
    case .string: return .string(try string())
    case .number: return .number(try double())
    case .boolean: return .boolean(try boolean())
    case .null:
      _ = try null()
      return .null
    }
  }
}
