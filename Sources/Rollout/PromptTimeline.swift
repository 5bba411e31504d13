/// Which prompt holds from when on, as a user says it: in seconds of video.
///
/// Three forms lead here: repeated `--prompt ... --at SECONDS`, the inline grammar (``init(inline:)``), and a storyboard
/// file. What a rollout follows is the ``PromptSchedule`` that ``schedule(_:framesPerSecond:)`` makes of it.
public struct PromptTimeline: Sendable, Equatable, Codable {
  /// One prompt and how it comes into force.
  public struct Segment: Sendable, Equatable, Codable {
    public var text: String
    /// Seconds of video at which it begins; 0 for the first.
    public var seconds: Double
    /// A hard cut: a new scene in fresh memory.
    public var isCut: Bool
    /// nil: the timeline's.
    public var onSwitch: PromptSwitch.Kind?
    /// Chunks over which the text states blend, the first of them included; nil: the timeline's.
    public var blend: Int?
    /// nil: the timeline's.
    public var blendMode: PromptBlend?

    public init(_ text: String, at seconds: Double = 0, isCut: Bool = false) {
      (self.text, self.seconds, self.isCut) = (text, seconds, isCut)
    }
  }

  public var segments: [Segment]
  /// What becomes of the memory at a switch that does not say.
  public var onSwitch = PromptSwitch.Kind.recache
  /// Chunks over which text states blend; exactly 0 and 1 switch at once.
  public var blend = 0
  public var blendMode = PromptBlend.linear
  /// Where the last segment ends, if its duration was given: the length of the video unless a flag says another.
  public var end: Double?

  /// One prompt for the whole video.
  public init(_ prompt: String = "") { segments = [Segment(prompt)] }

  public init(segments: [Segment], end: Double? = nil) { (self.segments, self.end) = (segments, end) }

  /// Prompts with the seconds at which they begin; the first, which begins at 0, may go without.
  /// - Throws: ``TimelineError``.
  public init(prompts: [String], at times: [Double]) throws(TimelineError) {
    guard times.count == prompts.count || times.count == prompts.count - 1 else {
      throw TimelineError(
        "\(prompts.count) prompts and \(times.count) times: every prompt but the first needs one --at SECONDS")
    }
    let starts = times.count == prompts.count ? times : [0] + times
    self.init(segments: zip(prompts, starts).map { Segment($0, at: $1) })
  }

  /// What holds of times and prompts whatever the length of the video.
  /// - Throws: ``TimelineError`` that names the prompt, counted from 1.
  public func check() throws(TimelineError) {
    guard let first = segments.first else { throw TimelineError("a timeline without a prompt") }
    guard first.seconds == 0 else {
      throw TimelineError("prompt 1 begins at \(first.seconds) s; the first prompt begins at 0")
    }
    for (i, segment) in segments.enumerated() {
      guard !segment.text.allSatisfy(\.isWhitespace) else {
        throw TimelineError(
          segments.count == 1
            ? "the prompt is empty; say what the video should show, as in --prompt \"a red ball\""
            : "prompt \(i + 1) is empty")
      }
      guard segment.seconds.isFinite, segment.seconds >= 0 else {
        throw TimelineError("prompt \(i + 1) begins at \(segment.seconds) s; a time is 0 or more")
      }
      if i > 0, segment.seconds <= segments[i - 1].seconds {
        throw TimelineError(
          "prompt \(i + 1) begins at \(segment.seconds) s, not after prompt \(i) at \(segments[i - 1].seconds) s; times "
            + "must rise")
      }
      guard (0...10_000).contains(segment.blend ?? blend) else {
        throw TimelineError("prompt \(i + 1): a blend of \(segment.blend ?? blend) chunks; 0 to 10000 are possible")
      }
      if segment.isCut, let blend = segment.blend, blend > 1 {
        throw TimelineError("prompt \(i + 1): a hard cut cannot blend over \(blend) chunks")
      }
    }
    if let end, let last = segments.last, end <= last.seconds {
      throw TimelineError("the last prompt begins at \(last.seconds) s and ends at \(end) s")
    }
  }

  /// The chunk with which each prompt takes effect: the one whose beginning is nearest to the time asked for, for every
  /// prompt but the first not before the second chunk.
  ///
  /// - Throws: ``TimelineError`` for times past the end, two prompts for one chunk, or a blend that the next prompt cuts.
  public func schedule(_ layout: ChunkLayout, framesPerSecond: Double) throws(TimelineError) -> PromptSchedule {
    try check()
    func time(_ chunk: Int) -> Double { Double(layout.firstVideoFrame(of: chunk)) / framesPerSecond }
    var switches: [PromptSwitch] = []
    for (i, segment) in segments.enumerated() {
      var chunk = 0
      if i > 0 {
        // Chunks after the first all have one length, so the nearest beginning is found by rounding.
        let (second, step) = (time(1), time(2) - time(1))
        let steps = ((segment.seconds - second) / step).rounded()
        guard steps < 1e9 else {
          throw TimelineError("prompt \(i + 1) begins at \(segment.seconds) s, beyond any length")
        }
        chunk = 1 + max(0, Int(steps))
        if let count = layout.count, let frames = layout.latentFrames {
          let length = Double(layout.firstVideoFrame(of: 0) + 4 * (frames - 1) + 1) / framesPerSecond
          guard segment.seconds < length, chunk < count else {
            throw TimelineError(
              "prompt \(i + 1) begins at \(PromptSwitch.short(segment.seconds)) s, but the video of "
                + "\(PromptSwitch.short(length)) s ends before a chunk could begin there; the last one begins at "
                + "\(PromptSwitch.short(time(count - 1))) s")
          }
        }
        if let before = switches.last, chunk <= before.chunk {
          throw TimelineError(
            "prompts \(i) and \(i + 1) would both begin with chunk \(chunk), at \(PromptSwitch.short(time(chunk))) s; "
              + "leave at least \(PromptSwitch.short(step)) s between them")
        }
        if let before = switches.last, before.chunk + before.blend > chunk {
          throw TimelineError(
            "prompt \(i) blends over \(before.blend) chunks from chunk \(before.chunk), but prompt \(i + 1) begins with "
              + "chunk \(chunk)")
        }
      }
      switches.append(
        PromptSwitch(
          prompt: i, chunk: chunk, seconds: time(chunk), askedSeconds: segment.seconds, isCut: segment.isCut && i > 0,
          kind: segment.onSwitch ?? onSwitch, blend: i == 0 || segment.isCut ? 1 : max(1, segment.blend ?? blend),
          blendMode: segment.blendMode ?? blendMode))
    }
    return PromptSchedule(switches: switches)
  }
}

/// A timeline that cannot be had: known before any work. One line.
public struct TimelineError: Error, Equatable, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}
