import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// How two text states are mixed, row by row; w is the share of the second.
public enum PromptBlend: String, Sendable, Codable, CaseIterable {
  /// `(1 - w) a + w b`.
  case linear
  /// `sin((1 - w) t) / sin t a + sin(w t) / sin t b`, t the angle between the rows (Shoemake's slerp); linear where a row is
  /// zero or the rows point the same or opposite ways.
  case spherical

  /// The mixture of the text encoder's rows `[n, width]` and `[m, width]`: `[max(n, m), width]`, the shorter one continued by
  /// zeros, which is what the transformer pads with. In double precision, rounded once.
  public func mix(_ a: Tensor, _ b: Tensor, weight w: Double) -> Tensor {
    precondition(a.shape.count == 2 && b.shape.count == 2 && a.shape[1] == b.shape[1], "\(a.shape) and \(b.shape)")
    let (width, rows) = (a.shape[1], max(a.shape[0], b.shape[0]))
    let (x, y) = (a.floats(), b.floats())
    var out = [Float](repeating: 0, count: rows * width)
    for row in 0..<rows {
      let start = row * width
      func value(_ values: [Float], _ i: Int) -> Double { start + i < values.count ? Double(values[start + i]) : 0 }
      var (p, q) = (1 - w, w)
      if self == .spherical {
        var (xx, yy, xy) = (0.0, 0.0, 0.0)
        for i in 0..<width {
          let (u, v) = (value(x, i), value(y, i))
          (xx, yy, xy) = (xx + u * u, yy + v * v, xy + u * v)
        }
        let cosine = xx > 0 && yy > 0 ? max(-1, min(1, xy / (xx * yy).squareRoot())) : 1
        if abs(cosine) < 0.9995 {
          let angle = acos(cosine)
          (p, q) = (sin((1 - w) * angle) / sin(angle), sin(w * angle) / sin(angle))
        }
      }
      for i in 0..<width { out[start + i] = Float(p * value(x, i) + q * value(y, i)) }
    }
    return Tensor(out, shape: [rows, width])
  }
}

/// The prompts of a rollout: the text encoder's rows of each, and which holds when.
public struct PromptScript: Sendable {
  /// By number of the prompt, `[length, textWidth]`.
  public let rows: [Tensor]
  public let schedule: PromptSchedule

  public init(rows: [Tensor], schedule: PromptSchedule) {
    precondition(
      schedule.switches.allSatisfy { rows.indices.contains($0.prompt) }, "a schedule names a prompt that is not there")
    self.rows = rows
    self.schedule = schedule
  }

  /// The text state of a chunk.
  func rows(_ mix: PromptMix) -> Tensor {
    guard let from = mix.from else { return rows[mix.prompt] }
    return mix.mode.mix(rows[from], rows[mix.prompt], weight: mix.weight)
  }
}
