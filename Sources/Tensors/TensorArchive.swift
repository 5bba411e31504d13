import Foundation

/// Named tensors in one safetensors file or in the shards of a checkpoint, mapped and never copied.
///
/// Opening reads and checks headers only. Tensors borrow the mapped file and keep it alive.
public final class TensorArchive: WeightSource, Sendable {
  /// The path that was opened.
  public let label: String
  /// What the files' headers say under `__metadata__`; of equal keys in several shards the first shard's.
  public let metadata: [String: String]
  private let files: [File]
  /// File and entry of each name.
  private let places: [String: (file: Int, entry: SafetensorsHeader.Entry)]

  private struct File {
    let map: MappedFile
    let header: SafetensorsHeader
  }

  /// Opens a `.safetensors` file, an `.index.json` of shards beside it, or a folder that holds either. In a folder an index
  /// goes before lone files. Of a sharded checkpoint exactly the tensors of its `weight_map` exist here.
  ///
  /// - Throws: ``TensorError``: what cannot be read, breaks the format, or leaves a choice open.
  public init(path: String) throws {
    let path = try TensorArchive.resolve(path)
    label = path
    let weightMap = path.hasSuffix(".index.json") ? try ShardIndex.read(path) : nil
    let names = weightMap.map { Set($0.values).sorted() } ?? []
    let folder = (path as NSString).deletingLastPathComponent
    let paths = weightMap == nil ? [path] : names.map { (folder as NSString).appendingPathComponent($0) }
    files = try paths.map { path in
      let map = try MappedFile(path: path)
      return try withExtendedLifetime(map) { File(map: map, header: try SafetensorsHeader(map.bytes, path: path)) }
    }
    metadata = files.reduce(into: [:]) { $0.merge($1.header.metadata) { first, _ in first } }
    var places: [String: (file: Int, entry: SafetensorsHeader.Entry)] = [:]
    if let weightMap {
      let numbers = Dictionary(uniqueKeysWithValues: names.enumerated().map { ($1, $0) })
      for (name, shard) in weightMap.sorted(by: { $0.key < $1.key }) {
        guard let file = numbers[shard], let entry = files[file].header.entries[name] else {
          throw TensorError(.index, path: path, tensor: name, "the index puts it into \(shard), which lacks it")
        }
        places[name] = (file, entry)
      }
    } else if let file = files.first {
      places = file.header.entries.mapValues { (0, $0) }
    }
    self.places = places
  }

  public convenience init(url: URL) throws { try self.init(path: url.path) }

  /// The names of all tensors, sorted.
  public var names: [String] { places.keys.sorted() }

  /// The files that are mapped.
  public var paths: [String] { files.map(\.map.path) }

  /// Bytes of all tensors.
  public var byteCount: Int { places.values.reduce(0) { $0 + $1.entry.range.count } }

  public func contains(_ name: String) -> Bool { places[name] != nil }

  public func shape(of name: String) -> [Int]? { places[name]?.entry.shape }

  public func dtype(of name: String) -> DType? { places[name]?.entry.dtype }

  /// A tensor that borrows the mapped file.
  ///
  /// - Throws: ``TensorError`` (`missingTensor`).
  public func tensor(_ name: String) throws -> Tensor {
    guard let (file, entry) = places[name] else {
      throw TensorError(.missingTensor, path: label, tensor: name, "there is no tensor of this name")
    }
    let map = files[file].map
    let bytes = TensorBytes(borrowing: UnsafeRawBufferPointer(rebasing: map.bytes[entry.range]), from: map)
    return Tensor(dtype: entry.dtype, shape: entry.shape, bytes: bytes)
  }

  /// Identifies the weights in a record of a run: SHA-256, 64 hexadecimal digits, over each file in the order of ``paths``:
  /// its size (`u64`), its header, and 4,096 bytes at each of 64 evenly spaced places of its data. Names of files do not
  /// count. It reads at most 256 KiB and the header of each file, so that it is fast on 28 GB, and it notices other
  /// weights, not a single changed byte.
  public var fingerprint: String {
    var hash = SHA256()
    for file in files {
      let (bytes, start) = (file.map.bytes, file.header.length)
      hash.update(UInt64(bytes.count))
      hash.update(bytes[..<start])
      let (samples, length) = (64, 4096)
      let room = bytes.count - start - length
      if room < samples * length {
        hash.update(bytes[start...])
      } else {
        for i in 0..<samples {
          let at = start + room * i / (samples - 1)
          hash.update(bytes[at..<at + length])
        }
      }
    }
    return hash.finish()
  }

  /// The file to open: `path` itself, or what a folder holds.
  private static func resolve(_ path: String) throws -> String {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), isFolder.boolValue else { return path }
    let inside: [String]
    do { inside = try FileManager.default.contentsOfDirectory(atPath: path).sorted() } catch {
      throw TensorError(.unreadable, path: path, "the folder cannot be read: \(error.localizedDescription)")
    }
    for (suffix, what) in [(".safetensors.index.json", "indexes"), (".safetensors", "weight files without an index")] {
      let found = inside.filter { $0.hasSuffix(suffix) && !$0.hasPrefix(".") }
      if let only = found.first, found.count == 1 { return (path as NSString).appendingPathComponent(only) }
      if found.count > 1 {
        throw TensorError(
          .ambiguous, path: path, "the folder holds \(found.count) \(what): \(found.joined(separator: ", ")); name one")
      }
    }
    throw TensorError(.ambiguous, path: path, "the folder holds no .safetensors file")
  }
}

/// `*.safetensors.index.json`: which file of the same folder holds each tensor.
enum ShardIndex {
  /// The `weight_map`: tensor to file.
  static func read(_ path: String) throws -> [String: String] {
    var map: [String: String]?
    do {
      var reader = try JSONReader(MappedFile.contents(path))
      try reader.object { reader, key in
        guard key == "weight_map" else { return try reader.skip() }
        var entries: [String: String] = [:]
        try reader.object { reader, name in entries[name] = try reader.string() }
        map = entries
      }
      try reader.end()
    } catch let failure as JSONReader.Failure {
      throw TensorError(failure.isDuplicate ? .duplicateName : .index, path: path, "\(failure)")
    }
    guard let map else { throw TensorError(.index, path: path, "there is no weight_map") }
    for (name, file) in map {
      // Lexically inside the folder; symbolic links may lead out of it, as those of download caches do.
      let parts = file.split(separator: "/", omittingEmptySubsequences: false)
      guard !parts.contains(where: { $0 == ".." || $0 == "." || $0.isEmpty }), !file.utf8.contains(0) else {
        throw TensorError(.index, path: path, tensor: name, "'\(file)' is no file inside the index's folder")
      }
    }
    return map
  }
}
