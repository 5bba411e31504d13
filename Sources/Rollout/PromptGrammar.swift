extension PromptTimeline {
  /// A prompt that may hold a timeline: `a red star[5s] | a blue moon[10s#] | hills at night`, the grammar of Infinity-RoPE
  /// (arXiv 2511.20649, as released) without its subtitles.
  ///
  /// `[Ns]` at the end of a segment is its duration in seconds; `#` in the brackets makes the segment begin with a hard
  /// cut, `[#]` alone in the last one. The last segment may go without and then holds to the end. `\|`, `\[` and `\\` stand
  /// for the characters themselves. A text without `|` that does not end in `[Ns]` is a prompt as it stands.
  ///
  /// - Throws: ``TimelineError`` that names the character, counted from 1.
  public init(inline text: String) throws(TimelineError) {
    let parts = Self.split(text)
    if parts.count == 1, (try? Self.mark(in: parts[0])) == nil || Self.markStart(parts[0]) == nil {
      self.init(Self.plain(parts[0].characters))
      return
    }
    var segments: [Segment] = []
    var start = 0.0
    var isOpen = false
    for (i, part) in parts.enumerated() {
      let isLast = i == parts.count - 1
      let mark = try Self.mark(in: part)
      let body = part.characters.prefix(mark?.start ?? part.characters.count)
      let words = Self.plain(Array(body)).trimmingSpaces
      guard !words.isEmpty else {
        throw TimelineError("prompt, character \(part.offset + 1): segment \(i + 1) is empty")
      }
      segments.append(Segment(words, at: start, isCut: mark?.isCut ?? false))
      guard let seconds = mark?.seconds else {
        guard isLast else {
          throw TimelineError(
            "prompt, character \(part.offset + part.characters.count): segment \(i + 1) has no duration; write "
              + "\"\(words)[5s] | ...\" (\\| is a plain bar)")
        }
        isOpen = true
        continue
      }
      start += seconds
    }
    self.init(segments: segments, end: isOpen ? nil : start)
  }

  /// Characters of one segment, escapes kept, and where it begins in the text.
  private struct Part {
    var characters: [Character] = []
    var offset: Int
  }

  private static func split(_ text: String) -> [Part] {
    var parts = [Part(offset: 0)]
    var isEscaped = false
    for (i, character) in text.enumerated() {
      if character == "|", !isEscaped {
        parts.append(Part(offset: i + 1))
      } else {
        parts[parts.count - 1].characters.append(character)
      }
      isEscaped = character == "\\" && !isEscaped
    }
    return parts
  }

  /// Where the last `[` begins that is closed by the segment's last character; nil without one.
  private static func markStart(_ part: Part) -> Int? {
    guard let end = part.characters.lastIndex(where: { !$0.isWhitespace }), part.characters[end] == "]",
      let start = part.characters[..<end].lastIndex(of: "["), start == 0 || part.characters[start - 1] != "\\"
    else { return nil }
    return start
  }

  private static func mark(in part: Part) throws(TimelineError) -> (start: Int, seconds: Double?, isCut: Bool)? {
    guard let start = markStart(part), let end = part.characters.lastIndex(of: "]") else { return nil }
    var inside = String(part.characters[(start + 1)..<end]).trimmingSpaces
    let isCut = inside.hasSuffix("#")
    if isCut { inside = String(inside.dropLast()).trimmingSpaces }
    if isCut, inside.isEmpty { return (start, nil, true) }
    let number = inside.hasSuffix("s") ? String(inside.dropLast()).trimmingSpaces : nil
    guard let number, let seconds = Double(number), seconds.isFinite, seconds > 0 else {
      throw TimelineError(
        "prompt, character \(part.offset + start + 1): "
          + "\"\(String(part.characters[start...end]))\" is no duration such as [5s] or [5s#]")
    }
    return (start, seconds, isCut)
  }

  /// The text without the backslashes of escapes.
  private static func plain(_ characters: [Character]) -> String {
    var text = ""
    var i = 0
    while i < characters.count {
      let escapes = i + 1 < characters.count && characters[i] == "\\" && "|[\\".contains(characters[i + 1])
      if escapes { i += 1 }
      text.append(characters[i])
      i += 1
    }
    return text
  }
}

extension String {
  /// Without white space at both ends.
  fileprivate var trimmingSpaces: String {
    let body = drop(while: \.isWhitespace)
    guard let end = body.lastIndex(where: { !$0.isWhitespace }) else { return "" }
    return String(body[...end])
  }
}
