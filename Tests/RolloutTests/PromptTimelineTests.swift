import Rollout
import Tensors
import Testing

@Suite struct PromptTimelineTests {
  private func message(_ body: () throws -> Void) -> String {
    do { try body() } catch { return "\(error)" }
    return "no error"
  }

  @Test("The inline grammar gives prompts, their starts, hard cuts and the end")
  func inlineGrammar() throws {
    let timeline = try PromptTimeline(inline: "a red star [5s] |a blue moon[2.5s#]|  hills at night")
    #expect(timeline.segments.map(\.text) == ["a red star", "a blue moon", "hills at night"])
    #expect(timeline.segments.map(\.seconds) == [0, 5, 7.5] && timeline.segments.map(\.isCut) == [false, true, false])
    #expect(timeline.end == nil)
    #expect(try PromptTimeline(inline: "a[5s] | b[10s#]").end == 15)
    let cut = try PromptTimeline(inline: "a[5s] | b[#]")
    #expect(cut.segments[1].isCut && cut.end == nil)
    #expect(try PromptTimeline(inline: "one [ 4 s ]").end == 4)
  }

  @Test(
    "A text without bars and durations is a prompt as it stands",
    arguments: [
      ("a red ball", "a red ball"), ("a sign that says [open]", "a sign that says [open]"),
      ("[5 apples]", "[5 apples]"),
      (#"a \| b"#, "a | b"), (#"five \[5s]"#, "five [5s]"), (#"C:\dir"#, #"C:\dir"#), (#"a\\"#, #"a\"#), ("", ""),
      ("semi; colons # and hashes", "semi; colons # and hashes"),
    ])
  func plainPrompts(text: String, prompt: String) throws {
    let timeline = try PromptTimeline(inline: text)
    #expect(timeline.segments.map(\.text) == [prompt] && timeline.end == nil)
  }

  @Test(
    "Bad grammar names the character",
    arguments: [
      ("a | b[5s]", "character 2: segment 1 has no duration"), ("a[5s] | | c", "character 8: segment 2 is empty"),
      ("a[5s] | ", "character 8: segment 2 is empty"), ("a[5x] | b", "character 2: \"[5x]\" is no duration"),
      ("a[-1s] | b", "is no duration"), ("a[0s] | b", "is no duration"), ("a[nans] | b", "is no duration"),
      ("a[s] | b", "is no duration"), ("a[5] | b", "is no duration"), ("|", "segment 1 is empty"),
      ("[5s] | b", "character 1: segment 1 is empty"),
    ])
  func badGrammar(text: String, problem: String) {
    #expect(message { _ = try PromptTimeline(inline: text) }.contains(problem))
  }

  @Test("Times must come in order, one for each prompt but the first")
  func timesInOrder() throws {
    #expect(message { _ = try PromptTimeline(prompts: ["a", "b"], at: []) }.contains("2 prompts and 0 times"))
    #expect(message { _ = try PromptTimeline(prompts: ["a"], at: [1, 2]) }.contains("1 prompts and 2 times"))
    #expect(
      message { try PromptTimeline(prompts: ["a", "b", "c"], at: [8, 3]).check() }
        .contains("prompt 3 begins at 3.0 s, not after prompt 2"))
    #expect(message { try PromptTimeline(prompts: ["a", "b"], at: [1, 2]).check() }.contains("begins at 0"))
    #expect(message { try PromptTimeline(prompts: ["a", "b"], at: [-2]).check() }.contains("0 or more"))
    #expect(message { try PromptTimeline(prompts: ["a", "b"], at: [.nan]).check() }.contains("0 or more"))
    #expect(message { try PromptTimeline(prompts: ["a", " \n"], at: [2]).check() }.contains("prompt 2 is empty"))
    try PromptTimeline(prompts: ["a", "b"], at: [0, 2]).check()
  }

  /// 27 chunks of 3 at 16 fps: chunk k begins at frame 12 k - 3.
  private let layout = ChunkLayout(frames: 3, latentFrames: 81)

  @Test("A prompt takes effect with the chunk whose beginning is nearest")
  func nearestChunk() throws {
    let schedule = try PromptTimeline(prompts: ["a", "b", "c", "d"], at: [0.1, 5, 10]).schedule(
      layout, framesPerSecond: 16)
    #expect(schedule.switches.map(\.chunk) == [0, 1, 7, 14])
    let starts = [0, 0.5625, 5.0625, 10.3125]
    #expect(schedule.switches.map(\.seconds) == starts)
    #expect(schedule.switches[2].summary == "prompt 3 takes effect with chunk 7, at 5.06 s (asked for at 5 s): recache")
    // After an image, chunk k begins at latent frame 3 k - 2, frame 12 k - 11.
    let image = ChunkLayout(frames: 3, first: 1, latentFrames: 21)
    #expect(image.count == 8)
    #expect(image.range(of: 7) == 19..<22)
    #expect([3, 4].map { image.chunk(of: $0) } == [1, 2])
    let later = try PromptTimeline(prompts: ["a", "b"], at: [0.7]).schedule(image, framesPerSecond: 16)
    #expect(later.switches[1].chunk == 2)
    #expect(later.switches[1].seconds == 0.8125)
  }

  @Test("Times past the end, two prompts in one chunk and a blend that is cut are refused")
  func impossibleSchedules() throws {
    func problem(_ times: [Double], blend: Int = 0) -> String {
      message {
        var timeline = try PromptTimeline(prompts: ["a"] + times.map { "at \($0)" }, at: times)
        timeline.blend = blend
        _ = try timeline.schedule(layout, framesPerSecond: 16)
      }
    }
    #expect(problem([25]).contains("prompt 2 begins at 25 s, but the video of 20.06 s ends"))
    #expect(problem([20.05]).contains("the last one begins at 19.31 s"))
    #expect(problem([1e300]).contains("beyond any length"))
    #expect(problem([5, 5.2]).contains("prompts 2 and 3 would both begin with chunk 7"))
    #expect(problem([5, 8], blend: 5).contains("prompt 2 blends over 5 chunks from chunk 7"))
    #expect(problem([5, 8], blend: 4) == "no error")
    #expect(problem([5], blend: -1).contains("a blend of -1 chunks"))
  }

  @Test("Blending shares rise to 1, and scenes lie between hard cuts")
  func sharesAndScenes() throws {
    var timeline = try PromptTimeline(inline: "a[5s] | b[5s] | c[5s#] | d[5s]")
    timeline.blend = 3
    timeline.segments[3].onSwitch = .keep
    let schedule = try timeline.schedule(layout, framesPerSecond: 16)
    #expect(schedule.switches.map(\.chunk) == [0, 7, 14, 20])
    let mixes = (6...10).map { schedule.mix(at: $0) }
    let shares = [1, 1 / 3.0, 2 / 3.0, 1, 1]
    let sources: [Int?] = [nil, 0, 0, nil, nil]
    #expect(mixes.map(\.prompt) == [0, 1, 1, 1, 1])
    #expect(mixes.map(\.weight) == shares)
    #expect(mixes.map(\.from) == sources)
    #expect(schedule.mix(at: 14).weight == 1)
    #expect([13, 15].map { schedule.sceneStart(of: $0) } == [0, 14])
    #expect(schedule.sceneEnd(of: 3) == 14)
    #expect(schedule.sceneEnd(of: 14) == nil)
    #expect([9, 10].map { schedule.recaches(from: $0) } == [true, false])
    let changes: [Int?] = [nil, 1, nil]
    #expect([0, 7, 8].map { schedule.change(at: $0)?.prompt } == changes)
  }

  @Test("Text states mix linearly or on the sphere, the shorter one continued by zeros")
  func blends() {
    let a = Tensor([1, 0, 2, 0] as [Float], shape: [2, 2])
    let b = Tensor([0, 1] as [Float], shape: [1, 2])
    #expect(PromptBlend.linear.mix(a, b, weight: 0.25).floats() == [0.75, 0.25, 1.5, 0])
    func isNear(_ found: [Float], _ wanted: [Float]) -> Bool {
      found.count == wanted.count && zip(found, wanted).allSatisfy { abs($0 - $1) < 1e-6 }
    }
    let half = PromptBlend.spherical.mix(a, b, weight: 0.5).floats()
    #expect(isNear(half, [0.70710678, 0.70710678, 1, 0]), "\(half)")
    let third = PromptBlend.spherical.mix(a, b, weight: 1.0 / 3).floats()
    #expect(isNear(third, [0.8660254, 0.5, 4.0 / 3, 0]), "\(third)")
    #expect(PromptBlend.spherical.mix(a, a, weight: 0.3).floats() == a.floats())
    #expect(PromptBlend.linear.mix(b, a, weight: 1).floats() == a.floats())
  }
}
