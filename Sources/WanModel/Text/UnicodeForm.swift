import Foundation

/// The normalisation forms of Unicode (UAX 15).
///
/// Foundation is asked about single characters only: of sequences it (6.3 on Linux) leaves Hangul syllables and half-width
/// kana half composed and some marks unordered. Order and composition are therefore done here.
enum UnicodeForm: String, Sendable {
  case nfc = "NFC"
  case nfd = "NFD"
  case nfkc = "NFKC"
  case nfkd = "NFKD"

  /// Versions of Unicode where the tables of another library end.
  struct Tables {
    /// Characters of later versions stay as they are.
    var characters: Unicode.Version
    /// Marks of later versions keep their place and block the marks behind them.
    var classes: Unicode.Version
  }

  /// - Parameter tables: of the library to agree with; nil for the newest.
  func normalize(_ text: String, tables: Tables? = nil) -> String {
    if text.utf8.allSatisfy({ $0 < 0x80 }) { return text }
    var scalars: [Unicode.Scalar] = []
    var classes: [UInt8] = []
    for scalar in text.unicodeScalars {
      if scalar.value < 0xA0 || UnicodeForm.isYounger(scalar, than: tables?.characters) {
        scalars.append(scalar)
        classes.append(0)
        continue
      }
      for part in decomposition(of: scalar) {
        var rank = part.properties.canonicalCombiningClass.rawValue
        if rank > 0, UnicodeForm.isYounger(part, than: tables?.classes) { rank = 0 }
        var place = scalars.count
        // Marks of a smaller class move before those of a larger one, but never before a starter.
        while rank > 0, place > 0, classes[place - 1] > rank { place -= 1 }
        scalars.insert(part, at: place)
        classes.insert(rank, at: place)
      }
    }
    if self == .nfc || self == .nfkc { scalars = UnicodeForm.composed(scalars, classes) }
    var out = String.UnicodeScalarView()
    out.append(contentsOf: scalars)
    return String(out)
  }

  private static func isYounger(_ scalar: Unicode.Scalar, than version: Unicode.Version?) -> Bool {
    guard let version else { return false }
    guard let age = scalar.properties.age else { return true }
    return (age.major, age.minor) > (version.major, version.minor)
  }

  private func decomposition(of scalar: Unicode.Scalar) -> String.UnicodeScalarView {
    let text = String(scalar)
    return
      (self == .nfc || self == .nfd
      ? text.decomposedStringWithCanonicalMapping : text.decomposedStringWithCompatibilityMapping).unicodeScalars
  }

  /// Joins each mark, or letter, with the starter before it unless something of its class or higher stands between.
  private static func composed(_ scalars: [Unicode.Scalar], _ classes: [UInt8]) -> [Unicode.Scalar] {
    var out: [Unicode.Scalar] = []
    var starter: Int?
    var between = -1
    for (scalar, rank) in zip(scalars, classes) {
      if let starter, between < Int(rank), let joined = pair(out[starter], scalar) {
        out[starter] = joined
        continue
      }
      if rank == 0 { starter = out.count }
      between = rank == 0 ? -1 : Int(rank)
      out.append(scalar)
    }
    return out
  }

  private static func pair(_ first: Unicode.Scalar, _ second: Unicode.Scalar) -> Unicode.Scalar? {
    let (a, b) = (first.value, second.value)
    if (0x1100...0x1112).contains(a), (0x1161...0x1175).contains(b) {
      return Unicode.Scalar(0xAC00 + ((a - 0x1100) * 21 + b - 0x1161) * 28)
    }
    if (0xAC00...0xD7A3).contains(a), (a - 0xAC00) % 28 == 0, (0x11A8...0x11C2).contains(b) {
      return Unicode.Scalar(a + b - 0x11A7)
    }
    return pairs[UInt64(a) << 32 | UInt64(b)]
  }

  /// The primary composites, from the canonical decompositions of the blocks that have any.
  private static let pairs: [UInt64: Unicode.Scalar] = {
    var composites: [[Unicode.Scalar]: Unicode.Scalar] = [:]
    for code in Array(0xC0..<0x3100) + Array(0x11000..<0x11A00) {
      guard let scalar = Unicode.Scalar(UInt32(code)) else { continue }
      let parts = Array(String(scalar).decomposedStringWithCanonicalMapping.unicodeScalars)
      let back = String(scalar).precomposedStringWithCanonicalMapping.unicodeScalars
      // Those that do not come back are excluded from composition.
      if parts.count > 1, back.elementsEqual(CollectionOfOne(scalar)) { composites[parts] = scalar }
    }
    var pairs: [UInt64: Unicode.Scalar] = [:]
    for (parts, scalar) in composites {
      guard let last = parts.last, let first = parts.count == 2 ? parts[0] : composites[Array(parts.dropLast())] else {
        continue
      }
      pairs[UInt64(first.value) << 32 | UInt64(last.value)] = scalar
    }
    return pairs
  }()
}
