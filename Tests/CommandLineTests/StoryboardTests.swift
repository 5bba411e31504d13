import Foundation
import Testing

/// Prompts that follow each other, as a user gives them.
@Suite struct StoryboardTests {
  private static let model = repository + "/weights/default"
  private static let small = ["--model", model, "--size", "64x64", "--steps", "1"]
  private let scratch: Scratch
  init() throws { scratch = try Scratch() }

  private func write(_ text: String, _ name: String) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: scratch.file(name)))
  }

  private func json(_ text: some StringProtocol) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
  }

  private func generate(_ arguments: [String]) throws -> ProgramResult {
    try runProgram("generate-video", arguments, in: scratch.path)
  }

  @Test("All forms of one timeline give one video, and say when each prompt took effect")
  func allFormsAgree() throws {
    try write(
      """
      on_switch: flush
      seconds: 4.5
      prompts:
        - a red star   # text alone
        - {text: a blue moon, at: 1.5}
        - text: a green ring
          at: 3
          cut: true
      """, "a.yaml")
    try write(
      """
      {"prompts": [{"text": "a red star", "for": 1.5},
        {"text": "a blue moon", "startTime": 1.5, "endTime": 3, "weight": 1}, {"text": "a green ring", "cut": true}],
       "settings": {"seed": 3}, "on_switch": "flush", "seconds": 4.5}
      """, "a.json")
    let inline = "a red star[1.5s] | a blue moon[1.5s] | a green ring[1.5s#]"
    try write(inline + "\n", "a.txt")
    let forms: [[String]] = [
      ["--prompt", inline, "--on-switch", "flush"], ["--prompt-file", "a.txt", "--on-switch", "flush"],
      ["--storyboard", "a.yaml"], ["--storyboard", "a.json"],
    ]
    var films: [Data] = []
    let flags = Self.small + ["--sink", "3"]
    for (i, form) in forms.enumerated() {
      let result = try generate(form + flags + ["--json", "-o", "\(i).mp4"])
      #expect(result.status == 0, "\(result.error)")
      films.append(try Data(contentsOf: URL(fileURLWithPath: scratch.file("\(i).mp4"))))
      guard i == 0 else { continue }
      let events = try result.text.split(separator: "\n").map { try json($0) }
      let receipts = events.filter { $0["event"] as? String == "prompt" }.compactMap { $0["value"] as? [String: Any] }
      #expect(receipts.compactMap { $0["applied_at_chunk"] as? Int } == [2, 4], "\(receipts)")
      #expect(receipts.compactMap { $0["seconds"] as? Double } == [1.3125, 2.8125])
      #expect(receipts.compactMap { $0["hard_cut"] as? Bool } == [false, true])
      let chunks = events.filter { $0["event"] as? String == "chunk" }.compactMap { $0["value"] as? [String: Any] }
      #expect(chunks.compactMap { $0["prompt"] as? Int } == [0, 0, 1, 1, 2, 2, 2])
      // The plan knows what the switches do to the memory: a flush leaves the sink and two frames.
      let plan = try json(try generate(["plan", "--json"] + form + flags).text)
      let planned = try #require(plan["chunks"] as? [[String: Any]])
      #expect(chunks.compactMap { $0["visible_frames"] as? Int } == [3, 6, 8, 11, 3, 6, 9])
      #expect(planned.compactMap { $0["visible_frames"] as? Int } == [3, 6, 8, 11, 3, 6, 7])
      let prompts = try #require(plan["prompts"] as? [[String: Any]])
      #expect(prompts.compactMap { $0["chunk"] as? Int } == [0, 2, 4])
      let record = try json(try String(contentsOfFile: scratch.file("0.json"), encoding: .utf8))
      let settings = try #require(record["settings"] as? [String: Any])
      #expect((settings["prompts"] as? [[String: Any]])?.compactMap { $0["chunk"] as? Int } == [0, 2, 4])
    }
    #expect(films.allSatisfy { $0 == films[0] })
    // Repeated --prompt has no hard cut, so another video; the note says where the time was moved to.
    let result = try generate(
      ["--prompt", "a red star", "--prompt", "a blue moon", "--at", "1.5", "--seconds", "4.5", "-o", "r.mp4"]
        + Self.small)
    #expect(result.error.contains("prompt 2 takes effect with chunk 2, at 1.31 s (asked for at 1.5 s): recache"))
    #expect(result.error.contains("recache of 6 latent frames"), "\(result.error)")
  }

  @Test(
    "The plan's counts are the run's, whatever the recipe, across a flush and a hard cut",
    arguments: [
      "self-forcing", "sparse-forcing", "light-forcing", "lvsa", "dense",
    ])
  func planFollowsSwitches(recipe: String) throws {
    let arguments =
      ["--prompt", "a[3s] | b[3s] | c[3s#]", "--on-switch", "flush", "--sparsity", recipe, "--seconds", "8"]
      + Self.small
    let plan = try json(try generate(["plan", "--json"] + arguments).text)
    let result = try generate(arguments + ["--json", "-o", "a.mp4"])
    #expect(result.status == 0, "\(result.error)")
    let events = try result.text.split(separator: "\n").map { try json($0) }
    let chunks = events.filter { $0["event"] as? String == "chunk" }.compactMap { $0["value"] as? [String: Any] }
    let planned = try #require(plan["chunks"] as? [[String: Any]])
    #expect(chunks.count == 11)
    #expect(
      planned.compactMap { $0["visible_frames"] as? Int } == chunks.compactMap { $0["visible_frames"] as? Int },
      "\(recipe)")
  }

  static let refused: [(files: [String: String], arguments: [String], saying: String)] = [
    ([:], ["-p", "a | b[5s]"], "prompt, character 2: segment 1 has no duration"),
    ([:], ["-p", "a[5x] | b"], "character 2: \"[5x]\" is no duration such as [5s]"),
    ([:], ["-p", "a[5s] |  | c[1s]"], "character 8: segment 2 is empty"),
    ([:], ["-p", "a", "-p", "b"], "2 prompts and 0 times"), ([:], ["-p", "a", "--at", "1", "--at", "2"], "--at"),
    ([:], ["-p", "a", "-p", "b", "-p", "c", "--at", "3", "--at", "2"], "prompt 3 begins at 2.0 s, not after prompt 2"),
    ([:], ["-p", "a", "-p", "b", "--at", "-1"], "prompt 2 begins at -1.0 s; a time is 0 or more"),
    ([:], ["-p", "a", "-p", "b", "--at", "nan"], "prompt 2 begins at nan s"),
    ([:], ["-p", "a", "-p", "b", "--at", "soon"], "--at"),
    ([:], ["-p", "a", "--at", "3"], "the first prompt begins at 0"),
    ([:], ["--at", "3"], "--at 3.0 without a --prompt"),
    (
      [:], ["-p", "a", "-p", "b", "--at", "9", "--seconds", "4"], "prompt 2 begins at 9 s, but the video of 4.06 s ends"
    ),
    ([:], ["-p", "a", "-p", "b", "-p", "c", "--at", "1", "--at", "1.1"], "would both begin with chunk 2"),
    ([:], ["-p", "a", "-p", " ", "--at", "1"], "prompt 2 is empty"),
    ([:], ["-p", "a", "-p", "b", "--at", "1", "--on-switch", "forget"], "there are recache, flush, keep"),
    ([:], ["-p", "a", "-p", "b", "--at", "1", "--blend", "-2"], "--blend -2"),
    ([:], ["-p", "a", "-p", "b", "--at", "1", "--blend-mode", "cubic"], "there are linear, spherical"),
    ([:], ["-p", "a[2s] | b[1s] | c", "--blend", "4"], "prompt 2 blends over 4 chunks"),
    ([:], ["-p", "a", "-p", "b", "--at", "1", "--mode", "clip"], "2 prompts need --mode chunks"),
    ([:], ["-p", "a", "--storyboard", "s.yaml"], "give one prompt"),
    ([:], ["--storyboard", "nowhere.yaml"], "--storyboard nowhere.yaml cannot be read"),
    (["s.yaml": "a: [1"], ["--storyboard", "s.yaml"], "--storyboard s.yaml: it is no YAML"),
    (["s.json": "{\"prompts\": ["], ["--storyboard", "s.json"], "--storyboard s.json: it is no JSON"),
    (["s.yaml": "just words"], ["--storyboard", "s.yaml"], "wanted a table with the key 'prompts'"),
    (["s.yaml": "prompts: []"], ["--storyboard", "s.yaml"], "'prompts' is missing or no list"),
    (["s.yaml": "prompts: [a]\nfps: 3"], ["--storyboard", "s.yaml"], "unknown key 'fps'"),
    (["s.yaml": "prompts: [{txt: a}]"], ["--storyboard", "s.yaml"], "prompt 1 has the unknown key 'txt'"),
    (["s.yaml": "prompts: [a, {at: 3}]"], ["--storyboard", "s.yaml"], "prompt 2: 'text' is missing"),
    (["s.yaml": "prompts: [a, b]"], ["--storyboard", "s.yaml"], "prompt 2: give 'at' in seconds"),
    (["s.yaml": "prompts: [a, {text: b, at: soon}]"], ["--storyboard", "s.yaml"], "prompt 2: 'at' is 'soon'"),
    (["s.yaml": "prompts: [a, {text: b, at: 3, cut: 1}]"], ["--storyboard", "s.yaml"], "prompt 2: 'cut' is '1'"),
    (
      ["s.yaml": "prompts: [a, {text: b, at: 3, on_switch: burn}]"], ["--storyboard", "s.yaml"],
      "prompt 2: 'on_switch' is 'burn'; there are recache, flush, keep"
    ),
    (["s.yaml": "prompts: [a, {text: b, at: 3, blend: 1.5}]"], ["--storyboard", "s.yaml"], "'blend' is 1.5"),
    (
      ["s.yaml": "prompts: [a, {text: b, at: 3, cut: true, blend: 2}]"], ["--storyboard", "s.yaml"],
      "prompt 2: a hard cut cannot blend"
    ),
    (["s.yaml": "prompts: [{text: a, weight: 0.5}]"], ["--storyboard", "s.yaml"], "prompt 1: 'weight' is 0.5"),
    (
      ["s.yaml": "prompts: [{text: a, for: 3}, {text: b, at: 4}]"], ["--storyboard", "s.yaml"],
      "prompt 2: begins at 4.0 s, but the prompt before ends at 3.0 s"
    ),
    (
      ["s.yaml": "seconds: 2\nprompts: [a, {text: b, at: 3}]"], ["--storyboard", "s.yaml"],
      "the last prompt begins at 3.0 s and ends at 2.0 s"
    ),
  ]

  @Test(
    "A timeline that cannot be had is one line that names the place, and nothing is made", arguments: refused.indices)
  func timelinesThatCannotBeHad(index: Int) throws {
    let (files, arguments, text) = Self.refused[index]
    for (name, content) in files { try write(content, name) }
    for command in [[], ["plan"]] {
      let result = try generate(command + arguments + Self.small + ["-o", "a.mp4"])
      let lines = result.error.split(whereSeparator: \.isNewline)
      #expect(result.status == 2 && lines.count == 1, "\(command + arguments): \(result)")
      #expect(
        lines.last?.hasPrefix("generate-video: ") == true && lines.last?.contains(text) == true, "\(result.error)")
    }
    #expect(try scratch.names() == files.keys.sorted())
  }
}
