import Foundation
import Testing
import WanModel

@Suite("A tokenizer.json that cannot be obeyed is refused with the field's name")
struct BrokenTokenizerTests {
  /// A small valid file with one member replaced.
  private func json(_ member: String, _ value: String) -> String {
    var members = [
      "model": #"{"type":"Unigram","unk_id":1,"vocab":[["</s>",0],["<unk>",0],["a",-1]]}"#,
      "normalizer": "null", "pre_tokenizer": "null", "post_processor": "null", "added_tokens": "[]",
    ]
    members[member] = value
    return "{" + members.sorted { $0.key < $1.key }.map { "\"\($0.key)\":\($0.value)" }.joined(separator: ",") + "}"
  }

  private func refused(_ text: String, _ words: String..., sourceLocation: SourceLocation = #_sourceLocation) throws {
    try withTemporaryFile(text) { path in
      let error = #expect(throws: TokenizerError.self, sourceLocation: sourceLocation) {
        _ = try UnigramTokenizer(path: path)
      }
      guard let error else { return }
      #expect("\(error)".hasPrefix(path + ": "), sourceLocation: sourceLocation)
      for word in words { #expect("\(error)".contains(word), "\(error)", sourceLocation: sourceLocation) }
    }
  }

  @Test("The small file itself is accepted, with or without optional members")
  func small() throws {
    #expect(try makeTokenizer(Data(json("normalizer", "null").utf8)).encode("ab").ids == [2, 1])
    let bare = #"{"model":{"type":"Unigram","unk_id":0,"vocab":[["a",-1]]}}"#
    #expect(try makeTokenizer(Data(bare.utf8)).encode("a").ids == [0])
  }

  @Test("Files that are missing, no JSON, or no object")
  func files() throws {
    #expect(throws: TokenizerError.self) { try UnigramTokenizer(path: "/nonexistent/tokenizer.json") }
    for text in ["", "[]", "{", "null", "{\"model\":", "\u{FEFF}{}", "{} {}"] { try refused(text, "byte") }
    try refused("{}", "model: there is none")
    try refused(#"{"model":1,"model":2}"#, "wanted an object")
    try refused(#"{"version":1,"version":2}"#, "occurs twice")
  }

  @Test("Models of another type, without pieces, with pieces that are none, with ids outside")
  func models() throws {
    try refused(json("model", #"{"type":"BPE","vocab":{"a":0},"merges":[]}"#), "model: 'BPE' is not supported")
    try refused(json("model", #"{"type":"Unigram","unk_id":0,"vocab":[]}"#), "model: no vocab")
    try refused(json("model", #"{"type":"Unigram","vocab":[["a",0]]}"#), "model: no unk_id")
    try refused(json("model", #"{"type":"Unigram","unk_id":null,"vocab":[["a",0]]}"#), "model: no unk_id")
    for id in ["1", "-1", "0.5", "1e30", "\"a\""] {
      try refused(json("model", "{\"type\":\"Unigram\",\"unk_id\":\(id),\"vocab\":[[\"a\",0]]}"), "unk_id")
    }
    let pieces = [
      "[]", #"["a"]"#, #"[0,"a"]"#, #"["a",0,0]"#, #"["a",1e999]"#, #"["a",null]"#, #""a""#, #"["\ud800",0]"#,
    ]
    for piece in pieces {
      try refused(json("model", "{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[\(piece)]}"), "byte")
    }
    try refused(json("model", #"{"type":"Unigram","unk_id":0,"vocab":[["a",0]],"alpha":0.1}"#), "'alpha'")
    try refused(json("model", #"{"type":"Unigram","unk_id":0,"vocab":[["a",0]],"byte_fallback":1}"#), "byte_fallback")
  }

  @Test("Normalisers, pre-tokenisers and post-processors that are not supported are named")
  func parts() throws {
    try refused(json("normalizer", #"{"type":"BertNormalizer"}"#), "normalizer: 'BertNormalizer' is not supported")
    try refused(json("normalizer", #"{"type":"Sequence","normalizers":[{"type":"ByteLevel"}]}"#), "'ByteLevel'")
    try refused(json("normalizer", #"{"type":"Sequence"}"#), "normalizers")
    try refused(json("normalizer", #"{"type":"Replace","pattern":{"String":""},"content":"x"}"#), "empty pattern")
    for expression in ["(a)", "a|b", "\\\\d", "[a", "*", "a{2", "a{3,2}", "a+?", "", "[b-a]"] {
      let text = "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\(expression)\"},\"content\":\"\"}"
      try refused(json("normalizer", text), "normalizer: Replace")
    }
    for map in ["!", "AAA=", "AAAAAA==", "CAAAAAAAAAA=", "AwAAAAAAAAA="] {
      try refused(json("normalizer", "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"\(map)\"}"), "Precompiled")
    }
    try refused(json("normalizer", "7"), "normalizer: wanted an object")
    try refused(json("pre_tokenizer", #"{"type":"Whitespace"}"#), "pre_tokenizer: 'Whitespace' is not supported")
    try refused(json("pre_tokenizer", #"{"type":"Metaspace","replacement":"__"}"#), "one character")
    try refused(
      json("pre_tokenizer", #"{"type":"Metaspace","replacement":"_","prepend_scheme":"last"}"#), "'last'")
    try refused(json("post_processor", #"{"type":"RobertaProcessing"}"#), "post_processor: 'RobertaProcessing'")
    try refused(json("post_processor", #"{"type":"TemplateProcessing","single":[]}"#), "0 texts")
    let special = #"{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x"}}],"special_tokens":{}}"#
    try refused(json("post_processor", special), "'x'")
  }

  @Test("Added tokens without an id or a text, or with another id than the vocabulary's")
  func addedTokens() throws {
    try refused(json("added_tokens", "{}"), "added_tokens: wanted an array")
    try refused(json("added_tokens", "[1]"), "added_tokens: wanted an object")
    try refused(json("added_tokens", #"[{"content":"x"}]"#), "'id'")
    try refused(json("added_tokens", #"[{"id":-1,"content":"x"}]"#), "'id'")
    try refused(json("added_tokens", #"[{"id":5}]"#), "'content'")
    try refused(json("added_tokens", #"[{"id":5,"content":"a"}]"#), "'a' has another id")
  }

  @Test("A charsmap of random bytes never crashes")
  func randomCharsmap() throws {
    var state: UInt32 = 9
    for _ in 0..<200 {
      var bytes: [UInt8] = [64, 0, 0, 0]
      for _ in 0..<80 {
        state = state &* 1_664_525 &+ 1_013_904_223
        bytes.append(UInt8(state >> 24))
      }
      let map = Data(bytes).base64EncodedString()
      let text = json("normalizer", "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"\(map)\"}")
      _ = try makeTokenizer(Data(text.utf8)).encode("any text é 日本 🙂\u{0}")
    }
  }
}
