/// The few regular expressions that normalisers of tokenizers use: characters, `.`, `\s`, `\S`, classes, `^` and `$`, each
/// with `?`, `*`, `+`, `{n}`, `{n,}` or `{n,m}`, greedy. `^` and `$` match at every line, as in Oniguruma, which the
/// `tokenizers` library uses. Groups and alternatives are refused.
struct ScalarPattern: Sendable {
  private enum Atom: Sendable {
    case start, end
    case characters(@Sendable (Unicode.Scalar) -> Bool)
  }

  private struct Part: Sendable {
    var atom: Atom
    var least = 1
    var most = 1
  }

  private var parts: [Part] = []

  /// A pattern of exactly these characters.
  init(literal: String) {
    parts = literal.unicodeScalars.map { wanted in Part(atom: .characters { $0 == wanted }) }
  }

  /// - Throws: the reason why the expression is refused.
  init(regularExpression text: String) throws(Refusal) {
    var rest = Array(text.unicodeScalars)[...]
    while let scalar = rest.popFirst() {
      switch scalar {
      case "^": parts.append(Part(atom: .start))
      case "$": parts.append(Part(atom: .end))
      case ".": parts.append(Part(atom: .characters { $0 != "\n" }))
      case "[": parts.append(Part(atom: .characters(try ScalarPattern.set(&rest))))
      case "\\": parts.append(Part(atom: .characters(try ScalarPattern.escape(&rest))))
      case "(", ")", "|", "]", "}": throw Refusal(reason: "'\(scalar)' in regular expressions is not supported")
      case "?", "*", "+", "{":
        guard let last = parts.last, case .characters = last.atom, last.least == 1, last.most == 1 else {
          throw Refusal(reason: "'\(scalar)' repeats nothing that can be repeated")
        }
        (parts[parts.count - 1].least, parts[parts.count - 1].most) = try ScalarPattern.counts(scalar, &rest)
      default: parts.append(Part(atom: .characters { $0 == scalar }))
      }
    }
    guard !parts.isEmpty else { throw Refusal(reason: "an empty regular expression") }
  }

  /// Replaces every match, from the left, with `content`. A match of no characters is none.
  ///
  /// - Returns: the new text, and the number of characters of a match at its very beginning, if there is one.
  func replacing(in text: String, with content: String) -> (text: String, first: Int?) {
    let scalars = Array(text.unicodeScalars)
    var out = String.UnicodeScalarView()
    var at = 0
    var first: Int?
    while at < scalars.count {
      if let end = match(scalars, at, 0), end > at {
        out.append(contentsOf: content.unicodeScalars)
        if at == 0 { first = end }
        at = end
      } else {
        let run = hopelessRun(scalars, at)
        out.append(contentsOf: scalars[at..<at + run])
        at += run
      }
    }
    return (String(out), first)
  }

  /// Where no match begins, how many starts need no further look: behind a failed unbounded run of `x+` or `x*`, every
  /// place of the run has been tried as its end, so that no match begins inside it. Keeps long runs from taking square time.
  private func hopelessRun(_ scalars: [Unicode.Scalar], _ start: Int) -> Int {
    guard let first = parts.first, first.least <= 1, first.most == .max, case .characters(let holds) = first.atom else {
      return 1
    }
    var end = start
    while end < scalars.count, holds(scalars[end]) { end += 1 }
    return max(1, end - start)
  }

  /// The end of the match of the parts from `part` on that begins at `start`.
  private func match(_ scalars: [Unicode.Scalar], _ start: Int, _ part: Int) -> Int? {
    guard part < parts.count else { return start }
    switch parts[part].atom {
    case .start:
      return start == 0 || scalars[start - 1] == "\n" ? match(scalars, start, part + 1) : nil
    case .end:
      return start == scalars.count || scalars[start] == "\n" ? match(scalars, start, part + 1) : nil
    case .characters(let holds):
      var end = start
      while end < scalars.count, end - start < parts[part].most, holds(scalars[end]) { end += 1 }
      while end - start >= parts[part].least {
        if let whole = match(scalars, end, part + 1) { return whole }
        end -= 1
      }
      return nil
    }
  }

  private static func counts(
    _ sign: Unicode.Scalar, _ rest: inout ArraySlice<Unicode.Scalar>
  ) throws(Refusal) -> (Int, Int) {
    var range: (Int, Int)
    switch sign {
    case "?": range = (0, 1)
    case "*": range = (0, .max)
    case "+": range = (1, .max)
    default:
      guard let close = rest.firstIndex(of: "}") else { throw Refusal(reason: "a '{' without '}'") }
      let inside = rest[..<close].map(String.init).joined()
      rest = rest[(close + 1)...]
      let numbers = inside.split(separator: ",", omittingEmptySubsequences: false)
      guard (1...2).contains(numbers.count), let least = Int(numbers[0]), least >= 0 else {
        throw Refusal(reason: "'{\(inside)}' is no repetition")
      }
      range = (least, least)
      if numbers.count == 2 {
        guard let most = numbers[1].isEmpty ? .max : Int(numbers[1]), most >= least else {
          throw Refusal(reason: "'{\(inside)}' is no repetition")
        }
        range.1 = most
      }
    }
    if let next = rest.first, next == "?" || next == "+" {
      throw Refusal(reason: "lazy and possessive repetitions are not supported")
    }
    return range
  }

  private static func escape(
    _ rest: inout ArraySlice<Unicode.Scalar>
  ) throws(Refusal) -> @Sendable (Unicode.Scalar) -> Bool {
    guard let letter = rest.popFirst() else { throw Refusal(reason: "a '\\' at the end") }
    switch letter {
    case "s": return { $0.properties.isWhitespace }
    case "S": return { !$0.properties.isWhitespace }
    case "n": return { $0 == "\n" }
    case "r": return { $0 == "\r" }
    case "t": return { $0 == "\t" }
    case "a"..."z", "A"..."Z", "0"..."9": throw Refusal(reason: "'\\\(letter)' in regular expressions is not supported")
    default: return { $0 == letter }
    }
  }

  private static func set(
    _ rest: inout ArraySlice<Unicode.Scalar>
  ) throws(Refusal) -> @Sendable (Unicode.Scalar) -> Bool {
    let inverted = rest.first == "^"
    if inverted { rest.removeFirst() }
    var members: [@Sendable (Unicode.Scalar) -> Bool] = []
    while let scalar = rest.popFirst(), scalar != "]" || members.isEmpty {
      if scalar == "[" || scalar == "&" && rest.first == "&" {
        throw Refusal(reason: "nested classes are not supported")
      }
      if scalar == "\\" {
        members.append(try escape(&rest))
      } else if rest.first == "-", let last = rest.dropFirst().first, last != "]" {
        guard scalar <= last, last != "\\" else { throw Refusal(reason: "the range \(scalar)-\(last)") }
        rest.removeFirst(2)
        members.append { (scalar...last).contains($0) }
      } else {
        members.append { $0 == scalar }
      }
      if rest.isEmpty { throw Refusal(reason: "a '[' without ']'") }
    }
    let list = members
    return { scalar in list.contains { $0(scalar) } != inverted }
  }
}
