import Tensors

/// Tokens that are found in the text before, or right after, normalisation, and that the model never sees
/// (`tokenizers/src/tokenizer/added_vocabulary.rs`).
struct AddedTokens: Sendable {
  struct Token: Sendable {
    let id: Int32
    let content: String
    /// Found only where no letter or digit is beside it.
    let isWord: Bool
    /// Takes the white space on this side with it.
    let stripsLeft: Bool
    let stripsRight: Bool
    /// Found after normalisation, in its own normalised form.
    let isNormalized: Bool

    init(_ value: JSONValue) throws {
      let fields = try TokenizerFields(value, "added_tokens")
      id = try fields.id("id")
      content = try fields.string("content")
      isWord = try fields.boolean("single_word", default: false)
      stripsLeft = try fields.boolean("lstrip", default: false)
      stripsRight = try fields.boolean("rstrip", default: false)
      let special = try fields.boolean("special", default: false)
      isNormalized = try fields.boolean("normalized", default: !special)
    }
  }

  /// A part of a text: a token, or what stands between tokens.
  struct Part {
    let range: Range<Int>
    let token: Int32?
  }

  private var tokens: [Token] = []
  private var trie = PieceTrie()
  private var isEmpty: Bool { tokens.isEmpty }

  /// `content`: what to look for, if that is not the token's own content.
  mutating func add(_ token: Token, content: String) {
    guard !content.isEmpty else { return }
    trie.insert(content.utf8, Int32(tokens.count))
    tokens.append(token)
  }

  /// Cuts `text`, valid UTF-8, at the tokens in it: from the left, of those at one place the longest.
  func split(_ text: [UInt8]) -> [Part] {
    guard !isEmpty else { return text.isEmpty ? [] : [Part(range: 0..<text.count, token: nil)] }
    var parts: [Part] = []
    var done = 0
    var at = 0
    while at < text.count {
      guard let (index, end) = longest(text, at) else {
        at += 1
        continue
      }
      let token = tokens[index]
      var (start, stop) = (at, end)
      at = end
      if token.isWord, isWordCharacter(before: start, text) || isWordCharacter(at: stop, text) { continue }
      if token.stripsLeft { start = max(done, start - spaceLength(before: start, text[min(done, start)...])) }
      if token.stripsRight { stop += spaceLength(from: stop, text) }
      if done < start { parts.append(Part(range: done..<start, token: nil)) }
      parts.append(Part(range: start..<stop, token: token.id))
      done = stop
      at = max(at, stop)
    }
    if done < text.count { parts.append(Part(range: done..<text.count, token: nil)) }
    return parts
  }

  private func longest(_ text: [UInt8], _ start: Int) -> (Int, Int)? {
    var node = PieceTrie.root
    var end = start
    var found: (Int, Int)?
    while end < text.count, let below = trie.step(node, text[end]) {
      node = below
      end += 1
      if let index = trie.value(node) { found = (Int(index), end) }
    }
    return found
  }

  private func scalar(before end: Int, _ text: ArraySlice<UInt8>) -> Unicode.Scalar? {
    var start = end - 1
    while start > text.startIndex, text[start] & 0xC0 == 0x80 { start -= 1 }
    return start < text.startIndex ? nil : String(decoding: text[start..<end], as: UTF8.self).unicodeScalars.first
  }

  private func scalar(at start: Int, _ text: [UInt8]) -> Unicode.Scalar? {
    String(decoding: text[start..<min(start + 4, text.count)], as: UTF8.self).unicodeScalars.first
  }

  private func spaceLength(before end: Int, _ text: ArraySlice<UInt8>) -> Int {
    var start = end
    while start > text.startIndex, let scalar = scalar(before: start, text), scalar.properties.isWhitespace {
      start -= UTF8.width(scalar)
    }
    return end - start
  }

  private func spaceLength(from start: Int, _ text: [UInt8]) -> Int {
    var end = start
    while end < text.count, let scalar = scalar(at: end, text), scalar.properties.isWhitespace {
      end += UTF8.width(scalar)
    }
    return end - start
  }

  private func isWordCharacter(before end: Int, _ text: [UInt8]) -> Bool {
    scalar(before: end, text[...]).map(AddedTokens.isWordCharacter) ?? false
  }

  private func isWordCharacter(at start: Int, _ text: [UInt8]) -> Bool {
    scalar(at: start, text).map(AddedTokens.isWordCharacter) ?? false
  }

  /// `\w` of Unicode's regular expressions.
  private static func isWordCharacter(_ scalar: Unicode.Scalar) -> Bool {
    if scalar.properties.isAlphabetic || scalar.properties.isJoinControl { return true }
    switch scalar.properties.generalCategory {
    case .decimalNumber, .connectorPunctuation, .nonspacingMark, .spacingMark, .enclosingMark: return true
    default: return false
    }
  }
}
