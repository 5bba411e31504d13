import SparseAttention
import Tensors
import VideoIO

/// Writes maps of what a run kept, read and attended to, and the numbers behind them.
struct AttentionDump {
  private let input: String
  private let output: String
  private let chunks: FrameSelection?
  private let layers: FrameSelection?
  private let heads: FrameSelection?
  private let pass: AttentionSelection.Pass?
  private let video: String?
  private let scale: Double?
  /// How many chunks are shown if none are chosen.
  private let spread = 8
  /// How wide a frame is at most, if there is no scale.
  private let cellWidth = 128.0

  /// Checks everything that can be known without reading the input.
  ///
  /// - Throws: `UsageError`, `VideoIOError.invalidSetting`.
  init(
    input: String, output: String?, chunks: String?, layers: String?, heads: String?, pass: String?, video: String?,
    scale: Double?
  ) throws {
    guard let output, !output.isEmpty, !input.isEmpty, video != "" else {
      throw UsageError("--attention needs an input and -o DIR, where the maps go")
    }
    self.input = input
    self.output = output
    func list(_ text: String?, _ name: String) throws -> FrameSelection? {
      try text.map { try FrameSelection(list: $0, name: name) }
    }
    self.chunks = try list(chunks, "--chunks")
    self.layers = try list(layers, "--layers")
    self.heads = try list(heads, "--heads")
    self.pass = try pass.map { text in
      guard let pass = AttentionSelection.Pass(text) else {
        throw UsageError("--pass \(text) is neither a denoising step from 0 nor clean")
      }
      return pass
    }
    self.video = video
    self.scale = scale
    _ = try ContactSheet(scale: scale ?? 1)
  }

  /// Does it.
  ///
  /// - Returns: lines that say what was written.
  /// - Throws: `VideoIOError`, or an error of `Tensors`.
  func run() throws -> [String] {
    let source = try InputSource(path: input)
    let records = try records(of: source)
    let pictures = try pictures(for: records, of: source)
    try OutputFolder.make(output)
    var lines: [String] = []
    if pictures.isEmpty { lines.append("no video: the maps are drawn on grey; --video FILE names it") }
    for record in records {
      let path = "\(output)/attention-\(digits(record.chunk, 6)).safetensors"
      try record.write(to: path)
    }
    lines.append("\(output): numbers of \(count(records.count, "chunk"))")
    for layer in Set(records.flatMap(\.layerNumbers)).sorted() {
      for head in Set(records.flatMap(\.headNumbers)).sorted() {
        let sheet = AttentionSheet(layer: layer, head: head, records: records, pass: pass, pictures: pictures)
        guard let picture = try sheet?.picture() else { continue }
        let path = "\(output)/attention-layer\(digits(layer, 2))-head\(digits(head, 2)).png"
        try PNG.write(picture, to: path)
        lines.append("\(path): \(picture.width)x\(picture.height) pixels")
      }
    }
    return lines
  }

  /// The chosen part of the chosen records.
  private func records(of source: InputSource) throws -> [AttentionRecord] {
    var files = try source.attentionFiles()
    if let chunks {
      guard files.contains(where: { chunks.contains($0.chunk) }) else {
        throw missing(source, "chunk", files.map(\.chunk))
      }
      files = files.filter { chunks.contains($0.chunk) }
    } else {
      let shown = FrameSelection.spread(spread, over: files.count)
      files = files.enumerated().filter { shown.contains($0.offset) }.map(\.element)
    }
    let all = try files.map { try AttentionRecord(path: $0.path) }
    func chosen(_ selection: FrameSelection?, _ noun: String, _ there: [Int]) throws -> Set<Int>? {
      guard let selection else { return nil }
      let chosen = Set(there.filter(selection.contains))
      if chosen.isEmpty { throw missing(source, noun, there) }
      return chosen
    }
    let layers = try chosen(layers, "layer", Set(all.flatMap(\.layerNumbers)).sorted())
    let heads = try chosen(heads, "head", Set(all.flatMap(\.headNumbers)).sorted())
    let passes = Set(all.flatMap(\.passes)).sorted()
    if let pass, !passes.contains(pass) {
      throw VideoIOError.cannotRead(
        path: source.path,
        reason: "pass \(pass) was not recorded; there are \(passes.map(\.description).joined(separator: ", "))")
    }
    return all.map { $0.part(layers: layers, heads: heads, passes: pass.map { [$0] }) }
  }

  private func missing(_ source: InputSource, _ noun: String, _ there: [Int]) -> VideoIOError {
    let numbers = there.prefix(12).map(String.init).joined(separator: ", ") + (there.count > 12 ? ", ..." : "")
    return .cannotRead(path: source.path, reason: "no such \(noun) was recorded; there are \(numbers)")
  }

  /// The middle frame of the video for each latent frame that the maps show; empty if there is no video.
  private func pictures(for records: [AttentionRecord], of source: InputSource) throws -> [Int: RGBFrame] {
    var path = video
    if path == nil {
      do { path = try source.videoPath() } catch { return [:] }
    }
    guard let path else { return [:] }
    // Latent frame f > 0 is video frames 4 f - 3 to 4 f.
    let last = records.map { $0.firstFrame + $0.frames - 1 }.max() ?? 0
    var wanted: [Int: Int] = [:]
    for frame in 0...last { wanted[max(0, 4 * frame - 2)] = frame }
    let reader = try VideoReader(path: path)
    var pictures: [Int: RGBFrame] = [:]
    var index = 0
    while pictures.count < wanted.count {
      if let frame = wanted[index] {
        guard let picture = try reader.next() else { break }
        pictures[frame] = picture.scaledDown(by: scale ?? min(1, cellWidth / Double(picture.width)))
      } else if try !reader.skip() {
        break
      }
      index += 1
    }
    return pictures
  }

  private func digits(_ number: Int, _ count: Int) -> String {
    let text = String(number)
    return String(repeating: "0", count: max(0, count - text.count)) + text
  }

  private func count(_ number: Int, _ noun: String) -> String { "\(number) \(noun)\(number == 1 ? "" : "s")" }
}
