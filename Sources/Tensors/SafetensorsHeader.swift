/// The header of a safetensors file: a little-endian `u64` length, then that many bytes of JSON
/// `{name: {dtype, shape, data_offsets: [begin, end]}, "__metadata__": {text: text}}`, then the data.
///
/// Every rule of the format is checked before any tensor is handed out: the ranges tile the data exactly, in any order of
/// names, and each holds what its shape and type say. Format: github.com/huggingface/safetensors, `README.md`.
struct SafetensorsHeader {
  struct Entry {
    let dtype: DType
    let shape: [Int]
    /// Bytes of the file.
    var range: Range<Int>
  }

  var entries: [String: Entry] = [:]
  var metadata: [String: String] = [:]
  /// Bytes of the header, its length included: where the data begin.
  let length: Int

  /// Longest header that is read; the format's own limit.
  static let longest = 100_000_000

  static let dtypes: [String: DType] = [
    "F32": .f32, "BF16": .bf16, "F16": .f16, "I8": .i8, "U8": .u8, "I32": .i32, "I64": .i64,
  ]

  /// - Throws: ``TensorError`` for a file that breaks a rule.
  init(_ file: UnsafeRawBufferPointer, path: String) throws {
    guard file.count >= 8 else {
      throw TensorError(.truncated, path: path, "\(file.count) bytes, not even the 8 of a header's length")
    }
    let wanted = UInt64(littleEndian: file.loadUnaligned(as: UInt64.self))
    guard wanted <= UInt64(SafetensorsHeader.longest) else {
      throw TensorError(
        .malformedHeader, path: path,
        "a header of \(wanted) bytes (at most \(SafetensorsHeader.longest)); this is not a safetensors file")
    }
    length = 8 + Int(wanted)
    guard length <= file.count else {
      throw TensorError(.truncated, path: path, "a header of \(wanted) bytes in a file of \(file.count)")
    }
    var tensor: String?
    do {
      var reader = try JSONReader(Array(file[8..<length]))
      try reader.object { reader, name in
        if name == "__metadata__" {
          try reader.object { reader, key in metadata[key] = try reader.string() }
        } else {
          tensor = name
          entries[name] = try SafetensorsHeader.entry(&reader, name, from: length, path: path)
          tensor = nil
        }
      }
      try reader.end()
    } catch let failure as JSONReader.Failure {
      throw TensorError(
        failure.isDuplicate ? .duplicateName : .malformedHeader, path: path, tensor: tensor, "header: \(failure)")
    }
    try checkRanges(size: file.count, path: path)
  }

  private static func entry(
    _ reader: inout JSONReader, _ name: String, from start: Int, path: String
  ) throws -> Entry {
    func error(_ problem: TensorError.Problem, _ reason: String) -> TensorError {
      TensorError(problem, path: path, tensor: name, reason)
    }
    var type: String?
    var shape: [Int]?
    var offsets: [Int]?
    try reader.object { reader, key in
      switch key {
      case "dtype": type = try reader.string()
      case "shape":
        var extents: [Int] = []
        try reader.array { extents.append(try $0.count()) }
        shape = extents
      case "data_offsets":
        var pair: [Int] = []
        try reader.array { pair.append(try $0.count()) }
        offsets = pair
      default: throw reader.fail("'\(key)' is none of dtype, shape, data_offsets")
      }
    }
    guard let type, let shape, let offsets else {
      throw error(.malformedHeader, "dtype, shape or data_offsets is missing")
    }
    guard let dtype = dtypes[type] else {
      throw error(.dtype, "dtype \(type); these can be read: \(dtypes.keys.sorted().joined(separator: ", "))")
    }
    guard let bytes = byteCount(shape, dtype) else { throw error(.shape, "shape \(shape) overflows") }
    guard offsets.count == 2, offsets[0] <= offsets[1] else {
      throw error(.offsets, "data_offsets \(offsets); wanted [begin, end] with begin <= end")
    }
    guard offsets[1] - offsets[0] == bytes else {
      throw error(
        .shape, "\(type) of shape \(shape) takes \(bytes) bytes; data_offsets give it \(offsets[1] - offsets[0])")
    }
    let (end, overflow) = start.addingReportingOverflow(offsets[1])
    guard !overflow else { throw error(.offsets, "data_offsets \(offsets) overflow") }
    return Entry(dtype: dtype, shape: shape, range: start + offsets[0]..<end)
  }

  /// Bytes of a tensor; nil if that overflows.
  static func byteCount(_ shape: [Int], _ dtype: DType) -> Int? {
    var bytes = dtype.size
    for extent in shape {
      let (product, overflow) = bytes.multipliedReportingOverflow(by: extent)
      if overflow { return nil }
      bytes = product
    }
    return bytes
  }

  /// The ranges must tile the data: in order of their beginnings, each begins where the one before ends.
  private func checkRanges(size: Int, path: String) throws(TensorError) {
    let sorted = entries.sorted {
      ($0.value.range.lowerBound, $0.value.range.upperBound, $0.key)
        < ($1.value.range.lowerBound, $1.value.range.upperBound, $1.key)
    }
    var end = length
    for (name, entry) in sorted {
      let range = entry.range
      guard range.upperBound <= size else {
        throw TensorError(
          .truncated, path: path, tensor: name,
          "ends at byte \(range.upperBound) of a file of \(size); was the download cut?")
      }
      guard range.lowerBound == end else {
        let what = range.lowerBound < end ? "overlaps" : "leaves a hole after"
        throw TensorError(
          .offsets, path: path, tensor: name,
          "begins at byte \(range.lowerBound) and \(what) the tensor before it, which ends at byte \(end)")
      }
      end = range.upperBound
    }
    guard end == size else {
      throw TensorError(.offsets, path: path, "\(size - end) bytes at the end belong to no tensor")
    }
  }
}
