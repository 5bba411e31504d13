import Foundation
import Rollout
import Yams

/// A file that says which prompt holds when: YAML, or JSON by the extension `.json`.
///
/// ```yaml
/// on_switch: recache        # or flush, keep
/// blend: 2                  # chunks; and blend_mode: linear or spherical
/// prompts:
///   - text: a large red star over green hills
///   - text: a small blue moon over purple waves
///     at: 6                 # seconds; or `for:` of the one before
///     cut: true
///     on_switch: keep       # any of the above for this switch alone
/// ```
///
/// The timelines of Daydream Scope (`startTime`, `endTime`, `text`, `weight: 1`) are read too. An unknown key is an error.
enum Storyboard {
  static func read(_ path: String) throws -> PromptTimeline {
    guard let data = FileManager.default.contents(atPath: path), let text = String(data: data, encoding: .utf8) else {
      throw UsageError("--storyboard \(path) cannot be read as UTF-8 text")
    }
    let reader = Reader(path: path)
    let root: Any?
    if path.lowercased().hasSuffix(".json") {
      do { root = try JSONDecoder().decode(JSON.self, from: data).value } catch {
        throw reader.failure("it is no JSON: \(reader.reason(error))")
      }
    } else {
      do { root = try Yams.load(yaml: text) } catch { throw reader.failure("it is no YAML: \(reader.reason(error))") }
    }
    return try reader.timeline(root)
  }

  /// A JSON value as YAML's reader gives it: Bool, Int, Double, String, list or table; numbers are never true or false.
  private struct JSON: Decodable {
    let value: Any?

    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      if container.decodeNil() {
        value = nil
      } else if let flag = try? container.decode(Bool.self) {
        value = flag
      } else if let number = try? container.decode(Int.self) {
        value = number
      } else if let number = try? container.decode(Double.self) {
        value = number
      } else if let text = try? container.decode(String.self) {
        value = text
      } else if let list = try? container.decode([JSON].self) {
        value = list.map { $0.value ?? NSNull() }
      } else {
        value = try container.decode([String: JSON].self).compactMapValues(\.value)
      }
    }
  }

  private struct Reader {
    let path: String

    func failure(_ problem: String) -> UsageError { UsageError("--storyboard \(path): \(problem)") }

    /// A parser's words on one line.
    func reason(_ error: any Error) -> String {
      let words: String
      if let error = error as? YamlError {
        words = "\(error)"
      } else if case .dataCorrupted(let context)? = error as? DecodingError {
        let cause = (context.underlyingError as NSError?)?.userInfo["NSDebugDescription"] as? String
        words = cause ?? context.debugDescription
      } else {
        words = error.localizedDescription
      }
      return words.split(whereSeparator: \.isNewline).map { $0.trimmingCharacters(in: .whitespaces) }
        .filter { !$0.isEmpty && $0 != "^" }.joined(separator: " ")
    }

    func timeline(_ root: Any?) throws -> PromptTimeline {
      guard let root = root as? [String: Any] else { throw failure("wanted a table with the key 'prompts'") }
      try check(
        root, known: ["prompts", "on_switch", "blend", "blend_mode", "seconds", "settings"], of: "the storyboard")
      guard let list = root["prompts"] as? [Any], !list.isEmpty else {
        throw failure("'prompts' is missing or no list of prompts")
      }
      var timeline = PromptTimeline(segments: [])
      if let kind: PromptSwitch.Kind = try choice(root, "on_switch", of: "the storyboard") { timeline.onSwitch = kind }
      if let mode: PromptBlend = try choice(root, "blend_mode", of: "the storyboard") { timeline.blendMode = mode }
      if let blend = try whole(root, "blend", of: "the storyboard") { timeline.blend = blend }
      // Where the prompt before ends, if it says so.
      var end: Double? = 0
      for (i, entry) in list.enumerated() {
        let name = "prompt \(i + 1)"
        let table = (entry as? String).map { ["text": $0] as [String: Any] } ?? entry as? [String: Any]
        guard let table else { throw failure("\(name) is neither a text nor a table with the key 'text'") }
        try check(
          table,
          known: [
            "text", "at", "for", "cut", "on_switch", "blend", "blend_mode", "startTime", "endTime", "weight",
          ], of: name)
        guard let text = table["text"] as? String else { throw failure("\(name): 'text' is missing or no text") }
        if let weight = try number(table, "weight", of: name), weight != 1 {
          throw failure("\(name): 'weight' is \(weight); only 1 is possible, one prompt at a time")
        }
        let at = try number(table, "at", of: name) ?? number(table, "startTime", of: name)
        guard let start = at ?? end else {
          throw failure("\(name): give 'at' in seconds, or 'for' of the prompt before")
        }
        if let at, let end, end != at, i > 0 {
          throw failure("\(name): begins at \(at) s, but the prompt before ends at \(end) s")
        }
        var segment = PromptTimeline.Segment(text, at: start)
        if let cut = table["cut"] {
          guard let cut = cut as? Bool else { throw failure("\(name): 'cut' is '\(cut)', wanted true or false") }
          segment.isCut = cut
        }
        segment.onSwitch = try choice(table, "on_switch", of: name)
        segment.blendMode = try choice(table, "blend_mode", of: name)
        segment.blend = try whole(table, "blend", of: name)
        timeline.segments.append(segment)
        end = try number(table, "for", of: name).map { start + $0 } ?? number(table, "endTime", of: name)
      }
      timeline.end = try number(root, "seconds", of: "the storyboard") ?? end
      do { try timeline.check() } catch { throw failure("\(error)") }
      return timeline
    }

    private func check(_ table: [String: Any], known: [String], of name: String) throws {
      if let key = table.keys.sorted().first(where: { !known.contains($0) }) {
        throw failure("\(name) has the unknown key '\(key)'; known are \(known.joined(separator: ", "))")
      }
    }

    private func number(_ table: [String: Any], _ key: String, of name: String) throws -> Double? {
      guard let value = table[key] else { return nil }
      let number = (value as? Int).map(Double.init) ?? value as? Double
      guard let number, !(value is Bool), number.isFinite, number >= 0 else {
        throw failure("\(name): '\(key)' is '\(value)', wanted a number of 0 or more")
      }
      return number
    }

    private func whole(_ table: [String: Any], _ key: String, of name: String) throws -> Int? {
      guard let number = try number(table, key, of: name) else { return nil }
      guard number == number.rounded(), number <= 10_000 else {
        throw failure("\(name): '\(key)' is \(number), wanted a whole number up to 10000")
      }
      return Int(number)
    }

    private func choice<Choice: RawRepresentable & CaseIterable>(_ table: [String: Any], _ key: String, of name: String)
      throws -> Choice? where Choice.RawValue == String
    {
      guard let value = table[key] else { return nil }
      guard let choice = (value as? String).flatMap(Choice.init(rawValue:)) else {
        throw failure(
          "\(name): '\(key)' is '\(value)'; there are \(Choice.allCases.map(\.rawValue).joined(separator: ", "))")
      }
      return choice
    }
  }
}

extension PromptTimeline {
  /// Reads a storyboard file, YAML or JSON; docs/formats.md has its keys.
  /// - Throws: ``UsageError`` that names the file, the prompt and the key.
  public init(storyboard path: String) throws { self = try Storyboard.read(path) }
}
