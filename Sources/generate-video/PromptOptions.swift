import ArgumentParser
import Foundation
import Production
import Rollout

/// What to show, and from when on.
struct PromptOptions: ParsableArguments {
  @Argument(help: "The prompt; the same as --prompt.")
  var words: [String] = []

  @Option(
    name: [.long, .customShort("p")], parsing: .unconditionalSingleValue,
    help: """
      What the video shows. Repeat it with --at for prompts that follow each other, or write them as one: \
      "a red star[5s] | a blue moon[10s#]", # for a hard cut.
      """)
  var prompt: [String] = []

  @Option(
    parsing: .unconditionalSingleValue,
    help: "Seconds of video at which a prompt begins; once for each --prompt but the first.")
  var at: [Double] = []

  @Option(help: "A file that holds the prompt, in the same grammar.")
  var promptFile: String?

  @Option(help: "A YAML or JSON file of prompts and their times (docs/formats.md; samples/storyboard.yaml).")
  var storyboard: String?

  @Option(
    help: """
      What a new prompt does to the memory: recache (recompute the window's keys and values under it), flush (keep the last \
      2 latent frames), keep (default: recache, or the storyboard's).
      """)
  var onSwitch: String?

  @Option(
    parsing: .unconditional, help: "Chunks over which a new prompt blends with the one before (default: 0, at once).")
  var blend: Int?

  @Option(help: "How text states blend: linear, spherical (default: linear).")
  var blendMode: String?

  @Option(
    name: [.long, .customShort("i"), .customLong("init-img")],
    help: "A picture that the video begins with, scaled and cut to its size: chunks of 1, 3, 3, ... latent frames.")
  var image: String?

  @Option(name: [.long, .customLong("input-video")], help: "A video to go on from; --seconds counts it too.")
  var video: String?

  @Option(
    parsing: .unconditional,
    help: "Make the image or video anew, above 0 (little of it changes) to 1 (nothing is left); default: keep it.")
  var strength: Double?

  /// The prompts that were given; nil without any.
  func timeline() throws -> PromptTimeline? {
    let given = [!prompt.isEmpty, promptFile != nil, storyboard != nil, !words.isEmpty].count { $0 }
    guard given <= 1 else {
      throw UsageError("give one prompt: --prompt, --prompt-file, --storyboard, or the words themselves")
    }
    guard var timeline = try source() else {
      guard at.isEmpty else { throw UsageError("--at \(at[0]) without a --prompt that begins there") }
      return nil
    }
    if let onSwitch { timeline.onSwitch = try choice(onSwitch, "--on-switch") }
    if let blendMode { timeline.blendMode = try choice(blendMode, "--blend-mode") }
    if let blend {
      guard (0...10_000).contains(blend) else { throw UsageError("--blend \(blend); 0 to 10000 chunks are possible") }
      timeline.blend = blend
    }
    return timeline
  }

  private func source() throws -> PromptTimeline? {
    if let storyboard {
      guard at.isEmpty else { throw UsageError("--at belongs to --prompt; the storyboard has times of its own") }
      return try PromptTimeline(storyboard: storyboard)
    }
    do {
      if prompt.count > 1 { return try PromptTimeline(prompts: prompt, at: at) }
      guard let text = try prompt.first ?? file() ?? (words.isEmpty ? nil : words.joined(separator: " ")) else {
        return nil
      }
      var timeline = try PromptTimeline(inline: text)
      guard at.isEmpty || at == [0] || timeline.segments.count == 1 && at.count == 1 else {
        throw UsageError("--at belongs to repeated --prompt; here there is one prompt and \(at.count) times")
      }
      if let start = at.first { timeline.segments[0].seconds = start }
      return timeline
    } catch let error as TimelineError { throw UsageError("\(error)") }
  }

  private func file() throws -> String? {
    guard let promptFile else { return nil }
    guard let data = FileManager.default.contents(atPath: promptFile), let text = String(data: data, encoding: .utf8)
    else {
      throw UsageError("--prompt-file \(promptFile) cannot be read as UTF-8 text")
    }
    return text
  }

  private func choice<Choice: RawRepresentable & CaseIterable>(_ text: String, _ flag: String) throws -> Choice
  where Choice.RawValue == String {
    guard let choice = Choice(rawValue: text) else {
      throw UsageError(
        "\(flag) \(text) is not known; there are \(Choice.allCases.map(\.rawValue).joined(separator: ", "))")
    }
    return choice
  }
}
