/// One change of prompt, at a chunk's beginning.
public struct PromptSwitch: Sendable, Equatable, Codable {
  /// What becomes of the keys and values that were computed under the old prompt.
  public enum Kind: String, Sendable, Codable, CaseIterable {
    /// Those of the recent frames are computed anew under the new prompt, by clean passes over their latents (LongLive,
    /// arXiv 2509.22622: KV re-cache). Sink frames and pages that persist from before keep theirs.
    case recache
    /// All are forgotten but those of the sink and of the last two latent frames (Infinity-RoPE, arXiv 2511.20649: KV flush).
    case flush
    /// They stay; only cross-attention sees the new prompt.
    case keep
  }

  /// Number of the prompt, from 0.
  public let prompt: Int
  /// The first chunk under it.
  public let chunk: Int
  /// Where that chunk begins, and where the prompt was asked for; seconds of video.
  public let seconds: Double
  public let askedSeconds: Double
  /// Whether it begins a new scene: the memory is emptied and time starts again from 0.
  public let isCut: Bool
  public let kind: Kind
  /// Chunks until it holds alone, at least 1: chunk i of n mixes `(i + 1) / n` of it with the prompt before.
  public let blend: Int
  public let blendMode: PromptBlend

  public init(
    prompt: Int, chunk: Int, seconds: Double = 0, askedSeconds: Double = 0, isCut: Bool = false, kind: Kind = .recache,
    blend: Int = 1, blendMode: PromptBlend = .linear
  ) {
    self.prompt = prompt
    self.chunk = chunk
    self.seconds = seconds
    self.askedSeconds = askedSeconds
    self.isCut = isCut
    self.kind = kind
    self.blend = max(1, blend)
    self.blendMode = blendMode
  }

  /// `hard cut`, `flush`, `recache, blending over 3 chunks (linear)`.
  public var manner: String {
    if isCut { return "hard cut" }
    return kind.rawValue + (blend > 1 ? ", blending over \(blend) chunks (\(blendMode.rawValue))" : "")
  }

  /// A time for people: at most two decimals.
  static func short(_ seconds: Double) -> String {
    let hundredths = (seconds * 100).rounded()
    guard abs(hundredths) < 1e15 else { return "\(seconds)" }
    return hundredths.truncatingRemainder(dividingBy: 100) == 0 ? "\(Int(hundredths / 100))" : "\(hundredths / 100)"
  }

  /// One line that says where the prompt takes effect, and where it was asked for if that is elsewhere.
  public var summary: String {
    let asked = abs(seconds - askedSeconds) < 0.005 ? "" : " (asked for at \(Self.short(askedSeconds)) s)"
    return "prompt \(prompt + 1) takes effect with chunk \(chunk), at \(Self.short(seconds)) s\(asked): \(manner)"
  }
}

/// How much of which prompt holds in a chunk.
public struct PromptMix: Sendable, Equatable, Codable {
  /// The prompt that comes or is there, and its share in (0, 1].
  public let prompt: Int
  public let weight: Double
  /// The prompt that goes; nil at a share of 1.
  public let from: Int?
  public let mode: PromptBlend
}

/// Which prompt holds in which chunk. A function of the chunk's number alone: a rollout that is resumed there needs no
/// other position.
public struct PromptSchedule: Sendable, Equatable, Codable {
  /// In rising order of chunks; the first is the prompt of chunk 0.
  public let switches: [PromptSwitch]

  /// - Parameter switches: At least one; the first at chunk 0, chunks rising, no blend longer than the time to the next.
  public init(switches: [PromptSwitch]) {
    precondition(switches.first?.chunk == 0, "a schedule of prompts begins with chunk 0")
    precondition(
      zip(switches, switches.dropFirst()).allSatisfy { $0.chunk + $0.blend <= $1.chunk }, "prompts that overlap")
    self.switches = switches
  }

  /// One prompt for all chunks.
  public static let single = PromptSchedule(switches: [PromptSwitch(prompt: 0, chunk: 0)])

  /// The switch that begins with `chunk`; nil where none does, and for the first prompt.
  public func change(at chunk: Int) -> PromptSwitch? { switches.dropFirst().first { $0.chunk == chunk } }

  /// The switch whose prompt holds, alone or in part, in `chunk`.
  public func current(at chunk: Int) -> PromptSwitch { switches.last { $0.chunk <= chunk } ?? switches[0] }

  /// The shares of prompts in `chunk`.
  public func mix(at chunk: Int) -> PromptMix {
    let now = current(at: chunk)
    let step = chunk - now.chunk + 1
    guard step < now.blend, let before = switches.last(where: { $0.chunk < now.chunk })
    else { return PromptMix(prompt: now.prompt, weight: 1, from: nil, mode: now.blendMode) }
    return PromptMix(
      prompt: now.prompt, weight: Double(step) / Double(now.blend), from: before.prompt, mode: now.blendMode)
  }

  /// The first chunk of the scene that `chunk` belongs to: that of the last hard cut, or 0.
  public func sceneStart(of chunk: Int) -> Int { switches.last { $0.isCut && $0.chunk <= chunk }?.chunk ?? 0 }

  /// The first chunk after that scene; nil if it is the last.
  public func sceneEnd(of chunk: Int) -> Int? { switches.first { $0.isCut && $0.chunk > chunk }?.chunk }

  /// Whether `chunk` or a later one recomputes the memory of frames before it.
  public func recaches(from chunk: Int) -> Bool {
    switches.dropFirst().contains { !$0.isCut && $0.kind == .recache && $0.chunk + $0.blend > chunk }
  }
}
