/// Frames per second as an exact fraction: it sets time stamps, and never resamples content.
public struct FrameRate: Sendable, Hashable, CustomStringConvertible {
  /// The numerator of the reduced fraction.
  public let numerator: Int
  /// The denominator of the reduced fraction.
  public let denominator: Int

  /// Frames per second as a floating-point number.
  public var framesPerSecond: Double { Double(numerator) / Double(denominator) }

  /// `16` or `24000/1001`.
  public var description: String { denominator == 1 ? "\(numerator)" : "\(numerator)/\(denominator)" }

  /// A whole number of frames per second, 1 to 1000.
  public init(_ framesPerSecond: Int) throws { try self.init(framesPerSecond, 1) }

  /// A fraction.
  ///
  /// - Throws: `VideoIOError.invalidSetting` unless the rate is between 1/1000 and 1000 and both parts, reduced, are at most
  ///   1 000 000 (an mp4 time stamp has to hold them).
  public init(_ numerator: Int, _ denominator: Int) throws {
    guard let rate = FrameRate(checking: numerator, denominator) else {
      throw FrameRate.invalid("\(numerator)/\(denominator)")
    }
    self = rate
  }

  /// Reads "16", "23.976" or "24000/1001".
  ///
  /// A decimal is exact (12.5 is 25/2), except that the usual short spellings of the NTSC rates mean them: 23.976 and 23.98
  /// are 24000/1001, 29.97 is 30000/1001, 59.94 is 60000/1001, 119.88 is 120000/1001.
  ///
  /// - Throws: `VideoIOError.invalidSetting`.
  public init(parsing text: String) throws {
    guard let rate = FrameRate.parse(text) else { throw FrameRate.invalid(text) }
    self = rate
  }

  private init?(checking numerator: Int, _ denominator: Int) {
    guard numerator > 0, denominator > 0 else { return nil }
    var (a, b) = (numerator, denominator)
    while b != 0 { (a, b) = (b, a % b) }
    self.numerator = numerator / a
    self.denominator = denominator / a
    guard self.numerator <= 1_000_000, self.denominator <= 1_000_000 else { return nil }
    guard framesPerSecond >= 0.001, framesPerSecond <= 1000 else { return nil }
  }

  private static let shortSpellings = [
    "23.976": 24, "23.98": 24, "29.97": 30, "47.952": 48, "47.95": 48, "59.94": 60, "119.88": 120,
  ]

  private static func parse(_ text: String) -> FrameRate? {
    if let whole = shortSpellings[text] { return FrameRate(checking: whole * 1000, 1001) }
    func digits(_ part: Substring) -> Int? {
      guard !part.isEmpty, part.count <= 9, part.utf8.allSatisfy({ (48...57).contains($0) }) else { return nil }
      return Int(part)
    }
    let fraction = text.split(separator: "/", omittingEmptySubsequences: false)
    if fraction.count == 2 {
      guard let numerator = digits(fraction[0]), let denominator = digits(fraction[1]) else { return nil }
      return FrameRate(checking: numerator, denominator)
    }
    let decimal = text.split(separator: ".", omittingEmptySubsequences: false)
    guard decimal.count <= 2, let whole = digits(decimal[0]) else { return nil }
    if decimal.count == 1 { return FrameRate(checking: whole, 1) }
    guard decimal[1].count <= 6, let part = digits(decimal[1]) else { return nil }
    let scale = decimal[1].reduce(1) { scale, _ in scale * 10 }
    return FrameRate(checking: whole * scale + part, scale)
  }

  private static func invalid(_ text: String) -> VideoIOError {
    .invalidSetting(
      name: "frame rate", value: text,
      expected: "frames per second from 0.001 to 1000, such as 16, 23.976 or 24000/1001")
  }
}

extension FrameRate: Codable {
  /// As text, `16` or `24000/1001`.
  public init(from decoder: any Decoder) throws {
    try self.init(parsing: decoder.singleValueContainer().decode(String.self))
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}
