extension RunPlan {
  /// The plan for people.
  public var text: String {
    var lines = [
      "\(model), \(width)x\(height), \(endless ? "without end, of which " : "")\(numFrames) frames at \(fps) fps: "
        + "\(latentFrames) latent frames "
        + (mode == "clip" ? "at once" : "in \(chunks.count) chunks of \(chunkFrames)"),
      "steps    \(sampler.map { $0 + ": " } ?? "")" + schedule.timesteps.map { Self.short($0) }.joined(separator: ", ")
        + (mode == "clip" ? "" : ", then the clean pass") + (guidance == 1 ? "" : "; guidance \(Self.short(guidance))"),
      "recipe   \(recipe): \(memory), positions \(positions)"
        + (pattern.map { "; anchors every \($0.stride), half window \($0.window), first \($0.first)" } ?? ""),
      "tokens   \(tokensPerFrame) a frame, \(tokensPerChunk) a chunk, pages of \(tile), \(pagesPerFrame) a frame",
      "memory   about \(Format.bytes(peakBytes)): weights \(Format.bytes(weightBytes)), keys and values "
        + "\(Format.bytes(kvBytes)) in \(kvFormat)\(comparison)"
        + (memory == "every frame" ? " (grows with the length)" : " (whatever the length)"),
      "work     \(Self.operations(flops)), about \(Format.time(estimatedSeconds)) on this machine (an estimate)",
    ]
    if prompts.count > 1 {
      lines += prompts.map { prompt in
        let manner =
          prompt.index == 0
          ? ""
          : prompt.hardCut ? ", hard cut" : ", \(prompt.onSwitch)" + (prompt.blend > 1 ? ", blend \(prompt.blend)" : "")
        return "prompt   chunk \(prompt.chunk), \(Self.short(prompt.seconds)) s\(manner): \(prompt.text)"
      }
    }
    lines.append("chunk  frames     sees  pages  read  density  work")
    func row(_ c: Chunk) -> String {
      let frames = "\(c.firstFrame)-\(c.firstFrame + c.frames - 1)"
      return [
        pad("\(c.index)", 5), "  ", frames, String(repeating: " ", count: max(1, 9 - frames.count)),
        pad("\(c.visibleFrames)", 6), pad("\(c.pagesKept)", 7), pad("\(c.pagesRead)", 6),
        pad(Self.percent(c.density), 9), "  ", Self.operations(c.flops) + (c.given ? "  given" : ""),
      ].joined()
    }
    // A long plan repeats itself once the window is full.
    if chunks.count <= 16 {
      lines += chunks.map(row)
    } else {
      lines += chunks.prefix(10).map(row) + ["  ... \(chunks.count - 12) more ..."] + chunks.suffix(2).map(row)
    }
    return lines.joined(separator: "\n")
  }

  /// `, 43% below a dense cache of 21 frames`, where that is another number; where keys keep channels to be turned by
  /// rank, against a cache that keeps them too and against one that does not.
  private var comparison: String {
    guard mode == "chunks", windowKvBytes > 0 else { return "" }
    func against(_ bytes: Int) -> String? {
      let share = 100 * (1 - Double(kvBytes) / Double(bytes))
      return bytes == kvBytes ? nil : "\(Self.short(abs(share)))% \(share > 0 ? "below" : "above")"
    }
    let fixed = against(windowKvBytes)
    if windowKvBytesSamePositions == windowKvBytes {
      return fixed.map { ", \($0) a dense cache of \(RunPlan.denseWindow) frames" } ?? ""
    }
    let cache = "a dense cache of \(RunPlan.denseWindow) frames"
    let same = against(windowKvBytesSamePositions).map { ", \($0) \(cache) with such positions" }
    return (same ?? "") + (fixed.map { ", \($0) \(same == nil ? cache : "one") with absolute positions" } ?? "")
  }

  private func pad(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.count)) + text
  }

  private static func percent(_ share: Double) -> String { "\(Self.short(100 * share))%" }

  private static func short(_ number: Double) -> String {
    let rounded = (number * 100).rounded() / 100
    return rounded == rounded.rounded() ? "\(Int(rounded))" : "\(rounded)"
  }

  private static func operations(_ flops: Double) -> String {
    flops >= 1e15
      ? "\(short(flops / 1e15)) PFLOP" : flops >= 1e12 ? "\(short(flops / 1e12)) TFLOP" : "\(short(flops / 1e9)) GFLOP"
  }
}
