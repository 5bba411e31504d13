import VideoIO

/// Moments and stretches of a video in seconds, such as `0,2.5,4-6` or `8-` (to the end).
struct TimeSelection {
  /// Start and end; an open end is nil, a moment has both alike.
  private let ranges: [(start: Double, end: Double?)]
  private let text: String

  /// - Throws: `VideoIOError.invalidSetting`.
  init(list: String) throws {
    text = list
    func invalid() -> VideoIOError {
      .invalidSetting(
        name: "times", value: list, expected: "seconds from 0 and ranges, such as 0,2.5,4-6 or 8- (to the end)")
    }
    func number(_ text: Substring) throws -> Double {
      // No signs, exponents or names of infinity.
      guard !text.isEmpty, text.allSatisfy({ $0.isASCII && ($0.isNumber || $0 == ".") }), let number = Double(text),
        number < 1e7
      else { throw invalid() }
      return number
    }
    ranges = try list.split(separator: ",", omittingEmptySubsequences: false).map { part in
      let ends = part.split(separator: "-", omittingEmptySubsequences: false)
      guard let first = ends.first, ends.count <= 2 else { throw invalid() }
      let start = try number(first)
      let end = try ends.count == 1 ? start : ends[1].isEmpty ? nil : number(ends[1])
      if let end, end < start { throw invalid() }
      return (start, end)
    }
  }

  /// The frames that are on the screen at these times: at t that is frame t times rate, rounded down.
  ///
  /// - Parameter index: What picture shows a frame; a latent frame shows four.
  /// - Throws: `VideoIOError.invalidSetting`.
  func frames(framesPerSecond rate: Double, step: Int, index: (Int) -> Int = { $0 }) throws -> FrameSelection {
    func frame(_ seconds: Double) -> Int { index(Int((seconds * rate + 1e-6).rounded(.down))) }
    let parts = ranges.map { start, end in
      guard let end else { return "\(frame(start))-" }
      return "\(frame(start))-\(frame(end))"
    }
    return try FrameSelection(list: parts.joined(separator: ","), step: step, name: "times")
  }
}
