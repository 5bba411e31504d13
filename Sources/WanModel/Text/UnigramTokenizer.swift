import Foundation
import Tensors

/// The tokenizer of a text encoder, as its `tokenizer.json` describes it: added tokens, normaliser, pre-tokeniser, Unigram
/// model, template. Every field is obeyed, and what is unknown is refused by name; `truncation`, `padding` and `decoder` are
/// not used.
public struct UnigramTokenizer: Sendable {
  /// The number of ids, one more than the largest.
  public let vocabularySize: Int
  private let model: UnigramModel
  private let normalizer: TextNormalizer?
  private let preTokenizer: PreTokenizer?
  private let added: AddedTokens
  private let addedAfterNormalization: AddedTokens
  /// What the template puts before and after the text: nothing and `</s>`.
  private let prefix: [Int32]
  private let suffix: [Int32]

  /// The ids of a text.
  public struct Encoding: Sendable, Equatable {
    /// With the tokens that the template adds.
    public let ids: [Int32]
    /// How many tokens did not fit.
    public let cutCount: Int
    /// The end of the text that was cut, normalised; empty if nothing was.
    public let cutText: String
  }

  /// Reads a `tokenizer.json`.
  ///
  /// - Throws: ``TokenizerError``.
  public init(path: String) throws {
    let data: Data
    do { data = try Data(contentsOf: URL(fileURLWithPath: path)) } catch {
      throw TokenizerError(path: path, field: nil, reason: "cannot be read: \(error.localizedDescription)")
    }
    do {
      try self.init(json: [UInt8](data))
    } catch let error as TokenizerFieldError {
      throw TokenizerError(path: path, field: error.field, reason: error.reason)
    } catch let error as JSONReader.Failure {
      throw TokenizerError(path: path, field: nil, reason: "\(error)")
    }
  }

  private init(json: [UInt8]) throws {
    var parts: [String: JSONValue] = [:]
    var model: UnigramModel?
    var reader = try JSONReader(json)
    try reader.object { reader, name in
      if name == "model" { model = try UnigramTokenizer.model(&reader) } else { parts[name] = try reader.value() }
    }
    try reader.end()
    guard let model else { throw TokenizerFieldError(field: "model", reason: "there is none") }
    self.model = model
    func part<Part>(_ name: String, _ make: (JSONValue) throws -> Part) throws -> Part? {
      guard let value = parts[name], value != .null else { return nil }
      return try make(value)
    }
    normalizer = try part("normalizer", TextNormalizer.init)
    preTokenizer = try part("pre_tokenizer", PreTokenizer.init)
    (prefix, suffix) = try part("post_processor", UnigramTokenizer.template) ?? ([], [])

    var added = AddedTokens()
    var after = AddedTokens()
    var largest = Int32(model.count) - 1
    let tokens: [AddedTokens.Token] =
      try part("added_tokens") { value in
        guard case .array(let elements) = value else {
          throw TokenizerFieldError(field: "added_tokens", reason: "wanted an array")
        }
        return try elements.map(AddedTokens.Token.init)
      } ?? []
    for token in tokens {
      guard model.id(of: token.content).map({ $0 == token.id }) ?? true else {
        throw TokenizerFieldError(field: "added_tokens", reason: "'\(token.content)' has another id in the vocabulary")
      }
      largest = max(largest, token.id)
      if token.isNormalized {
        after.add(token, content: normalizer?.normalize(token.content).text ?? token.content)
      } else {
        added.add(token, content: token.content)
      }
    }
    self.added = added
    addedAfterNormalization = after
    vocabularySize = Int(largest) + 1
  }

  /// The ids of `text`, at most `maximum` with the template's tokens, which are always kept; nil cuts nothing.
  ///
  /// `text` is taken as it is: see ``PromptCleaner`` for what comes before.
  public func encode(_ text: String, maximum: Int? = 512) -> Encoding {
    var ids: [Int32] = []
    var surface: [UInt8] = []
    // Where each token's text begins in `surface`.
    var starts: [Int] = []
    func append(_ id: Int32, _ text: some Sequence<UInt8>) {
      ids.append(id)
      starts.append(surface.count)
      surface.append(contentsOf: text)
    }
    let bytes = Array(text.utf8)
    for part in added.split(bytes) {
      if let token = part.token {
        append(token, bytes[part.range])
        continue
      }
      let raw = String(decoding: bytes[part.range], as: UTF8.self)
      let passage = normalizer?.normalize(raw) ?? TextNormalizer.Passage(text: raw)
      let normal = Array(passage.text.utf8)
      for inner in addedAfterNormalization.split(normal) {
        if let token = inner.token {
          append(token, normal[inner.range])
          continue
        }
        let piece = String(decoding: normal[inner.range], as: UTF8.self)
        let isFirst = part.range.lowerBound == 0 && inner.range.lowerBound == 0 && passage.keepsStart
        let whole: PreTokenizer.Word = (piece, isFirst)
        for word in preTokenizer?.words(whole) ?? [whole] {
          let word = Array(word.text.utf8)
          for token in model.tokens(word[...]) { append(token.id, word[token.range]) }
        }
      }
    }
    let room = maximum.map { max(0, $0 - prefix.count - suffix.count) } ?? ids.count
    guard ids.count > room else { return Encoding(ids: prefix + ids + suffix, cutCount: 0, cutText: "") }
    let cut = String(decoding: surface[starts[room]...], as: UTF8.self)
    return Encoding(
      ids: prefix + ids[..<room] + suffix, cutCount: ids.count - room,
      cutText: cut.replacingOccurrences(of: "\u{2581}", with: " ").trimmingCharacters(in: .whitespaces))
  }

  private static func model(_ reader: inout JSONReader) throws -> UnigramModel {
    var vocabulary: [(piece: [UInt8], score: Double)] = []
    var others: [String: JSONValue] = [:]
    try reader.object { reader, name in
      if name == "vocab", try reader.peek() == .array {
        try reader.array { reader in
          var piece: [UInt8]?
          var score: Double?
          try reader.array { reader in
            switch (piece, score) {
            case (nil, _): piece = try reader.utf8()
            case (_, nil): score = try reader.double()
            default: throw reader.fail("more than a piece and its score")
            }
          }
          guard let piece, let score else { throw reader.fail("not a piece and its score") }
          vocabulary.append((piece, score))
        }
      } else if name == "vocab" {
        try reader.skip()
      } else {
        others[name] = try reader.value()
      }
    }
    let fields = try TokenizerFields(.object(others), "model")
    let type = try fields.type()
    guard type == "Unigram" else { throw fields.fail("'\(type)' is not supported") }
    for name in others.keys.sorted() where !["type", "unk_id", "byte_fallback", "fuse_unk"].contains(name) {
      guard fields.isAbsent(name) else { throw fields.fail("'\(name)' is not supported") }
    }
    guard !vocabulary.isEmpty else { throw fields.fail("no vocab of pieces and scores") }
    guard !fields.isAbsent("unk_id") else { throw fields.fail("no unk_id, hence no way to encode every text") }
    let unknown = try fields.id("unk_id")
    guard unknown < vocabulary.count else { throw fields.fail("unk_id \(unknown) of \(vocabulary.count) pieces") }
    return UnigramModel(
      vocabulary: vocabulary, unknown: unknown, byteFallback: try fields.boolean("byte_fallback", default: false),
      fuseUnknown: try fields.boolean("fuse_unk", default: true))
  }

  /// The ids that `TemplateProcessing` puts before and after a single text.
  private static func template(_ value: JSONValue) throws -> ([Int32], [Int32]) {
    let fields = try TokenizerFields(value, "post_processor")
    let type = try fields.type()
    guard type == "TemplateProcessing" else { throw fields.fail("'\(type)' is not supported") }
    let specials = try TokenizerFields(
      fields.members["special_tokens"] ?? .object([:]), "post_processor: special_tokens")
    var (before, after): ([Int32], [Int32]) = ([], [])
    var texts = 0
    for element in try fields.array("single") {
      let piece = try TokenizerFields(element, "post_processor: single")
      if piece.members["Sequence"] != nil {
        texts += 1
        continue
      }
      let name = try TokenizerFields(piece.members["SpecialToken"] ?? .null, "post_processor: single").string("id")
      guard let special = specials.members[name] else { throw specials.fail("there is no '\(name)'") }
      for id in try TokenizerFields(special, "post_processor: special_tokens").array("ids") {
        guard let id = TokenizerFields.id(id) else { throw specials.fail("'\(name)' has ids that are none") }
        if texts == 0 { before.append(id) } else { after.append(id) }
      }
    }
    guard texts == 1 else { throw fields.fail("a template with \(texts) texts; wanted one") }
    return (before, after)
  }
}
