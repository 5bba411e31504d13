import Tensors

/// Latents in one file or several, as one clip `[frames, channels, height, width]`.
package struct LatentClip {
  /// What the user named.
  package let path: String
  /// Of all files together.
  package let shape: [Int]
  /// The run's chunk whose latents come first; more than 0 where a run without end has dropped older ones.
  package let firstChunk: Int
  private let files: [(path: String, frames: Int)]
  private let metadata: [String: String]
  private static let name = "latents"

  /// Reads the headers.
  ///
  /// - Throws: `VideoIOError.cannotRead` for a file without latents or of another shape; errors of `TensorArchive`.
  package init(path: String, files paths: [String], firstChunk: Int = 0) throws {
    var files: [(path: String, frames: Int)] = []
    var first: [Int]?
    var metadata: [String: String] = [:]
    for path in paths {
      let archive = try TensorArchive(path: path)
      guard archive.names.contains(LatentClip.name) else {
        throw VideoIOError.cannotRead(path: path, reason: "it has no tensor '\(LatentClip.name)'")
      }
      let tensor = try archive.tensor(LatentClip.name)
      let shape = tensor.shape
      guard shape.count == 4, shape.allSatisfy({ $0 > 0 }), [.f32, .bf16, .f16].contains(tensor.dtype) else {
        throw VideoIOError.cannotRead(
          path: path,
          reason: "'\(LatentClip.name)' is \(tensor.dtype) \(shape), not f32 [frames, channels, height, width]")
      }
      if let first, first[1...] != shape[1...] {
        throw VideoIOError.cannotRead(path: path, reason: "latents of \(shape) do not continue those of \(first)")
      }
      if first == nil { metadata = archive.metadata }
      first = first ?? shape
      files.append((path, shape[0]))
    }
    guard let first else { throw VideoIOError.cannotRead(path: path, reason: "it holds no latents") }
    self.path = path
    self.firstChunk = firstChunk
    self.files = files
    self.metadata = metadata
    shape = [files.reduce(0) { $0 + $1.frames }] + first[1...]
  }

  /// Latent frames of each file, in order: of a run directory those of each chunk.
  package var chunkFrames: [Int] { files.map(\.frames) }

  /// The latents of one file, `[frames, channels, height, width]`.
  package func tensor(_ file: Int) throws -> Tensor {
    try TensorArchive(path: files[file].path).tensor(LatentClip.name)
  }

  /// Where a frame is: which file, and which frame of it; `nil` behind the last.
  package func position(of frame: Int) -> (file: Int, frame: Int)? {
    var start = 0
    for (index, file) in files.enumerated() {
      if frame < start + file.frames { return (index, frame - start) }
      start += file.frames
    }
    return nil
  }

  /// Writes all of them as one float32 tensor `latents`, with the first file's metadata.
  ///
  /// - Returns: its shape.
  package func write(to path: String) throws -> [Int] {
    let plane = shape[1] * shape[2] * shape[3]
    let whole = try Tensor(dtype: .f32, shape: shape) { memory in
      let floats = memory.bindMemory(to: Float.self)
      var start = 0
      for index in files.indices {
        let count = files[index].frames * plane
        try tensor(index).copyFloats(to: UnsafeMutableBufferPointer(rebasing: floats[start..<start + count]))
        start += count
      }
    }
    try SafetensorsWriter.write([(LatentClip.name, whole)], metadata: metadata, to: path)
    return shape
  }
}
