/// What the original pipeline does to a prompt before it is tokenised: `ftfy.fix_text` with its defaults, HTML references
/// resolved twice, white space collapsed (`wan/modules/tokenizers.py`, mode "whitespace"; diffusers, `prompt_clean`).
///
/// Of ftfy 6.3 everything is here but the repair of mojibake, text that was decoded in the wrong encoding ("Ã©" for "é");
/// of that only C1 control characters are read as Windows-1252. Case is kept.
public enum PromptCleaner {
  /// The text that the tokenizer gets.
  public static func clean(_ text: String) -> String {
    collapsed(HTMLEntities.unescape(HTMLEntities.unescape(fixed(text))))
  }

  /// `ftfy.fix_text` line by line, each until it no longer changes. References stay as they are from the first line on
  /// that holds a `<`.
  private static func fixed(_ text: String) -> String {
    var out = ""
    var unescapes = true
    var rest = text.unicodeScalars[...]
    while !rest.isEmpty {
      let end = rest.firstIndex(of: "\n").map { rest.index(after: $0) } ?? rest.endIndex
      var line = String(rest[..<end])
      rest = rest[end...]
      if line.unicodeScalars.contains("<") { unescapes = false }
      while true {
        let next = pass(unescapes ? HTMLEntities.unescapeUnambiguous(line) : line)
        // By scalars: strings that are canonically equivalent compare as equal.
        if next.unicodeScalars.elementsEqual(line.unicodeScalars) { break }
        line = next
      }
      out.unicodeScalars.append(contentsOf: line.unicodeScalars)
    }
    return out
  }

  private static func pass(_ text: String) -> String {
    if text.utf8.allSatisfy({ $0 >= 0x20 && $0 < 0x7F }) { return text }
    var wide = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      switch scalar.value {
      case 0x80...0x9F: wide.append(HTMLEntities.windows1252(scalar.value))
      case 0x132...0x1F3, 0xFB00...0xFB06:
        wide.append(contentsOf: ligatures[scalar]?.unicodeScalars ?? String(scalar).unicodeScalars)
      default: wide.append(scalar)
      }
    }
    var plain = String.UnicodeScalarView()
    for scalar in wide {
      switch scalar.value {
      case 0x3000: plain.append(" ")
      case 0xFF01...0xFFEF:
        for part in UnicodeForm.nfkc.normalize(String(scalar)).unicodeScalars { plain.append(part) }
      case 0x2BC, 0x2018...0x201B: plain.append("'")
      case 0x201C...0x201F: plain.append("\"")
      case 0x2028, 0x2029, 0x85: plain.append("\n")
      default: plain.append(scalar)
      }
    }
    return UnicodeForm.nfc.normalize(controlsRemoved(plain))
  }

  /// Line breaks become `\n`, then the sequences that colour terminals go, then control characters.
  private static func controlsRemoved(_ text: String.UnicodeScalarView) -> String {
    let scalars = Array(text)
    var out = String.UnicodeScalarView()
    var at = 0
    while at < scalars.count {
      let scalar = scalars[at]
      at += 1
      switch scalar.value {
      case 0x0D:
        out.append("\n")
        if at < scalars.count, scalars[at] == "\n" { at += 1 }
      case 0x1B:
        // ESC [ digits and semicolons, one letter.
        if at < scalars.count, scalars[at] == "[" {
          var end = at + 1
          while end < scalars.count, scalars[end] == ";" || scalars[end].properties.generalCategory == .decimalNumber {
            end += 1
          }
          if end < scalars.count, scalars[end].isASCII, scalars[end].properties.isAlphabetic { at = end + 1 }
        }
      case 0x00...0x08, 0x0B, 0x0E...0x1F, 0x7F, 0x206A...0x206F, 0xFEFF, 0xFFF9...0xFFFC: continue
      default: out.append(scalar)
      }
    }
    return String(out)
  }

  /// Every run of white space becomes one space, and none is left at the ends.
  private static func collapsed(_ text: String) -> String {
    var out = String.UnicodeScalarView()
    var pending = false
    for scalar in text.unicodeScalars {
      // What Python calls white space: Unicode's and four separators of ASCII.
      if scalar.properties.isWhitespace || (0x1C...0x1F).contains(scalar.value) {
        pending = !out.isEmpty
      } else {
        if pending { out.append(" ") }
        pending = false
        out.append(scalar)
      }
    }
    return String(out)
  }

  private static let ligatures: [Unicode.Scalar: String] = [
    "Ĳ": "IJ", "ĳ": "ij", "ŉ": "ʼn", "Ǳ": "DZ", "ǲ": "Dz", "ǳ": "dz", "Ǆ": "DŽ", "ǅ": "Dž", "ǆ": "dž", "Ǉ": "LJ",
    "ǈ": "Lj", "ǉ": "lj", "Ǌ": "NJ", "ǋ": "Nj", "ǌ": "nj", "ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl",
    "ﬅ": "ſt", "ﬆ": "st",
  ]
}
