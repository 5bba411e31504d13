import Foundation
import Tensors
import Testing

@Suite("Broken and hostile safetensors files give an error that names file and tensor")
struct BrokenSafetensorsTests {
  let folder: ScratchFolder

  init() throws { folder = try ScratchFolder() }

  /// Expects `open` to throw a `TensorError` of this kind whose text holds all of `words`.
  private func expect(
    _ problem: TensorError.Problem, tensor: String? = nil, _ words: String..., path: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let error = #expect(throws: TensorError.self, sourceLocation: sourceLocation) { _ = try TensorArchive(path: path) }
    guard let error else { return }
    #expect(error.problem == problem, "\(error)", sourceLocation: sourceLocation)
    #expect(error.tensor == tensor, "\(error)", sourceLocation: sourceLocation)
    for word in words { #expect("\(error)".contains(word), "\(error)", sourceLocation: sourceLocation) }
    #expect("\(error)".hasPrefix(error.path + ": "), sourceLocation: sourceLocation)
    #expect(!"\(error)".contains("\n"), sourceLocation: sourceLocation)
  }

  private func expect(
    _ problem: TensorError.Problem, tensor: String? = nil, _ word: String, header: String, data: Int = 8,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let path = try folder.write(safetensors(header, data: data), "x.safetensors")
    expect(problem, tensor: tensor, word, path: path, sourceLocation: sourceLocation)
  }

  @Test("No file, an empty file, a file of seven bytes, a folder without weights, a device")
  func noFile() throws {
    expect(.unreadable, "No such file", path: folder["none"])
    expect(.truncated, "empty", path: try folder.write([], "empty"))
    expect(.truncated, "7 bytes", path: try folder.write([1, 2, 3, 4, 5, 6, 7], "seven"))
    try FileManager.default.createDirectory(atPath: folder["bare"], withIntermediateDirectories: false)
    expect(.ambiguous, "no .safetensors file", path: folder["bare"])
    expect(.unreadable, "regular file", path: "/dev/null")
  }

  @Test("A header longer than the file, than 100 MB, than any integer")
  func headerLength() throws {
    expect(.truncated, "header of 99", path: try folder.write(safetensors("{}", data: 0, length: 99), "a"))
    expect(.malformedHeader, "100000001", path: try folder.write(safetensors("{}", data: 0, length: 100_000_001), "b"))
    expect(.malformedHeader, "\(UInt64.max)", path: try folder.write(safetensors("{}", data: 0, length: .max), "c"))
    expect(.malformedHeader, path: try folder.write(safetensors("{}", data: 0, length: 0), "d"))
  }

  @Test("A header that is no JSON object, or not UTF-8, or followed by text")
  func headerText() throws {
    for header in [
      "[]", "{", "", "nul", "{\"a\"}", "{\"__metadata__\":{},}", "{} x", "{'a':1}", "{\"a\" 1}", "{\"\\ud800\":1}",
      "{\"\\x\":1}",
    ] {
      try expect(.malformedHeader, "byte", header: header, data: 0)
    }
    let sequences: [[UInt8]] = [
      [0xFF], [0xC0, 0x80], [0xE0, 0x80, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xC3],
    ]
    for bad in sequences {
      let header = Array("{\"".utf8) + bad + Array("\":1}".utf8)
      expect(.malformedHeader, "UTF-8", path: try folder.write(safetensors(header, data: 0), "x"))
    }
    let deep = String(repeating: "{\"a\":", count: 5000)
    try expect(.malformedHeader, tensor: "a", "dtype", header: deep, data: 0)
    try expect(.malformedHeader, "string", header: #"{"__metadata__":{"a":1}}"#, data: 0)
  }

  @Test("An entry with a missing, unknown or mistyped member")
  func members() throws {
    try expect(.malformedHeader, tensor: "a", "missing", header: #"{"a":{"dtype":"U8","shape":[8]}}"#)
    try expect(.malformedHeader, tensor: "a", "missing", header: #"{"a":{"dtype":"U8","data_offsets":[0,8]}}"#)
    try expect(.malformedHeader, tensor: "a", "missing", header: #"{"a":{"shape":[8],"data_offsets":[0,8]}}"#)
    try expect(
      .malformedHeader, tensor: "a", "'x'", header: #"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8],"x":1}}"#)
    try expect(
      .malformedHeader, tensor: "a", "wanted a string", header: #"{"a":{"dtype":8,"shape":[8],"data_offsets":[0,8]}}"#)
    try expect(
      .malformedHeader, tensor: "a", "wanted an array", header: #"{"a":{"dtype":"U8","shape":8,"data_offsets":[0,8]}}"#)
    try expect(.malformedHeader, tensor: "a", "wanted an object", header: #"{"a":null}"#)
  }

  @Test("A name that occurs twice, also when one is spelled with an escape")
  func duplicates() throws {
    let entry = #"{"dtype":"U8","shape":[4],"data_offsets":[0,4]}"#
    try expect(.duplicateName, "'a' occurs twice", header: "{\"a\":\(entry),\"a\":\(entry)}")
    try expect(.duplicateName, "'a' occurs twice", header: "{\"a\":\(entry),\"\\u0061\":\(entry)}")
    try expect(
      .duplicateName, tensor: "a", "'dtype'",
      header: #"{"a":{"dtype":"U8","dtype":"U8","shape":[8],"data_offsets":[0,8]}}"#)
  }

  @Test("An unknown or unsupported type is named, with those that can be read")
  func types() throws {
    for type in ["F64", "F8_E4M3", "BOOL", "f32", ""] {
      let header = "{\"a\":{\"dtype\":\"\(type)\",\"shape\":[1],\"data_offsets\":[0,8]}}"
      try expect(.dtype, tensor: "a", "dtype \(type);", header: header)
    }
  }

  @Test("Absurd shapes: negative, fractional, beyond 63 bits, products that overflow, another size than the bytes")
  func shapes() throws {
    func header(_ shape: String) -> String { "{\"a\":{\"dtype\":\"F32\",\"shape\":\(shape),\"data_offsets\":[0,8]}}" }
    try expect(.malformedHeader, tensor: "a", "negative", header: header("[-2]"))
    try expect(.malformedHeader, tensor: "a", "whole", header: header("[2.0]"))
    try expect(.malformedHeader, tensor: "a", "whole", header: header("[2e0]"))
    try expect(.malformedHeader, tensor: "a", "leading zero", header: header("[02]"))
    try expect(.malformedHeader, tensor: "a", "too large", header: header("[9223372036854775808]"))
    try expect(.shape, tensor: "a", "overflows", header: header("[9223372036854775807]"))
    try expect(.shape, tensor: "a", "overflows", header: header("[4294967296,4294967296]"))
    try expect(.shape, tensor: "a", "overflows", header: header("[4294967296,4294967296,0]"))
    try expect(.shape, tensor: "a", "takes 12 bytes", header: header("[3]"))
    try expect(.shape, tensor: "a", "takes 4 bytes", header: header("[]"))
  }

  @Test("Offsets that overlap, leave holes, run backwards, are not two, or leave the file")
  func offsets() throws {
    func header(_ a: String, _ b: String) -> String {
      func entry(_ range: String) -> String { "{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":\(range)}" }
      return "{\"a\":\(entry(a)),\"b\":\(entry(b))}"
    }
    try expect(.offsets, tensor: "b", "overlaps", header: header("[0,4]", "[2,6]"), data: 6)
    try expect(.offsets, tensor: "b", "overlaps", header: header("[0,4]", "[0,4]"), data: 4)
    try expect(.offsets, tensor: "b", "hole", header: header("[0,4]", "[5,9]"), data: 9)
    try expect(.offsets, tensor: "a", "hole", header: header("[1,5]", "[5,9]"), data: 9)
    try expect(.offsets, tensor: "b", "begin <= end", header: header("[0,4]", "[8,4]"))
    try expect(.offsets, tensor: "b", "begin, end", header: header("[0,4]", "[4]"))
    try expect(.offsets, tensor: "b", "begin, end", header: header("[0,4]", "[4,8,12]"))
    try expect(.malformedHeader, tensor: "b", "negative", header: header("[0,4]", "[-4,0]"))
    try expect(.truncated, tensor: "b", "of a file of", header: header("[0,4]", "[4,8]"), data: 7)
    try expect(.offsets, "1 bytes at the end", header: header("[0,4]", "[4,8]"), data: 9)
    try expect(
      .offsets, tensor: "b", "overflow", header: header("[0,4]", "[9223372036854775803,9223372036854775807]"))
  }

  @Test("Every truncation of a good file is refused")
  func truncations() throws {
    try SafetensorsWriter.write(
      [("a", Tensor([Float(1), 2], shape: [2])), ("b", Tensor([UInt8(3)], shape: [1]))], to: folder["good"])
    let good = try bytes(of: folder["good"])
    for length in 0..<good.count {
      let path = try folder.write(Array(good[..<length]), "cut")
      #expect(throws: TensorError.self, "\(length) of \(good.count) bytes") { try TensorArchive(path: path) }
    }
  }

  @Test("Flipping any bit of a header never crashes")
  func flippedBits() throws {
    try SafetensorsWriter.write(
      [("a", Tensor([Float(1), 2], shape: [2])), ("b", Tensor([UInt8(3)], shape: [1]))], metadata: ["k": "v"],
      to: folder["good"])
    let good = try bytes(of: folder["good"])
    for bit in 0..<(good.count - 9) * 8 {
      var bad = good
      bad[bit / 8] ^= 1 << UInt8(bit % 8)
      let path = try folder.write(bad, "flipped")
      do {
        let archive = try TensorArchive(path: path)
        for name in archive.names { _ = try archive.tensor(name) }
      } catch is TensorError {}
    }
  }

  @Test("A missing tensor is named")
  func missing() throws {
    try SafetensorsWriter.write([("a", Tensor([Float(1)], shape: [1]))], to: folder["x"])
    let archive = try TensorArchive(path: folder["x"])
    let error = #expect(throws: TensorError.self) { _ = try archive.tensor("z") }
    #expect(error?.problem == .missingTensor && error?.tensor == "z")
    #expect(archive.shape(of: "z") == nil && archive.dtype(of: "z") == nil && !archive.contains("z"))
  }

  @Test("A folder with several lone files lists them")
  func severalFiles() throws {
    for name in ["a.safetensors", "b.safetensors"] { try SafetensorsWriter.write([], to: folder[name]) }
    expect(.ambiguous, "a.safetensors, b.safetensors", path: folder.path)
  }

  @Test("An index without a map, with a missing shard, a tensor that its shard lacks, a shard outside the folder")
  func indexes() throws {
    try SafetensorsWriter.write([("a", Tensor([Float(1)], shape: [1]))], to: folder["s.safetensors"])
    func index(_ text: String) throws -> String { try folder.write(Array(text.utf8), "m.safetensors.index.json") }
    expect(.index, "weight_map", path: try index(#"{"metadata":{}}"#))
    expect(.index, "wanted an object", path: try index(#"{"weight_map":[]}"#))
    expect(.index, "wanted a string", path: try index(#"{"weight_map":{"a":1}}"#))
    expect(.duplicateName, "'a'", path: try index(#"{"weight_map":{"a":"s.safetensors","a":"s.safetensors"}}"#))
    expect(.index, "byte", path: try index(#"{"weight_map""#))
    expect(.unreadable, "t.safetensors", path: try index(#"{"weight_map":{"a":"s.safetensors","b":"t.safetensors"}}"#))
    expect(.index, tensor: "b", "lacks", path: try index(#"{"weight_map":{"a":"s.safetensors","b":"s.safetensors"}}"#))
    for escape in ["../s.safetensors", "/etc/passwd", "x/../../s.safetensors", "", "./s.safetensors", "s\\u0000"] {
      expect(.index, tensor: "a", "no file inside", path: try index("{\"weight_map\":{\"a\":\"\(escape)\"}}"))
    }
  }
}

@Suite("Writing safetensors files goes well or leaves nothing")
struct SafetensorsWriterTests {
  let folder: ScratchFolder
  let tensors = [("a", Tensor([Float](repeating: 1, count: 1000), shape: [1000]))]

  init() throws { folder = try ScratchFolder() }

  @Test("A full disk is said to be full, the old file stays, and no other is left", arguments: [0, 100, 2000])
  func fullDisk(room: Int) throws {
    let path = try folder.write([1, 2, 3], "x.safetensors")
    var written = 0
    var calls = DurableFile.Calls.system
    calls.write = { descriptor, start, count in
      if written >= room {
        errno = ENOSPC
        return -1
      }
      let part = write(descriptor, start, min(count, room - written))
      written += part
      return part
    }
    let error = #expect(throws: TensorError.self) {
      try SafetensorsWriter.write(tensors, metadata: [:], to: path, through: calls)
    }
    #expect(error?.problem == .noSpace)
    #expect("\(try #require(error))" == "\(path): the disk is full; nothing was written")
    #expect(try folder.files() == ["x.safetensors"])
    #expect(try bytes(of: path) == [1, 2, 3])
  }

  @Test("A disk that fails only when flushed leaves nothing; interrupted and short writes go on")
  func flushAndInterrupt() throws {
    var calls = DurableFile.Calls.system
    calls.flush = { _ in
      errno = EDQUOT
      return -1
    }
    let error = #expect(throws: TensorError.self) {
      try SafetensorsWriter.write(tensors, metadata: [:], to: folder["x"], through: calls)
    }
    #expect(error?.problem == .noSpace)
    #expect(try folder.files().isEmpty)
    var turn = 0
    calls = .system
    calls.write = { descriptor, start, count in
      turn += 1
      if turn % 2 == 1 {
        errno = EINTR
        return -1
      }
      return write(descriptor, start, min(count, 7))
    }
    try SafetensorsWriter.write(tensors, metadata: [:], to: folder["x"], through: calls)
    #expect(try TensorArchive(path: folder["x"]).tensor("a").floats() == tensors[0].1.floats())
  }

  @Test("A missing folder, a folder of that name, a name that occurs twice")
  func unwritable() throws {
    let error = #expect(throws: TensorError.self) { try SafetensorsWriter.write(tensors, to: folder["none/x"]) }
    #expect(error?.problem == .unwritable)
    try FileManager.default.createDirectory(atPath: folder["d"], withIntermediateDirectories: false)
    let second = #expect(throws: TensorError.self) { try SafetensorsWriter.write(tensors, to: folder["d"]) }
    #expect(second?.problem == .unwritable)
    let third = #expect(throws: TensorError.self) { try SafetensorsWriter.write(tensors + tensors, to: folder["x"]) }
    #expect(third?.problem == .duplicateName && third?.tensor == "a")
    let fourth = #expect(throws: TensorError.self) {
      try SafetensorsWriter.write([("__metadata__", tensors[0].1)], to: folder["x"])
    }
    #expect(fourth?.problem == .duplicateName)
    #expect(try folder.files() == ["d"])
  }

  @Test("A relative path is written beside the working directory's files")
  func relativePath() throws {
    let name = "longtake-\(UUID().uuidString).safetensors"
    try SafetensorsWriter.write(tensors, to: name)
    defer { try? FileManager.default.removeItem(atPath: name) }
    #expect(try TensorArchive(path: name).names == ["a"])
  }
}
