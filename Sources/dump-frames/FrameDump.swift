import Foundation
import Tensors
import VideoIO

/// What one call of the program does: takes pictures from a source, and writes those that are chosen.
struct FrameDump {
  private let input: String
  private let output: String?
  /// Of frames, if they are named by numbers.
  private let selection: FrameSelection?
  /// Or by times, and of these every n-th.
  private let times: TimeSelection?
  private let step: Int
  /// What the pictures are compared with.
  private let other: String?
  private let sheetPath: String?
  private let columns: Int?
  private let scale: Double?
  private let writesLatents: Bool
  private let falseColour: Bool
  /// How many pictures a sheet shows if none are chosen.
  private let spread = 24
  /// How wide a picture on a sheet is at most, if there is no scale.
  private let cellWidth = 320.0

  /// Checks everything that can be known without reading the input.
  ///
  /// - Throws: `UsageError`, `VideoIOError.invalidSetting`.
  init(
    input: String, output: String?, frames: String?, times: String?, every: Int?, difference: String?, sheet: String?,
    columns: Int?, scale: Double?, latents: Bool, falseColour: Bool
  ) throws {
    self.input = input
    other = difference
    self.output = output
    sheetPath = sheet
    self.columns = columns
    self.scale = scale
    writesLatents = latents
    self.falseColour = falseColour
    step = every ?? 1
    let chosen = try FrameSelection(list: frames, step: step)
    selection = frames == nil && every == nil || times != nil ? nil : chosen
    self.times = try times.map { try TimeSelection(list: $0) }
    if frames != nil, times != nil { throw UsageError("give --frames or --times, not both") }
    if latents, difference != nil { throw UsageError("--latents writes what one input holds; leave out --difference") }
    // Checks columns and scale.
    _ = try ContactSheet(columns: columns, scale: scale ?? 1)
    if output == "" || sheet == "" || input == "" || difference == "" {
      throw UsageError("an empty name names nothing")
    }
    if output == nil && sheet == nil && difference == nil {
      throw UsageError("nothing to write: give -o DIR for pictures, or --sheet FILE.png for a contact sheet")
    }
    if latents && output == nil { throw UsageError("--latents needs -o DIR, where latents.safetensors goes") }
    if sheet == nil && (columns != nil || scale != nil) {
      throw UsageError("--columns and --scale belong to a contact sheet: add --sheet FILE.png")
    }
    if let sheet, !sheet.lowercased().hasSuffix(".png") { throw UsageError("--sheet '\(sheet)' is no .png file") }
  }

  /// Does it.
  ///
  /// - Returns: lines that say what was written.
  /// - Throws: `VideoIOError`, or an error of `Tensors`.
  func run() throws -> [String] {
    let source = try InputSource(path: input)
    var lines: [String] = []
    if writesLatents, let output {
      let clip = try source.latents()
      try OutputFolder.make(output)
      let path = output + "/latents.safetensors"
      let shape = try clip.write(to: path)
      let part = clip.firstChunk > 0 ? ", from chunk \(clip.firstChunk) on" : ""
      lines.append("\(path): latents \(shape)\(part)")
    }
    if let other {
      let difference = try source.difference(from: InputSource(path: other), latents: falseColour)
      lines += try dumpPictures(of: difference, chosen: chosen(of: source), toFolder: output != nil)
      if let output { try difference.writeTable(to: output + "/\(difference.prefix).csv") }
      return try difference.report() + lines
    }
    let chosen = try chosen(of: source)
    let writesPictures = output != nil && (!writesLatents || chosen != nil || falseColour)
    if writesPictures || sheetPath != nil {
      lines += try dumpPictures(of: source.pictures(latents: falseColour), chosen: chosen, toFolder: writesPictures)
    }
    return lines
  }

  /// Which pictures are wanted; nil if it is not said.
  private func chosen(of source: InputSource) throws -> FrameSelection? {
    guard let times else { return selection }
    guard let rate = try source.videoPictures().framesPerSecond else {
      throw VideoIOError.cannotRead(path: source.path, reason: "it has no frame rate, and so no --times; use --frames")
    }
    // Latent frame n > 0 holds the video's frames 4 n - 3 to 4 n.
    return try times.frames(framesPerSecond: rate, step: step) { falseColour ? ($0 + 3) / 4 : $0 }
  }

  private func dumpPictures(of source: any PictureSource, chosen selection: FrameSelection?, toFolder: Bool) throws
    -> [String]
  {
    let folder = toFolder ? output : nil
    let isCompared = source is any DifferenceSource
    if let selection, try selection.lastNamed >= source.count() {
      let numbers = try source.count() == 0 ? "none" : "0 to \(source.count() - 1)"
      throw VideoIOError.cannotRead(
        path: source.path, reason: "there is no \(source.noun) \(selection.lastNamed): it has \(numbers)")
    }
    if let folder { try OutputFolder.make(folder) }
    let forFolder = selection ?? .all
    let forSheet = try sheetPath == nil ? nil : selection ?? .spread(spread, over: source.count())
    let last = forSheet?.last.flatMap { folder == nil && !isCompared ? $0 : forFolder.last } ?? forFolder.last
    var written = 0
    var sheet: ContactSheet?
    var index = 0
    while index <= last ?? Int.max {
      let isForFolder = folder != nil && forFolder.contains(index)
      let isForSheet = forSheet?.contains(index) ?? false
      if isForFolder || isForSheet || isCompared && forFolder.contains(index) {
        guard let picture = try source.next() else { break }
        if isForFolder, let folder {
          let digits = String(index)
          let number = String(repeating: "0", count: max(0, 6 - digits.count)) + digits
          try PNG.write(picture, to: "\(folder)/\(source.prefix)-\(number).png")
          written += 1
        }
        if isForSheet {
          let scale = scale ?? min(1, cellWidth / Double(picture.width))
          var grown = try sheet ?? ContactSheet(columns: columns, scale: scale)
          sheet = nil
          grown.add(picture, number: index)
          // Says so.
          if grown.isTooLarge { _ = try grown.picture() }
          sheet = grown
        }
      } else if try !source.skip() {
        break
      }
      index += 1
    }
    var lines: [String] = []
    if let folder { lines.append("\(folder): \(count(written, of: source))") }
    if let sheetPath {
      guard let sheet else { throw VideoIOError.cannotRead(path: source.path, reason: "it has no \(source.noun)s") }
      let picture = try sheet.picture()
      try PNG.write(picture, to: sheetPath)
      lines.append(
        "\(sheetPath): \(count(sheet.count, of: source)), \(picture.width)x\(picture.height) pixels")
    }
    return lines
  }

  private func count(_ number: Int, of source: any PictureSource) -> String {
    "\(number) \(source.noun)\(number == 1 ? "" : "s") of \(source.summary)"
  }
}

/// A combination of arguments that makes no sense.
struct UsageError: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}
