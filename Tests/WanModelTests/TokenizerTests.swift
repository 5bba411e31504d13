import Foundation
import Testing
import WanModel

/// `Tests/Fixtures/tokenizer-cases.json`, made by `tools/fixtures/tokenizer.py` with the Hugging Face `tokenizers` library.
struct TokenizerCases {
  /// A tokenizer, and what it makes of each string.
  struct Case: Sendable, CustomTestStringConvertible {
    let name: String
    let json: Data
    /// Lists as "1 2 3", or "count:checksum".
    let ids: [String]
    var testDescription: String { name }
  }

  let strings: [String]
  let cases: [Case]
  let clean: [(String, String)]

  init() throws {
    let folder = Fixture.repository.appending(path: "Tests/Fixtures")
    func object(_ url: URL) throws -> [String: Any] {
      try #require(try JSONSerialization.jsonObject(with: Data(contentsOf: url)) as? [String: Any])
    }
    let file = try object(folder.appending(path: "tokenizer-cases.json"))
    var strings: [String] = []
    for entry in try #require(file["strings"] as? [Any]) {
      let pair = entry as? [Any]
      let unit = try #require((pair?.first ?? entry) as? String)
      strings.append(String(repeating: unit, count: pair?.last as? Int ?? 1))
    }
    self.strings = strings
    let bases = [
      "shipped": try object(Fixture.shippedURL("tokenizer/tokenizer.json")),
      "bytes": try object(folder.appending(path: "tokenizer-bytes.json")),
    ]
    var cases: [Case] = []
    for entry in try #require(file["tokenizers"] as? [[String: Any]]) {
      let name = try #require(entry["name"] as? String)
      let base = try #require(bases[entry["base"] as? String ?? ""])
      let overrides = try #require(entry["overrides"] as? [String: Any])
      let json = try JSONSerialization.data(withJSONObject: base.merging(overrides) { $1 })
      let values = try #require(entry["ids"] as? [Any])
      let ids = values.map { (value: Any) -> String in
        if let list = value as? [Int] { return list.map { String($0) }.joined(separator: " ") }
        return "\(value)"
      }
      cases.append(Case(name: name, json: json, ids: ids))
    }
    self.cases = cases
    clean = try #require(file["clean"] as? [[String]]).map { ($0[0], $0[1]) }
  }

  /// FNV-1a over the ids as 32-bit little endian.
  static func checksum(_ ids: [Int32]) -> String {
    var value: UInt64 = 0xCBF2_9CE4_8422_2325
    for id in ids {
      for shift in [0, 8, 16, 24] {
        value = (value ^ UInt64(UInt8(truncatingIfNeeded: id >> shift))) &* 0x100_0000_01B3
      }
    }
    let hex = String(value, radix: 16)
    return "\(ids.count):\(String(repeating: "0", count: 16 - hex.count))\(hex)"
  }
}

/// A tokenizer from JSON text.
func makeTokenizer(_ json: Data) throws -> UnigramTokenizer {
  try withTemporaryFile(String(decoding: json, as: UTF8.self)) { try UnigramTokenizer(path: $0) }
}

@Suite("Unigram tokenizer")
struct TokenizerTests {
  let all: TokenizerCases

  init() throws { all = try TokenizerCases() }

  @Test("Every string gives the ids of the Hugging Face library, for every tokenizer")
  func parity() throws {
    #expect(all.strings.count >= 200 && all.cases.count >= 2)
    for entry in all.cases {
      let tokenizer = try makeTokenizer(entry.json)
      #expect(entry.ids.count == all.strings.count)
      for (text, wanted) in zip(all.strings, entry.ids) {
        let ids = tokenizer.encode(text, maximum: nil).ids
        let found = wanted.contains(":") ? TokenizerCases.checksum(ids) : ids.map(String.init).joined(separator: " ")
        #expect(found == wanted, "\(entry.name): \(text.prefix(60).debugDescription) gave \(ids.prefix(60))")
      }
    }
  }

  @Test("The shipped reference prompt gives its token ids")
  func reference() throws {
    let archive = try Fixture.shipped("reference.safetensors")
    let tokenizer = try UnigramTokenizer(path: Fixture.shippedURL("tokenizer/tokenizer.json").path)
    let prompt = try #require(archive.metadata["prompt"])
    let wanted = try archive.tensor("token_ids").integers()
    #expect(tokenizer.encode(PromptCleaner.clean(prompt)).ids.map { Int($0) } == wanted)
    #expect(tokenizer.encode("").ids == [1])
    #expect(wanted.allSatisfy { $0 < tokenizer.vocabularySize })
  }

  @Test("A text over the limit keeps its end token and says what was cut")
  func truncation() throws {
    let tokenizer = try UnigramTokenizer(path: Fixture.shippedURL("tokenizer/tokenizer.json").path)
    let text = "a large red star bounces over purple hills"
    let whole = tokenizer.encode(text, maximum: nil)
    #expect(whole.cutCount == 0 && whole.cutText.isEmpty)
    #expect(tokenizer.encode(text, maximum: whole.ids.count) == whole)
    let cut = tokenizer.encode(text, maximum: whole.ids.count - 2)
    #expect(cut.ids == whole.ids.dropLast(3) + [1])
    #expect(cut.cutCount == 2)
    #expect(cut.cutText == "purple hills")
    #expect(tokenizer.encode(text, maximum: 1).ids == [1])
    #expect(tokenizer.encode(text, maximum: 0).ids == [1])
    let prompt = String(repeating: "red star ", count: 600)
    let (long, all) = (tokenizer.encode(prompt), tokenizer.encode(prompt, maximum: nil))
    #expect(long.ids == all.ids[..<511] + [1])
    #expect(long.cutCount == all.ids.count - 512)
  }

  @Test("A vocabulary of 256,000 pieces loads in seconds, and time grows with the length of a text, not its square")
  func scale() throws {
    var state: UInt64 = 1
    func random(_ below: UInt64) -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return (state >> 33) % below
    }
    let letters = Array("abcdefghijklmnopqrstuvwxyzéßжщ日本語").map(String.init)
    var vocabulary = #"["<pad>",0],["</s>",0],["<s>",0],["<unk>",0],["▁",-3]"#
    for letter in letters { vocabulary += ",[\"\(letter)\",-\(5 + random(50)).5]" }
    for _ in 0..<256_000 {
      let piece = (0..<2 + random(9)).map { _ in letters[Int(random(UInt64(letters.count)))] }.joined()
      vocabulary += ",[\"\(random(2) == 0 ? "▁" : "")\(piece)\",-\(8 + random(8)).\(random(1_000_000))]"
    }
    let json = """
      {"added_tokens":[{"id":1,"content":"</s>","special":true,"normalized":false}],
       "normalizer":{"type":"NFKC"},"pre_tokenizer":{"type":"Metaspace","replacement":"▁","split":false},
       "model":{"type":"Unigram","unk_id":3,"vocab":[\(vocabulary)]}}
      """
    let clock = ContinuousClock()
    var loaded: UnigramTokenizer?
    let loading = try clock.measure { loaded = try makeTokenizer(Data(json.utf8)) }
    let tokenizer = try #require(loaded)
    // One word as far as the model is concerned: nothing is split.
    let text = (0..<100_000).map { _ in random(6) == 0 ? " " : letters[Int(random(26))] }.joined()
    let short = clock.measure { _ = tokenizer.encode(String(text.prefix(10_000))) }
    let long = clock.measure { _ = tokenizer.encode(text) }
    print("256,000 pieces: load \(loading), 10 KB \(short), 100 KB \(long)")
    #expect(loading < .seconds(8))
    #expect(long < short * 40 + .milliseconds(500))
    let spaces = String(repeating: " ", count: 100_000) + "x"
    for entry in all.cases {
      let tokenizer = try makeTokenizer(entry.json)
      let time = clock.measure { _ = tokenizer.encode(spaces) }
      print("100 KB of spaces, \(entry.name): \(time)")
      #expect(time < .seconds(5), "\(entry.name)")
    }
  }
}

@Suite("Prompt cleaning")
struct PromptCleanerTests {
  @Test("Prompts come out as ftfy and the original pipeline leave them")
  func parity() throws {
    for (text, wanted) in try TokenizerCases().clean {
      let found = PromptCleaner.clean(text)
      #expect(Array(found.utf8) == Array(wanted.utf8), "\(text.debugDescription)")
    }
  }

  @Test("Cleaning twice is cleaning once, but for references that the first cleaning uncovers")
  func idempotent() throws {
    for (text, _) in try TokenizerCases().clean where !text.contains("&") {
      let once = PromptCleaner.clean(text)
      #expect(PromptCleaner.clean(once) == once)
    }
  }
}
