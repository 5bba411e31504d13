import Foundation
import Tensors
import Testing

@Suite("Safetensors files and sharded checkpoints")
struct SafetensorsTests {
  let folder: ScratchFolder

  init() throws { folder = try ScratchFolder() }

  private func sample() -> [(String, Tensor)] {
    [
      ("b.half", Tensor([1.5, -2, 0.25], shape: [3]).converted(to: .bf16)),
      ("a.float", Tensor((0..<6).map { Float($0) * 0.5 }, shape: [2, 3])),
      ("a.float16", Tensor([Float](repeating: 3, count: 4), shape: [2, 2]).converted(to: .f16)),
      ("ids", Tensor([Int32(7), -9], shape: [2])),
      ("bytes", Tensor([UInt8(1), 2, 255], shape: [3])),
      ("empty", Tensor([Float](), shape: [0, 4])),
      ("scalar", Tensor([Float(42)], shape: [])),
      ("name \"with\" \\ \u{1} é", Tensor([Float(1)], shape: [1])),
    ]
  }

  @Test("What is written is read back: names, types, shapes, elements, metadata")
  func roundTrip() throws {
    let path = folder["x.safetensors"]
    let metadata = ["format": "lt", "quote": "a\"b\\c\n\u{7}", "": "é"]
    try SafetensorsWriter.write(sample(), metadata: metadata, to: path)
    let archive = try TensorArchive(path: path)
    #expect(archive.names == sample().map(\.0).sorted())
    #expect(archive.metadata == metadata)
    #expect(archive.paths == [path])
    for (name, wanted) in sample() {
      let found = try archive.tensor(name)
      #expect(archive.contains(name))
      #expect(archive.dtype(of: name) == wanted.dtype)
      #expect(archive.shape(of: name) == wanted.shape)
      #expect(found.withUnsafeBytes { Array($0) } == wanted.withUnsafeBytes { Array($0) }, "\(name)")
    }
    #expect(archive.byteCount == sample().reduce(0) { $0 + $1.1.count * $1.1.dtype.size })
    #expect(try folder.files() == ["x.safetensors"])
  }

  @Test("The bytes written depend neither on the order of tensors nor on that of metadata, and every tensor is aligned")
  func deterministic() throws {
    try SafetensorsWriter.write(sample(), metadata: ["a": "1", "b": "2"], to: folder["x"])
    try SafetensorsWriter.write(sample().reversed(), metadata: ["b": "2", "a": "1"], to: folder["y"])
    #expect(try bytes(of: folder["x"]) == bytes(of: folder["y"]))
    let archive = try TensorArchive(path: folder["x"])
    for name in archive.names {
      let tensor = try archive.tensor(name)
      let address = tensor.withUnsafeBytes { UInt(bitPattern: $0.baseAddress) }
      #expect(address % UInt(tensor.dtype.size) == 0, "\(name)")
    }
  }

  @Test("A tensor outlives the archive that it came from")
  func lifetime() throws {
    try SafetensorsWriter.write(sample(), to: folder["x"])
    let tensor = try TensorArchive(path: folder["x"]).tensor("a.float")
    #expect(tensor.floats() == [0, 0.5, 1, 1.5, 2, 2.5])
  }

  @Test("A file without tensors is a file")
  func noTensors() throws {
    try SafetensorsWriter.write([], to: folder["x"])
    #expect(try TensorArchive(path: folder["x"]).names.isEmpty)
  }

  @Test("White space around the header and data in any order of names are allowed")
  func freeForm() throws {
    let header = """
       { "b" : {"dtype":"U8","shape":[2],"data_offsets":[2,4]},
        "a":{"shape":[2],"data_offsets":[0,2],"dtype":"U8"} } \t
      """
    let archive = try TensorArchive(path: folder.write(safetensors(header, data: 4), "x"))
    #expect(try archive.tensor("b").integers() == [2, 3])
    #expect(try archive.tensor("a").integers() == [0, 1])
  }

  @Test("An index joins its shards, and a folder prefers its index to lone files")
  func shards() throws {
    func write(_ name: String, _ value: Float, _ metadata: [String: String], to file: String) throws {
      try SafetensorsWriter.write([(name, Tensor([value], shape: [1]))], metadata: metadata, to: folder[file])
    }
    try write("a", 1, ["k": "1"], to: "s-1.safetensors")
    try write("b", 2, ["k": "2"], to: "s-2.safetensors")
    try write("c", 3, [:], to: "other.safetensors")
    let index = #"{"metadata":{"total_size":8},"weight_map":{"b":"s-2.safetensors","a":"s-1.safetensors"}}"#
    _ = try folder.write(Array(index.utf8), "s.safetensors.index.json")
    for path in [folder.path, folder["s.safetensors.index.json"]] {
      let archive = try TensorArchive(path: path)
      #expect(archive.names == ["a", "b"])
      #expect(try archive.tensor("b").floats() == [2])
      #expect(archive.paths == [folder["s-1.safetensors"], folder["s-2.safetensors"]])
      #expect(archive.metadata == ["k": "1"])
    }
  }

  @Test("A folder with one lone file opens it")
  func loneFile() throws {
    try SafetensorsWriter.write(sample(), to: folder["model.safetensors"])
    #expect(try TensorArchive(path: folder.path).names.count == sample().count)
  }

  @Test("The fingerprint is that of the content: not of the name, but of every kind of change")
  func fingerprint() throws {
    func write(_ name: String, _ values: [Float], _ metadata: [String: String] = [:]) throws -> String {
      try SafetensorsWriter.write([("w", Tensor(values, shape: [values.count]))], metadata: metadata, to: folder[name])
      return try TensorArchive(path: folder[name]).fingerprint
    }
    let values = [Float](repeating: 0.5, count: 200_000)
    var changed = values
    changed[199_999] = 0.25
    let base = try write("a", values)
    #expect(base.count == 64)
    #expect(try write("b", values) == base)
    #expect(try write("c", changed) != base)
    #expect(try write("d", Array(values.dropLast())) != base)
    #expect(try write("e", values, ["x": "y"]) != base)
    #expect(try write("f", [1]) != write("g", [2]))
  }

  @Test("The shipped model opens: shards, folder, a text encoder, reference values")
  func shippedModel() throws {
    let root = repository + "/weights/default"
    let transformer = try TensorArchive(path: root + "/transformer")
    #expect(transformer.paths.count == 3)
    #expect(transformer.names.contains("patch_embedding.weight"))
    let reference = try TensorArchive(path: root + "/reference.safetensors")
    #expect(reference.shape(of: "initial_noise") == [9, 16, 20, 32])
    #expect(reference.dtype(of: "token_ids") == .i32)
    #expect(reference.metadata["seed"] == "20240611")
  }

  @Test("A fingerprint is SHA-256, written out for an empty file's header")
  func knownDigest() throws {
    // sha256 of u64(10) + u64(2) + "{}", by coreutils.
    let path = try folder.write(safetensors("{}", data: 0), "x")
    #expect(
      try TensorArchive(path: path).fingerprint == "39692096d96d56507077789b30021bf0c7658a1d6c8d86fc16dd9230d352ec61")
  }
}
