import Foundation
import Tensors

/// A normaliser of `tokenizer.json`, as the `tokenizers` library runs it (`normalizers/`).
indirect enum TextNormalizer: Sendable {
  case sequence([TextNormalizer])
  case nmt
  case unicode(UnicodeForm)
  case lowercase
  case strip(left: Bool, right: Bool)
  case prepend(String)
  case replace(ScalarPattern, with: String)
  case precompiled(PrecompiledCharsmap)

  /// - Throws: `TokenizerFieldError` that names a normaliser of another type.
  init(_ value: JSONValue) throws {
    let fields = try TokenizerFields(value, "normalizer")
    let type = try fields.type()
    do {
      switch type {
      case "Sequence": self = .sequence(try fields.array("normalizers").map(TextNormalizer.init))
      case "Nmt": self = .nmt
      case "NFC", "NFD", "NFKC", "NFKD": self = .unicode(UnicodeForm(rawValue: type) ?? .nfc)
      case "Lowercase": self = .lowercase
      case "Strip":
        self = .strip(
          left: try fields.boolean("strip_left", default: true), right: try fields.boolean("strip_right", default: true)
        )
      case "Prepend": self = .prepend(try fields.string("prepend"))
      case "Replace":
        let pattern = try TokenizerFields(fields.members["pattern"] ?? .null, "normalizer: Replace: pattern")
        let content = try fields.string("content")
        if !pattern.isAbsent("String") {
          let literal = try pattern.string("String")
          guard !literal.isEmpty else { throw fields.fail("Replace: an empty pattern") }
          self = .replace(ScalarPattern(literal: literal), with: content)
        } else {
          self = .replace(try ScalarPattern(regularExpression: pattern.string("Regex")), with: content)
        }
      case "Precompiled":
        let map = fields.isAbsent("precompiled_charsmap") ? "" : try fields.string("precompiled_charsmap")
        self = map.isEmpty ? .sequence([]) : .precompiled(try PrecompiledCharsmap(base64: map))
      default: throw fields.fail("'\(type)' is not supported")
      }
    } catch let refusal as Refusal {
      throw fields.fail("\(type): \(refusal.reason)")
    }
  }

  /// A text on its way through the normalisers.
  struct Passage {
    var text: String
    /// Whether its first character still stands for the first of the original: what `prepend_scheme: "first"` asks.
    var keepsStart = true
  }

  func normalize(_ text: String) -> Passage {
    var passage = Passage(text: text)
    apply(to: &passage)
    return passage
  }

  private func apply(to passage: inout Passage) {
    switch self {
    case .sequence(let normalizers): for normalizer in normalizers { normalizer.apply(to: &passage) }
    case .nmt: TextNormalizer.nmt(&passage)
    case .unicode(let form): passage.text = form.normalize(passage.text, tables: TextNormalizer.tables)
    case .lowercase:
      passage.text = passage.text.unicodeScalars.reduce(into: "") { $0 += $1.properties.lowercaseMapping }
    case .strip(let left, let right):
      var scalars = passage.text.unicodeScalars[...]
      while left, let first = scalars.first, first.properties.isWhitespace {
        scalars.removeFirst()
        passage.keepsStart = false
      }
      while right, let last = scalars.last, last.properties.isWhitespace { scalars.removeLast() }
      passage.text = String(scalars)
    case .prepend(let prefix): if !passage.text.isEmpty { passage.text = prefix + passage.text }
    case .replace(let pattern, let content):
      let (text, first) = pattern.replacing(in: passage.text, with: content)
      passage.text = text
      if let first, first > 1 || content.isEmpty { passage.keepsStart = false }
    case .precompiled(let map): passage.text = map.normalize(passage.text)
    }
  }

  /// Measured of `tokenizers` 0.23: decompositions of Unicode 12.0, combining classes of 9.0.
  private static let tables = UnicodeForm.Tables(characters: (12, 0), classes: (9, 0))

  /// The clean-up of SentencePiece's `nmt` rules: control characters go, odd spaces become plain ones.
  private static func nmt(_ passage: inout Passage) {
    var out = String.UnicodeScalarView()
    for scalar in passage.text.unicodeScalars {
      switch scalar.value {
      case 0x01...0x08, 0x0B, 0x0E...0x1F, 0x7F, 0x8F, 0x9F: if out.isEmpty { passage.keepsStart = false }
      case 0x09, 0x0A, 0x0C, 0x0D, 0x1680, 0x200B...0x200F, 0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD: out.append(" ")
      default: out.append(scalar)
      }
    }
    passage.text = String(out)
  }
}
