/// A strict reader of JSON text that gives each member as it comes and refuses what lenient parsers let pass: names that
/// occur twice in an object, invalid UTF-8, lone surrogates, trailing text, deep nesting. Grammar: RFC 8259.
///
/// Values are pulled by the caller, who knows what he expects; nothing is boxed, so that a vocabulary of 256,000 pieces
/// is read in a fraction of a second.
package struct JSONReader {
  /// Where and why the text is not what was expected.
  package struct Failure: Error, Equatable, CustomStringConvertible {
    /// Byte offset into the text.
    package let offset: Int
    package let reason: String
    package var isDuplicate = false
    package var description: String { "\(reason) at byte \(offset)" }
  }

  package enum Kind: String, Sendable { case object, array, string, number, boolean, null }

  private static let deepest = 128
  private let bytes: [UInt8]
  private var at = 0
  private var depth = 0

  /// Begins to read `bytes`, which must be valid UTF-8.
  package init(_ bytes: [UInt8]) throws(Failure) {
    self.bytes = bytes
    if let offset = UTF8Check.firstInvalid(bytes) { throw Failure(offset: offset, reason: "invalid UTF-8") }
  }

  /// Byte offset of the next unread byte.
  package var offset: Int { at }

  /// The kind of the next value.
  package mutating func peek() throws(Failure) -> Kind {
    skipSpace()
    guard at < bytes.count else { throw fail("the text ends early") }
    switch bytes[at] {
    case UInt8(ascii: "{"): return .object
    case UInt8(ascii: "["): return .array
    case UInt8(ascii: "\""): return .string
    case UInt8(ascii: "t"), UInt8(ascii: "f"): return .boolean
    case UInt8(ascii: "n"): return .null
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number
    default: throw fail("no JSON value")
    }
  }

  /// Reads an object; `member` reads the value of each name. A name that occurs twice is an error.
  package mutating func object(_ member: (inout JSONReader, String) throws -> Void) throws {
    try open(UInt8(ascii: "{"), "an object")
    var names: Set<String> = []
    var first = true
    while try !close(UInt8(ascii: "}"), first: first) {
      first = false
      skipSpace()
      let start = at
      let name = try string()
      guard names.insert(name).inserted else {
        throw Failure(offset: start, reason: "the name '\(name)' occurs twice", isDuplicate: true)
      }
      skipSpace()
      guard at < bytes.count, bytes[at] == UInt8(ascii: ":") else { throw fail("no ':' after a name") }
      at += 1
      try member(&self, name)
    }
  }

  /// Reads an array; `element` reads each element.
  package mutating func array(_ element: (inout JSONReader) throws -> Void) throws {
    try open(UInt8(ascii: "["), "an array")
    var first = true
    while try !close(UInt8(ascii: "]"), first: first) {
      first = false
      try element(&self)
    }
  }

  /// Reads a string.
  package mutating func string() throws(Failure) -> String { String(decoding: try utf8(), as: UTF8.self) }

  /// Reads a string as UTF-8 bytes.
  package mutating func utf8() throws(Failure) -> [UInt8] {
    try expect(.string, "a string")
    at += 1
    let start = at
    while at < bytes.count, bytes[at] != UInt8(ascii: "\""), bytes[at] != UInt8(ascii: "\\"), bytes[at] >= 0x20 {
      at += 1
    }
    if at < bytes.count, bytes[at] == UInt8(ascii: "\"") {
      at += 1
      return Array(bytes[start..<at - 1])
    }
    var text = Array(bytes[start..<at])
    while true {
      guard at < bytes.count else { throw fail("a string does not end") }
      let byte = bytes[at]
      guard byte >= 0x20 else { throw fail("a control character in a string") }
      at += 1
      if byte == UInt8(ascii: "\"") { return text }
      if byte == UInt8(ascii: "\\") { try escape(into: &text) } else { text.append(byte) }
    }
  }

  /// Reads a whole number that is not negative and fits an `Int`.
  package mutating func count() throws(Failure) -> Int {
    try expect(.number, "a whole number")
    guard bytes[at] != UInt8(ascii: "-") else { throw fail("a negative number") }
    let start = at
    let lexeme = try number()
    guard lexeme.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else {
      throw Failure(offset: start, reason: "not a whole number")
    }
    guard let value = Int(String(decoding: lexeme, as: UTF8.self)) else {
      throw Failure(offset: start, reason: "a number too large for 63 bits")
    }
    return value
  }

  /// Reads a number.
  package mutating func double() throws(Failure) -> Double {
    try expect(.number, "a number")
    let start = at
    guard let value = Double(String(decoding: try number(), as: UTF8.self)), value.isFinite else {
      throw Failure(offset: start, reason: "a number out of range")
    }
    return value
  }

  /// Reads `true` or `false`.
  package mutating func boolean() throws(Failure) -> Bool {
    try expect(.boolean, "true or false")
    let value = bytes[at] == UInt8(ascii: "t")
    try word(value ? "true" : "false")
    return value
  }

  /// Reads `null` if that comes next.
  package mutating func null() throws(Failure) -> Bool {
    guard try peek() == .null else { return false }
    try word("null")
    return true
  }

  /// Reads any value and forgets it.
  package mutating func skip() throws {
    switch try peek() {
    case .object: try object { reader, _ in try reader.skip() }
    case .array: try array { try $0.skip() }
    case .string: _ = try utf8()
    case .number: _ = try number()
    case .boolean: _ = try boolean()
    case .null: _ = try null()
    }
  }

  /// Nothing but white space may follow.
  package mutating func end() throws(Failure) {
    skipSpace()
    guard at == bytes.count else { throw fail("text after the end") }
  }

  /// An error at the present place.
  package func fail(_ reason: String) -> Failure { Failure(offset: at, reason: reason) }

  private mutating func expect(_ kind: Kind, _ what: String) throws(Failure) {
    let found = try peek()
    guard found == kind else { throw fail("found \(found.rawValue), wanted \(what)") }
  }

  private mutating func skipSpace() {
    while at < bytes.count, bytes[at] == 0x20 || bytes[at] == 0x0A || bytes[at] == 0x0D || bytes[at] == 0x09 { at += 1 }
  }

  private mutating func open(_ bracket: UInt8, _ what: String) throws(Failure) {
    let found = try peek()
    guard bytes[at] == bracket else { throw fail("found \(found.rawValue), wanted \(what)") }
    at += 1
    depth += 1
    guard depth <= JSONReader.deepest else { throw fail("nested more than \(JSONReader.deepest) deep") }
  }

  /// Whether the closing bracket comes; reads it, or the comma before a further element.
  private mutating func close(_ bracket: UInt8, first: Bool) throws(Failure) -> Bool {
    skipSpace()
    guard at < bytes.count else { throw fail("the text ends early") }
    if bytes[at] == bracket {
      at += 1
      depth -= 1
      return true
    }
    if first { return false }
    guard bytes[at] == UInt8(ascii: ",") else { throw fail("no ',' between values") }
    at += 1
    return false
  }

  private mutating func word(_ word: StaticString) throws(Failure) {
    for i in 0..<word.utf8CodeUnitCount {
      guard at < bytes.count, bytes[at] == word.utf8Start[i] else { throw fail("no JSON value") }
      at += 1
    }
  }

  private mutating func digits() throws(Failure) {
    let start = at
    while at < bytes.count, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[at]) { at += 1 }
    guard at > start else { throw fail("a number without digits") }
  }

  private mutating func number() throws(Failure) -> ArraySlice<UInt8> {
    let start = at
    if bytes[at] == UInt8(ascii: "-") { at += 1 }
    let whole = at
    try digits()
    guard bytes[whole] != UInt8(ascii: "0") || at == whole + 1 else { throw fail("a number with a leading zero") }
    if at < bytes.count, bytes[at] == UInt8(ascii: ".") {
      at += 1
      try digits()
    }
    if at < bytes.count, bytes[at] | 0x20 == UInt8(ascii: "e") {
      at += 1
      if at < bytes.count, bytes[at] == UInt8(ascii: "+") || bytes[at] == UInt8(ascii: "-") { at += 1 }
      try digits()
    }
    return bytes[start..<at]
  }

  private mutating func escape(into text: inout [UInt8]) throws(Failure) {
    guard at < bytes.count else { throw fail("a string does not end") }
    let letter = bytes[at]
    at += 1
    switch letter {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(letter)
    case UInt8(ascii: "b"): text.append(0x08)
    case UInt8(ascii: "f"): text.append(0x0C)
    case UInt8(ascii: "n"): text.append(0x0A)
    case UInt8(ascii: "r"): text.append(0x0D)
    case UInt8(ascii: "t"): text.append(0x09)
    case UInt8(ascii: "u"):
      var code = try hex4()
      if (0xD800..<0xDC00).contains(code) {
        guard at + 1 < bytes.count, bytes[at] == UInt8(ascii: "\\"), bytes[at + 1] == UInt8(ascii: "u") else {
          throw fail("half of a surrogate pair")
        }
        at += 2
        let low = try hex4()
        guard (0xDC00..<0xE000).contains(low) else { throw fail("half of a surrogate pair") }
        code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(code) else { throw fail("half of a surrogate pair") }
      text.append(contentsOf: UTF8.encode(scalar).map { Array($0) } ?? [])
    default: throw fail("an unknown escape in a string")
    }
  }

  private mutating func hex4() throws(Failure) -> UInt32 {
    guard at + 4 <= bytes.count else { throw fail("a string does not end") }
    var code: UInt32 = 0
    for _ in 0..<4 {
      guard let digit = Character(Unicode.Scalar(bytes[at])).hexDigitValue else {
        throw fail("not four hexadecimal digits")
      }
      code = code << 4 | UInt32(digit)
      at += 1
    }
    return code
  }
}

/// Well-formed UTF-8 by table 3-7 of the Unicode standard: no overlong forms, no surrogates, nothing past U+10FFFF.
package enum UTF8Check {
  /// The offset of the first byte that belongs to no well-formed sequence; nil if there is none.
  package static func firstInvalid(_ bytes: [UInt8]) -> Int? {
    var i = 0
    while i < bytes.count {
      let lead = bytes[i]
      if lead < 0x80 {
        i += 1
        continue
      }
      let (length, low, high): (Int, UInt8, UInt8) =
        switch lead {
        case 0xC2...0xDF: (2, 0x80, 0xBF)
        case 0xE0: (3, 0xA0, 0xBF)
        case 0xED: (3, 0x80, 0x9F)
        case 0xE1...0xEF: (3, 0x80, 0xBF)
        case 0xF0: (4, 0x90, 0xBF)
        case 0xF1...0xF3: (4, 0x80, 0xBF)
        case 0xF4: (4, 0x80, 0x8F)
        default: (0, 0, 0)
        }
      guard length > 0, i + length <= bytes.count, (low...high).contains(bytes[i + 1]) else { return i }
      for k in 2..<max(length, 2) where bytes[i + k] & 0xC0 != 0x80 { return i }
      i += length
    }
    return nil
  }
}
