import Foundation

/// SentencePiece's compiled normalisation rules: a Darts double array from UTF-8 to offsets into a blob of replacements.
///
/// Bytes: `u32` size of the array, its `u32` units, then the replacements, each ended by a zero byte; all little endian.
/// Of a unit: bit 8 says that a match ends below it, bits 0-7 and 31 are its label, the offset to its children is
/// `(u >> 10) << ((u & 512) >> 6)`. The rules for whole characters are those of the `tokenizers` library
/// (`normalizers/precompiled.rs`), odd as they are, because prompts were embedded with it.
struct PrecompiledCharsmap: Sendable {
  private let units: [UInt32]
  private let replacements: [UInt8]

  /// - Parameter base64: `precompiled_charsmap` of `tokenizer.json`.
  /// - Throws: the reason why it is broken.
  init(base64: String) throws(Refusal) {
    guard let data = Data(base64Encoded: base64) else { throw Refusal(reason: "not base64") }
    let bytes = [UInt8](data)
    func word(_ at: Int) -> UInt32 { (0..<4).reduce(0) { $0 | UInt32(bytes[at + $1]) << (8 * UInt32($1)) } }
    guard bytes.count >= 4 else { throw Refusal(reason: "\(bytes.count) bytes are no charsmap") }
    let size = Int(word(0))
    guard size > 0, size % 4 == 0, size <= bytes.count - 4 else {
      throw Refusal(reason: "an array of \(size) bytes in a charsmap of \(bytes.count)")
    }
    units = (0..<size / 4).map { word(4 + 4 * $0) }
    replacements = Array(bytes[(4 + size)...])
  }

  /// Replaces each grapheme cluster of less than 6 bytes that begins with a rule's text, else each scalar that does, by
  /// the replacement of the shortest such rule.
  func normalize(_ text: String) -> String {
    var out: [UInt8] = []
    out.reserveCapacity(text.utf8.count)
    for character in text {
      if character.utf8.count < 6, let replacement = replacement(character.utf8) {
        out.append(contentsOf: replacement)
        continue
      }
      for scalar in character.unicodeScalars {
        let bytes = UTF8.encode(scalar)
        if let bytes, let replacement = replacement(bytes) {
          out.append(contentsOf: replacement)
        } else if let bytes {
          out.append(contentsOf: bytes)
        }
      }
    }
    return String(decoding: out, as: UTF8.self)
  }

  private func replacement(_ key: some Sequence<UInt8>) -> ArraySlice<UInt8>? {
    var at = PrecompiledCharsmap.offset(units[0])
    for byte in key {
      if byte == 0 { return nil }
      at ^= Int(byte)
      guard at < units.count, units[at] & 0x8000_00FF == UInt32(byte) else { return nil }
      let unit = units[at]
      at ^= PrecompiledCharsmap.offset(unit)
      if unit & 0x100 != 0 {
        guard at < units.count else { return nil }
        let start = Int(units[at] & 0x7FFF_FFFF)
        guard start < replacements.count else { return nil }
        return replacements[start...].prefix { $0 != 0 }
      }
    }
    return nil
  }

  private static func offset(_ unit: UInt32) -> Int { Int((unit >> 10) << ((unit & 0x200) >> 6)) }
}
