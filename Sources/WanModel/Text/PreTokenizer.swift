import Tensors

/// A pre-tokeniser of `tokenizer.json`: cuts normalised text into words, which the model then segments one by one.
enum PreTokenizer: Sendable {
  case sequence([PreTokenizer])
  case metaspace(mark: Unicode.Scalar, prepend: PrependScheme, split: Bool)
  case whitespaceSplit

  /// Which texts get the mark of a word's beginning put in front.
  enum PrependScheme: String, Sendable { case always, first, never }

  /// - Throws: `TokenizerFieldError` that names a pre-tokeniser of another type.
  init(_ value: JSONValue) throws {
    let fields = try TokenizerFields(value, "pre_tokenizer")
    let type = try fields.type()
    switch type {
    case "Sequence": self = .sequence(try fields.array("pretokenizers").map(PreTokenizer.init))
    case "WhitespaceSplit": self = .whitespaceSplit
    case "Metaspace":
      let mark = try fields.string("replacement").unicodeScalars
      guard let scalar = mark.first, mark.count == 1 else {
        throw fields.fail("Metaspace: replacement is not one character")
      }
      let prefixes = try fields.boolean("add_prefix_space", default: true)
      var scheme = prefixes ? PrependScheme.always : .never
      if !fields.isAbsent("prepend_scheme") {
        let name = try fields.string("prepend_scheme")
        guard let named = PrependScheme(rawValue: name) else {
          throw fields.fail("Metaspace: prepend_scheme '\(name)' is not supported")
        }
        guard prefixes || named == .never else {
          throw fields.fail("Metaspace: add_prefix_space false contradicts prepend_scheme '\(name)'")
        }
        scheme = named
      }
      self = .metaspace(mark: scalar, prepend: scheme, split: try fields.boolean("split", default: true))
    default: throw fields.fail("'\(type)' is not supported")
    }
  }

  /// A word and whether it begins the whole text.
  typealias Word = (text: String, isFirst: Bool)

  func words(_ text: Word) -> [Word] {
    switch self {
    case .sequence(let parts): return parts.reduce([text]) { words, part in words.flatMap(part.words) }
    case .whitespaceSplit:
      let scalars = text.text.unicodeScalars
      return scalars.split { $0.properties.isWhitespace }
        .map { (String($0), text.isFirst && $0.startIndex == scalars.startIndex) }
    case .metaspace(let mark, let prepend, let split):
      var scalars = String.UnicodeScalarView()
      for scalar in text.text.unicodeScalars { scalars.append(scalar == " " ? mark : scalar) }
      if let first = scalars.first, first != mark, prepend == .always || prepend == .first && text.isFirst {
        scalars.insert(mark, at: scalars.startIndex)
      }
      guard split else { return scalars.isEmpty ? [] : [(String(scalars), text.isFirst)] }
      var words: [Word] = []
      var start = scalars.startIndex
      for index in scalars.indices where scalars[index] == mark && index > start {
        words.append((String(scalars[start..<index]), text.isFirst && words.isEmpty))
        start = index
      }
      if start < scalars.endIndex { words.append((String(scalars[start...]), text.isFirst && words.isEmpty)) }
      return words
    }
  }
}
