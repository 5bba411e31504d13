/// Character references of HTML 5, by name and by number.
enum HTMLEntities {
  struct Entity {
    let text: String
    /// Old names are understood without a semicolon too.
    let needsSemicolon: Bool
  }

  /// Names without `&` and `;`.
  static let named: [String: Entity] = {
    var entities: [String: Entity] = [:]
    for word in list.split(whereSeparator: { $0 == " " || $0 == "\n" }) {
      guard let sign = word.firstIndex(where: { $0 == ":" || $0 == "!" }) else { continue }
      var text = String.UnicodeScalarView()
      for code in word[word.index(after: sign)...].split(separator: ",") {
        if let scalar = UInt32(code, radix: 16).flatMap(Unicode.Scalar.init) { text.append(scalar) }
      }
      entities[String(word[..<sign])] = Entity(text: String(text), needsSemicolon: word[sign] == ":")
    }
    return entities
  }()

  /// All references as browsers read them, those without a semicolon too: Python's `html.unescape`.
  static func unescape(_ text: String) -> String {
    replaceReferences(text) { rest in
      if let (value, end) = number(rest) { return (value, end) }
      // At most 32 characters that may be in a name, and a semicolon.
      let name = rest.prefix(32).prefix { !"\t\n\u{C} <&#;".unicodeScalars.contains($0) }
      let hasSemicolon = name.endIndex < rest.endIndex && rest[name.endIndex] == ";"
      if hasSemicolon, let entity = named[string(name)] { return (entity.text, name.endIndex + 1) }
      for length in stride(from: name.count, through: 2, by: -1) {
        if let entity = named[string(name.prefix(length))], !entity.needsSemicolon {
          return (entity.text, name.startIndex + length)
        }
      }
      return nil
    }
  }

  /// Only references that end in a semicolon; also names in capitals, as `&EACUTE;`: `unescape_html` of ftfy.
  static func unescapeUnambiguous(_ text: String) -> String {
    replaceReferences(text) { rest in
      let isNumber = rest.first == "#"
      let body = rest.dropFirst(isNumber ? 1 : 0).prefix(24).prefix { $0.isASCII && $0.properties.isAlphanumeric }
      guard !body.isEmpty, body.endIndex < rest.endIndex, rest[body.endIndex] == ";" else { return nil }
      let end = body.endIndex + 1
      if isNumber {
        guard let (value, stop) = number(rest), stop == end else { return nil }
        return (value, end)
      }
      let name = string(body)
      if let entity = named[name] { return (entity.text, end) }
      let lower = name.lowercased()
      if name == name.uppercased(), lower != name, let entity = named[lower], unescape("&\(name);") == "&\(name);" {
        return (entity.text.uppercased(), end)
      }
      return nil
    }
  }

  private typealias Scalars = ArraySlice<Unicode.Scalar>

  private static func string(_ scalars: Scalars) -> String {
    var view = String.UnicodeScalarView()
    view.append(contentsOf: scalars)
    return String(view)
  }

  /// Calls `resolve` with what follows each `&`; it gives the replacement and the index behind the reference.
  private static func replaceReferences(_ text: String, _ resolve: (Scalars) -> (String, Int)?) -> String {
    guard text.utf8.contains(UInt8(ascii: "&")) else { return text }
    let scalars = Array(text.unicodeScalars)
    var out = String.UnicodeScalarView()
    var at = 0
    while at < scalars.count {
      if scalars[at] == "&", let (replacement, end) = resolve(scalars[(at + 1)...]) {
        out.append(contentsOf: replacement.unicodeScalars)
        at = end
      } else {
        out.append(scalars[at])
        at += 1
      }
    }
    return String(out)
  }

  /// `#`, decimal or `x` and hexadecimal digits, perhaps `;`, by the rules of the HTML standard for impossible numbers.
  private static func number(_ rest: Scalars) -> (String, Int)? {
    guard rest.first == "#" else { return nil }
    var digits = rest.dropFirst()
    let isHex = digits.first == "x" || digits.first == "X"
    if isHex { digits = digits.dropFirst() }
    digits = digits.prefix { $0.isASCII && (isHex ? $0.properties.isASCIIHexDigit : ("0"..."9").contains($0)) }
    guard !digits.isEmpty else { return nil }
    var end = digits.endIndex
    if end < rest.endIndex, rest[end] == ";" { end += 1 }
    // Saturates: anything past U+10FFFF is alike.
    let value = digits.reduce(UInt32(0)) { value, digit in
      min(0x110000, value * (isHex ? 16 : 10) + UInt32(Character(digit).hexDigitValue ?? 0))
    }
    switch value {
    case 0x0D: return ("\r", end)
    case 0x80...0x9F: return (String(windows1252(value)), end)
    case 0x01...0x08, 0x0B, 0x0E...0x1F, 0x7F, 0xFDD0...0xFDEF: return ("", end)
    case _ where value < 0x110000 && value & 0xFFFE == 0xFFFE: return ("", end)
    default: return (value == 0 ? "\u{FFFD}" : Unicode.Scalar(value).map(String.init) ?? "\u{FFFD}", end)
    }
  }

  /// What 0x80...0x9F means in Windows-1252, as which browsers read C1 control characters.
  static func windows1252(_ value: UInt32) -> Unicode.Scalar {
    let table: [UInt32] = [
      0x20AC, 0x81, 0x201A, 0x192, 0x201E, 0x2026, 0x2020, 0x2021, 0x2C6, 0x2030, 0x160, 0x2039, 0x152, 0x8D, 0x17D,
      0x8F,
      0x90, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x2DC, 0x2122, 0x161, 0x203A, 0x153, 0x9D, 0x17E,
      0x178,
    ]
    let code = (0x80...0x9F).contains(value) ? table[Int(value - 0x80)] : value
    return Unicode.Scalar(code) ?? "\u{FFFD}"
  }
}

extension Unicode.Scalar.Properties {
  fileprivate var isAlphanumeric: Bool { isAlphabetic || generalCategory == .decimalNumber }
}
