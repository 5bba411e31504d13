import Foundation
import Tensors
import VideoIO

/// Pictures of how one source differs from another, with a number for each.
protocol DifferenceSource: PictureSource {
  /// Of the pictures that were taken, in order: the number, and decibels, infinite where both are equal.
  var results: [(index: Int, decibels: Double)] { get }
  /// What the decibels are.
  var measure: String { get }
  /// What was left out, in a line; nil if nothing was.
  func remark() throws -> String?
}

extension DifferenceSource {
  /// A line per picture and one for all.
  func report() throws -> [String] {
    var lines = results.map { "\(noun) \($0.index): \(Self.words($0.decibels))" }
    let equal = results.count { $0.decibels == .infinity }
    let others = results.filter { $0.decibels != .infinity }
    var words = "\(results.count) \(noun)\(results.count == 1 ? "" : "s"), \(measure): "
    if let least = others.min(by: { $0.decibels < $1.decibels }) {
      let mean = others.reduce(0) { $0 + $1.decibels } / Double(others.count)
      words += "mean \(Self.words(mean)), least \(Self.words(least.decibels)) at \(noun) \(least.index), \(equal) equal"
      if let first = others.first { words += "; the first that differs is \(first.index)" }
    } else {
      words += "all equal"
    }
    lines.append(words)
    if let remark = try remark() { lines.append("note: \(remark)") }
    return lines
  }

  /// The numbers as a table with a line per picture; `inf` where both are equal.
  func writeTable(to path: String) throws {
    let rows = results.map { "\($0.index),\($0.decibels == .infinity ? "inf" : String(format: "%.4f", $0.decibels))" }
    try DurableFile.write(Data(("index,db\n" + rows.joined(separator: "\n") + "\n").utf8), to: path)
  }

  private static func words(_ decibels: Double) -> String {
    decibels == .infinity ? "equal" : String(format: "%.2f dB", decibels)
  }

  /// The remark on lengths.
  func remark(_ first: Int, _ firstPath: String, _ second: Int, _ secondPath: String) -> String? {
    guard first != second else { return nil }
    return "'\(firstPath)' has \(first) \(noun)s and '\(secondPath)' \(second); those that both have were compared"
  }
}

/// How the frames of two videos differ: grey where they do not, the difference of each channel four times as large.
final class VideoDifference: DifferenceSource {
  let noun = "frame"
  let prefix = "difference"
  let measure = "PSNR of 8-bit RGB"
  private let first: VideoPictures
  private let second: VideoPictures
  private var index = 0
  private(set) var results: [(index: Int, decibels: Double)] = []

  init(_ first: VideoPictures, _ second: VideoPictures) { (self.first, self.second) = (first, second) }

  var path: String { first.path }
  var summary: String { "\(first.summary) less \(second.summary)" }
  func count() throws -> Int { try min(first.count(), second.count()) }
  func remark() throws -> String? { try remark(first.count(), first.path, second.count(), second.path) }

  func next() throws -> RGBFrame? {
    guard let a = try first.next(), let b = try second.next() else { return nil }
    guard a.width == b.width, a.height == b.height else {
      throw VideoIOError.cannotRead(
        path: second.path,
        reason: "its frames have \(b.width)x\(b.height) pixels and those of '\(first.path)' \(a.width)x\(a.height)")
    }
    results.append((index, a.psnr(to: b)))
    index += 1
    let pixels = zip(a.pixels, b.pixels).map { UInt8(max(0, min(255, 128 + 4 * (Int($0) - Int($1))))) }
    return RGBFrame(width: a.width, height: a.height, pixels: pixels)
  }

  func skip() throws -> Bool {
    index += 1
    return try first.skip() && second.skip()
  }
}

/// How two latent clips differ, in false colour. The decibels are those of the first clip's energy over the difference's.
final class LatentDifference: DifferenceSource {
  let noun = "latent frame"
  let prefix = "latent-difference"
  let measure = "signal to difference"
  private let first: LatentFrames
  private let second: LatentFrames
  private var index = 0
  private(set) var results: [(index: Int, decibels: Double)] = []

  /// - Throws: `VideoIOError.cannotRead` for clips of different shapes, or of which one lacks the beginning.
  init(_ first: LatentClip, _ second: LatentClip) throws {
    guard first.shape[1...] == second.shape[1...] else {
      throw VideoIOError.cannotRead(
        path: second.path, reason: "its latents are \(second.shape) and those of '\(first.path)' \(first.shape)")
    }
    guard first.firstChunk == second.firstChunk else {
      throw VideoIOError.cannotRead(
        path: second.path,
        reason:
          "its latents begin with chunk \(second.firstChunk) and those of '\(first.path)' with \(first.firstChunk)")
    }
    (self.first, self.second) = (LatentFrames(first), LatentFrames(second))
  }

  var path: String { first.clip.path }
  var summary: String { "'\(first.clip.path)' less '\(second.clip.path)'" }
  func count() -> Int { min(first.clip.shape[0], second.clip.shape[0]) }
  func remark() -> String? {
    remark(first.clip.shape[0], first.clip.path, second.clip.shape[0], second.clip.path)
  }

  func next() throws -> RGBFrame? {
    guard let a = try first.next(), let b = try second.next() else { return nil }
    let (x, y) = (a.floats(), b.floats())
    var (signal, noise) = (0.0, 0.0)
    for (u, v) in zip(x, y) {
      signal += Double(u) * Double(u)
      noise += (Double(u) - Double(v)) * (Double(u) - Double(v))
    }
    results.append((index, noise == 0 ? .infinity : 10 * log10(signal / noise)))
    index += 1
    return try FalseColour.picture(of: Tensor(zip(x, y).map { $0 - $1 }, shape: a.shape))
  }

  func skip() -> Bool {
    index += 1
    let (a, b) = (first.skip(), second.skip())
    return a && b
  }
}
