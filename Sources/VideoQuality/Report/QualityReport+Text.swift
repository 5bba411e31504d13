import Foundation

extension QualityReport {
  /// The report for people: a line per measure, with what it means.
  public var text: String {
    var lines: [String] = []
    if let video, let pixels {
      lines.append(
        "\(input): \(video.width)x\(video.height), \(video.fps) fps, "
          + "\(pixels.frames) frame\(pixels.frames == 1 ? "" : "s"), "
          + "\(number(video.seconds, 1)) s\(chunkWords)")
    } else {
      lines.append("\(input): latents only")
    }
    lines.append("")
    if let pixels {
      lines.append(line("loop score, pixels", number(pixels.loop.score, 1), loopWords(pixels.loop)))
    }
    if let latents {
      lines.append(line("loop score, latents", number(latents.loop.score, 1), loopWords(latents.loop)))
    }
    if let pixels { lines += self.lines(of: pixels) }
    if !notes.isEmpty { lines.append("") }
    return (lines + notes.map { "note: \($0)" }).joined(separator: "\n")
  }

  private func lines(of pixels: VideoMeasures) -> [String] {
    var lines: [String] = []
    if let freeze = pixels.freeze {
      lines.append(
        line(
          "freeze rate", number(freeze.rate, 3),
          "of \(freeze.pairs) moments without motion; the longest row \(number(freeze.longest, 3))"))
    }
    if let motion = pixels.motion {
      lines.append(
        line(
          "dynamic degree", number(motion.dynamicDegree, 3),
          "of the pixels move more than 1 px in 0.5 s; mean \(number(motion.flow, 2)) px at a longer side of 480"))
      lines.append(
        line(
          "direction entropy", motion.directionEntropy.map { number($0, 3) } ?? "-",
          motion.directionEntropy == nil ? "nothing moves" : "0 one direction, 1 all directions"))
    }
    if let drift = pixels.drift {
      lines.append(line("drift of brightness", signed(drift.brightness.change), words(drift.brightness)))
      lines.append(line("drift of contrast", signed(drift.contrast.change), words(drift.contrast)))
      lines.append(
        line(
          "drift of colour", number(drift.colour, 2),
          "Cb \(signed(drift.blue.change)), Cr \(signed(drift.red.change)), saturation "
            + "\(signed(drift.saturation.change))\(drift.saturation.isDrift ? " (drifts)" : "")"))
      lines.append(line("drift of sharpness", signed(drift.sharpness.change), words(drift.sharpness)))
    }
    if let flicker = pixels.flicker {
      lines.append(
        line(
          "flicker", number(flicker.brightness, 3), "levels, of the whole; \(number(flicker.local, 3)) in 8x8 cells"))
    }
    if let seams = pixels.seams {
      lines.append(
        line(
          "seam error", signed(seams.error),
          "levels above the frames around, \(number(seams.ratio, 2)) times theirs; outliers \(number(seams.outliers, 2)); "
            + "worst \(signed(seams.worst)) at frame \(seams.worstFrame)"))
    }
    return lines
  }

  private var chunkWords: String {
    guard let chunks else { return "" }
    let source =
      switch chunks.source {
      case "flag": "by the flag"
      case "latents": "by the run's latents"
      default: "by the run's record"
      }
    return "; \(chunks.borders.count) chunk border\(chunks.borders.count == 1 ? "" : "s"), \(source)"
  }

  private func loopWords(_ loop: LoopScore) -> String {
    guard let cycle = loop.cycle, let duplicates = loop.duplicates, let periodicity = loop.periodicity,
      let autocorrelation = loop.autocorrelation
    else { return "of 100, by convention: too few samples" }
    let period = loop.cycleDetected ? "; most alike \(loop.period.map(periodWords) ?? "?") apart" : ""
    return "of 100; cycle \(number(cycle, 2)), duplicates \(number(duplicates, 2)), periodicity "
      + "\(number(periodicity, 2)), autocorrelation \(number(autocorrelation, 2))\(period)"
  }

  private func periodWords(_ samples: Int) -> String {
    guard let video else { return "\(samples) samples" }
    return "\(number(Double(samples) * video.sampleSeconds, 1)) s"
  }

  private func words(_ trend: Trend) -> String {
    "levels from start to end, ± \(number(trend.standardError, 2)); mean \(number(trend.mean, 1))"
      + (trend.isDrift ? " (drifts)" : "")
  }

  private func line(_ name: String, _ value: String, _ words: String) -> String {
    name + String(repeating: " ", count: max(1, 22 - name.count))
      + String(repeating: " ", count: max(0, 8 - value.count)) + value + "  " + words
  }

  private func number(_ value: Double, _ digits: Int) -> String { String(format: "%.\(digits)f", value) }
  private func signed(_ value: Double) -> String { String(format: "%+.2f", value) }
}
