import Foundation

/// Numbers for people.
public enum Format {
  /// `512 MB`, `5.8 GB`.
  public static func bytes(_ count: Int) -> String {
    let (value, units) = (Double(count), ["B", "kB", "MB", "GB", "TB"])
    var (scaled, unit) = (value, 0)
    while scaled >= 1000, unit + 1 < units.count {
      scaled /= 1000
      unit += 1
    }
    return String(format: scaled < 10 && unit > 0 ? "%.1f %@" : "%.0f %@", scaled, units[unit])
  }

  /// `41 s`, `3 min 05 s`, `2 h 10 min`.
  public static func time(_ seconds: Double) -> String {
    guard seconds.isFinite, seconds < 1e7 else { return "?" }
    let total = Int(seconds.rounded())
    if seconds < 10 { return String(format: "%.1f s", seconds) }
    if total < 60 { return "\(total) s" }
    if total < 3600 { return String(format: "%d min %02d s", total / 60, total % 60) }
    return String(format: "%d h %02d min", total / 3600, total % 3600 / 60)
  }

  /// `1.42 billion`, `15.6 million`.
  public static func count(_ n: Int) -> String {
    n >= 1_000_000_000
      ? String(format: "%.2f billion", Double(n) / 1e9)
      : n >= 1_000_000 ? String(format: "%.1f million", Double(n) / 1e6) : "\(n)"
  }
}
