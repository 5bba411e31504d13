import Foundation

/// Writes frames as numbered PNG files in a folder of their own: lossless, any size.
///
/// `shots/` means `shots/%05d.png`; numbers start at 0. The files are made in `shots.part`, which becomes `shots` in
/// `finish()`. A folder that is there already is replaced then, if it holds nothing but an older sequence of the same
/// pattern; otherwise it is refused at once.
public final class PNGSequenceWriter: FrameSink {
  public private(set) var frameCount: Int
  public private(set) var position: SinkPosition
  private let settings: OutputSettings
  private let pattern: NumberedName
  private let folder: String
  private var temporaryFolder: String { folder + ".part" }
  private var isOpen = true
  /// Frames that are known to be on the disk.
  private var synchronized: Int

  /// Makes the temporary folder.
  ///
  /// - Parameters:
  ///   - path: `folder/`, or `folder/name%05d.png`.
  ///   - position: where an unfinished sequence stands, to go on after it.
  /// - Throws: `VideoIOError.unknownFormat` for a pattern without exactly one `%d`, `.cannotCreate` for a folder that
  ///   cannot be made or holds other files.
  public init(path: String, settings: OutputSettings, continuing start: SinkPosition? = nil) throws {
    try settings.validate(for: .png)
    self.settings = settings
    position = start ?? SinkPosition()
    frameCount = position.frames
    synchronized = position.frames
    var parts = path.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    let name = parts.last.flatMap { $0.lowercased().hasSuffix(".png") ? $0 : nil }
    if name != nil { parts.removeLast() }
    while let last = parts.last, last.isEmpty, parts.count > 1 { parts.removeLast() }
    let folder = parts.joined(separator: "/")
    guard let pattern = NumberedName(name ?? "%05d.png") else {
      throw VideoIOError.unknownFormat(path: path, known: ["folder/", "folder/%05d.png", "folder/name%05d.png"])
    }
    if [nil, "", ".", ".."].contains(parts.last) {
      throw VideoIOError.cannotCreate(
        path: path, reason: "a PNG sequence needs a folder of its own, such as 'frames/\(name ?? "%05d.png")'")
    }
    self.pattern = pattern
    self.folder = folder
    try refuseOtherFiles(in: folder)
    try refuseOtherFiles(in: folder + ".part")
    if position.frames > 0 {
      try requireFrames()
      return
    }
    if mkdir(folder + ".part", 0o777) != 0 {
      if errno != EEXIST {
        throw VideoIOError.cannotCreate(path: folder, reason: OutputFile.openingReason(folder, errno))
      }
      try removeSequence(in: folder + ".part", keepingFolder: true)
    }
  }

  deinit { abandon() }

  public func write(_ frames: [RGBFrame], endsChunk: Bool) throws {
    guard isOpen else { throw VideoIOError.closed(path: folder) }
    do {
      for frame in frames {
        guard frame.width == settings.width, frame.height == settings.height else {
          throw VideoIOError.sizeChanged(
            path: folder, expected: [settings.width, settings.height], found: [frame.width, frame.height])
        }
        try PNG.write(frame, to: temporaryFolder + "/" + pattern.name(frameCount))
        frameCount += 1
      }
      if endsChunk { position.frames = frameCount }
    } catch {
      abandon()
      throw error
    }
  }

  public func synchronize() throws {
    for number in synchronized..<frameCount {
      try PNGSequenceWriter.flush(temporaryFolder + "/" + pattern.name(number), O_RDONLY)
    }
    synchronized = frameCount
    try PNGSequenceWriter.flush(temporaryFolder, O_RDONLY | O_DIRECTORY)
  }

  private static func flush(_ path: String, _ flags: Int32) throws {
    let descriptor = open(path, flags | O_CLOEXEC)
    defer { close(descriptor) }
    guard descriptor >= 0, fsync(descriptor) == 0 || errno == EINVAL || errno == EROFS else {
      throw VideoIOError.writeFailed(path: path, reason: reason(errno: errno))
    }
  }

  /// Throws unless all pictures before the position are there, if need be as a copy of the finished sequence.
  private func requireFrames() throws {
    let manager = FileManager.default
    if !manager.fileExists(atPath: temporaryFolder), manager.fileExists(atPath: folder) {
      do { try manager.copyItem(atPath: folder, toPath: temporaryFolder) } catch {
        throw VideoIOError.cannotCreate(path: temporaryFolder, reason: "'\(folder)' cannot be copied to go on from")
      }
    }
    for number in 0..<position.frames
    where !manager.fileExists(atPath: temporaryFolder + "/" + pattern.name(number)) {
      throw VideoIOError.cannotCreate(
        path: temporaryFolder, reason: "'\(pattern.name(number))' is missing, after which the sequence is to go on")
    }
  }

  @discardableResult public func finish() throws -> Int {
    guard isOpen else { throw VideoIOError.closed(path: folder) }
    isOpen = false
    let old = folder + ".old"
    func move(_ source: String, _ target: String) throws {
      if rename(source, target) != 0 {
        throw VideoIOError.cannotCreate(
          path: folder, reason: reason(errno: errno) + "; the pictures are in '\(temporaryFolder)'")
      }
    }
    let replaces = FileManager.default.fileExists(atPath: folder)
    if replaces {
      try refuseOtherFiles(in: folder)
      try move(folder, old)
    }
    try move(temporaryFolder, folder)
    if replaces { try removeSequence(in: old, keepingFolder: false) }
    return frameCount
  }

  public func abandon() {
    guard isOpen else { return }
    isOpen = false
    if frameCount == 0 { rmdir(temporaryFolder) }
  }

  /// Throws unless `folder` is missing or holds nothing but files of this pattern.
  private func refuseOtherFiles(in folder: String) throws {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: folder, isDirectory: &isFolder) else { return }
    guard isFolder.boolValue else {
      throw VideoIOError.cannotCreate(path: folder, reason: "it is there already, and is no folder")
    }
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: folder) else {
      throw VideoIOError.cannotCreate(path: folder, reason: "the folder that is there cannot be read")
    }
    if let other = names.sorted().first(where: { !isOurs($0) }) {
      throw VideoIOError.cannotCreate(
        path: folder, reason: "the folder holds '\(other)', which is no part of a sequence; choose a new folder")
    }
  }

  private func isOurs(_ name: String) -> Bool {
    pattern.matches(name) || (name.hasSuffix(".part") && pattern.matches(String(name.dropLast(5))))
  }

  private func removeSequence(in folder: String, keepingFolder: Bool) throws {
    for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [] where isOurs(name) {
      unlink(folder + "/" + name)
    }
    if !keepingFolder, rmdir(folder) != 0 {
      throw VideoIOError.cannotCreate(
        path: folder, reason: "the older sequence cannot be removed: \(reason(errno: errno))")
    }
  }
}

/// A file name with one number in it, written as in `printf`: `%d` or `%05d`.
struct NumberedName {
  private let prefix: Substring
  private let suffix: Substring
  private let digits: Int

  /// `nil` unless there is exactly one `%d`, with at most 9 digits and nothing else that begins with `%`.
  init?(_ pattern: String) {
    guard let match = pattern.wholeMatch(of: /([^%\/]*)%(?:0([1-9]))?d([^%\/]*)/) else { return nil }
    prefix = match.1
    suffix = match.3
    digits = match.2.flatMap { Int($0) } ?? 1
  }

  /// The name of one number.
  func name(_ number: Int) -> String {
    let text = String(number)
    return prefix + String(repeating: "0", count: max(0, digits - text.count)) + text + suffix
  }

  /// Whether `name` is that of some number.
  func matches(_ name: String) -> Bool {
    guard name.count > prefix.count + suffix.count, name.hasPrefix(prefix), name.hasSuffix(suffix) else { return false }
    let middle = name.dropFirst(prefix.count).dropLast(suffix.count)
    guard middle.utf8.allSatisfy({ (48...57).contains($0) }), let number = Int(middle) else { return false }
    return self.name(number) == name
  }
}
