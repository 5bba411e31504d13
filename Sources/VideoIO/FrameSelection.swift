/// Which frames of a video are wanted: numbers and ranges, and then every n-th of those.
public struct FrameSelection: Sendable, Hashable {
  /// Sorted, disjoint, not touching; the last one may be open, with `Int.max` as its end.
  public private(set) var ranges: [ClosedRange<Int>]
  /// 1 for all, n for the first and every n-th after it.
  public let step: Int

  /// All frames.
  public static let all = FrameSelection(ranges: [0...Int.max], step: 1)

  private init(ranges: [ClosedRange<Int>], step: Int) {
    self.ranges = ranges
    self.step = step
  }

  /// Frames from `list`, and of these the first and every `step`-th.
  ///
  /// - Parameters:
  ///   - list: numbers and ranges from 0, such as `0,10,20-30` or `100-` (to the end); `nil` for all frames.
  ///   - step: 1 or more.
  ///   - name: What an error calls the list.
  /// - Throws: `VideoIOError.invalidSetting`.
  public init(list: String? = nil, step: Int = 1, name: String = "frames") throws {
    guard step >= 1 else {
      throw VideoIOError.invalidSetting(name: "every", value: "\(step)", expected: "1 or more")
    }
    guard let list else {
      self.init(ranges: [0...Int.max], step: step)
      return
    }
    func invalid() -> VideoIOError {
      .invalidSetting(
        name: name, value: list, expected: "numbers from 0 and ranges, such as 0,10,20-30 or 100- (to the end)")
    }
    func number(_ text: Substring) throws -> Int {
      guard !text.isEmpty, text.count <= 9, text.utf8.allSatisfy({ (48...57).contains($0) }), let number = Int(text)
      else { throw invalid() }
      return number
    }
    let parts = try list.split(separator: ",", omittingEmptySubsequences: false).map { part in
      let ends = part.split(separator: "-", omittingEmptySubsequences: false)
      guard let first = ends.first, ends.count <= 2 else { throw invalid() }
      let start = try number(first)
      let end = try ends.count == 1 ? start : ends[1].isEmpty ? Int.max : number(ends[1])
      guard start <= end else { throw invalid() }
      return start...end
    }
    var merged: [ClosedRange<Int>] = []
    for range in parts.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if let last = merged.last, last.upperBound == Int.max || range.lowerBound <= last.upperBound + 1 {
        merged[merged.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
      } else {
        merged.append(range)
      }
    }
    self.init(ranges: merged, step: step)
  }

  /// About `wanted` frames, evenly spread over `count`, the first and the last among them.
  public static func spread(_ wanted: Int, over count: Int) -> FrameSelection {
    guard count > wanted else { return .all }
    guard wanted > 1 else { return FrameSelection(ranges: [0...0], step: 1) }
    let numbers = (0..<wanted).map { i in (i * (count - 1) + (wanted - 1) / 2) / (wanted - 1) }
    return FrameSelection(ranges: numbers.map { $0...$0 }, step: 1)
  }

  /// The largest number that was asked for by name; `nil` for an open range.
  public var last: Int? { ranges.last.flatMap { $0.upperBound == Int.max ? nil : $0.upperBound } }

  /// The largest number that is asked for by name, be it only as the start of an open range.
  public var lastNamed: Int { last ?? ranges.last?.lowerBound ?? 0 }

  /// Whether a frame is selected.
  public func contains(_ index: Int) -> Bool {
    var before = 0
    for range in ranges {
      if index < range.lowerBound { return false }
      if index <= range.upperBound { return (before + index - range.lowerBound) % step == 0 }
      before += range.count
    }
    return false
  }
}
