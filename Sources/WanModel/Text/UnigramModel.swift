/// The Unigram model of SentencePiece as the Hugging Face `tokenizers` library runs it (`models/unigram/model.rs`):
/// the segmentation of a word into pieces whose log-probabilities have the largest sum.
struct UnigramModel: Sendable {
  /// A token and the bytes of the word that it stands for.
  struct Token {
    let id: Int32
    let range: Range<Int>
  }

  /// Log-probability of each piece, by id.
  private let scores: [Double]
  private let pieces: PieceTrie
  private let unknown: Int32
  /// What a character that is no piece costs: 10 less than the worst piece.
  private let unknownScore: Double
  /// Neighbouring unknown characters become one token.
  private let fuseUnknown: Bool
  /// The ids of `<0x00>`...`<0xFF>`, -1 where there is none; nil without byte fallback.
  private let byteTokens: [Int32]?

  var count: Int { scores.count }

  /// - Parameter vocabulary: UTF-8 and log-probability of each id; of equal pieces the last one counts.
  init(vocabulary: [(piece: [UInt8], score: Double)], unknown: Int32, byteFallback: Bool, fuseUnknown: Bool) {
    var pieces = PieceTrie()
    for (id, entry) in vocabulary.enumerated() { pieces.insert(entry.piece, Int32(id)) }
    self.pieces = pieces
    scores = vocabulary.map(\.score)
    self.unknown = unknown
    unknownScore = (scores.min() ?? 0) - 10
    self.fuseUnknown = fuseUnknown
    byteTokens =
      byteFallback
      ? (0...255).map { byte in
        let hex = String(byte, radix: 16, uppercase: true)
        return pieces.find("<0x\(hex.count < 2 ? "0" : "")\(hex)>".utf8) ?? -1
      } : nil
  }

  func id(of piece: String) -> Int32? { pieces.find(piece.utf8) }

  /// The tokens of a word, valid UTF-8.
  func tokens(_ word: ArraySlice<UInt8>) -> [Token] {
    var tokens: [Token] = []
    for range in segments(word) {
      if let id = pieces.find(word[range]) {
        tokens.append(Token(id: id, range: range))
      } else if let byteTokens, word[range].allSatisfy({ byteTokens[Int($0)] >= 0 }) {
        // The first byte stands for the characters, the others for nothing.
        for (i, byte) in word[range].enumerated() {
          tokens.append(Token(id: byteTokens[Int(byte)], range: i == 0 ? range : range.upperBound..<range.upperBound))
        }
      } else {
        tokens.append(Token(id: unknown, range: range))
      }
    }
    return tokens
  }

  /// Viterbi over the prefixes: of equal sums the candidate that was found first stays.
  private func segments(_ word: ArraySlice<UInt8>) -> [Range<Int>] {
    let first = word.startIndex
    var best = [Double](repeating: 0, count: word.count + 1)
    // The start of the last segment of the best path to each place; -1 where none ends.
    var starts = [Int](repeating: -1, count: word.count + 1)
    var isUnknown = [Bool](repeating: false, count: word.count + 1)
    var start = first
    while start < word.endIndex {
      let here = best[start - first]
      let next = min(start + UnigramModel.characterLength(word[start]), word.endIndex)
      var coversCharacter = false
      func offer(_ end: Int, _ score: Double, _ id: Int32) {
        if starts[end - first] < 0 || score > best[end - first] {
          best[end - first] = score
          starts[end - first] = start
          isUnknown[end - first] = id == unknown
        }
      }
      var node = PieceTrie.root
      var end = start
      while end < word.endIndex, let below = pieces.step(node, word[end]) {
        node = below
        end += 1
        if let id = pieces.value(node) {
          offer(end, scores[Int(id)] + here, id)
          if end == next { coversCharacter = true }
        }
      }
      if !coversCharacter { offer(next, unknownScore + here, unknown) }
      start = next
    }
    var segments: [Range<Int>] = []
    var end = word.endIndex
    var fused = false
    while end > first {
      let start = starts[end - first]
      let fuses = fuseUnknown && isUnknown[end - first]
      if fuses, fused, let last = segments.last {
        segments[segments.count - 1] = start..<last.upperBound
      } else {
        segments.append(start..<end)
      }
      fused = fuses
      end = start
    }
    return segments.reversed()
  }

  private static func characterLength(_ lead: UInt8) -> Int {
    switch lead {
    case 0xF0...: 4
    case 0xE0...: 3
    case 0xC0...: 2
    default: 1
    }
  }
}
