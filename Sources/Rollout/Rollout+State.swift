import Compute
import SparseAttention
import Tensors

/// A rollout between two chunks, as it is written and read.
extension Rollout {
  private struct Stand: Codable {
    var nextChunk: Int
    var branches: Int
    var noise: String
    /// Chunks whose latents are kept for a change of prompt. Which prompt holds follows from the number of the next chunk.
    var recent: Int
  }

  /// Adds all that the next chunks depend on beside weights, prompt and settings: keys and values with their table, and
  /// where the noise stands. The keys and values are copied when the state is written, before the next chunk is asked for.
  public func save(to state: inout StateBuilder) throws {
    guard let coded = noise as? any ChunkNoise & Encodable else {
      throw RolloutError.settings("noise of type \(type(of: noise)) cannot be stored")
    }
    try state.add(
      "rollout",
      value: Stand(nextChunk: chunk, branches: memories.count, noise: "\(type(of: noise))", recent: recent.count))
    for (i, latents) in recent.enumerated() { state.add("recent\(i)", tensor: backend.download(latents)) }
    try state.add("noise", value: coded)
    if let latentGuard { try state.add("guard", value: latentGuard) }
    for (i, memory) in memories.enumerated() { try memory.save(to: &state, as: "memory\(i)") }
  }

  /// Saves the rollout in a file, which is whole or not there.
  ///
  /// - Returns: Bytes of its arrays.
  public func save(to path: String) throws -> Int {
    var state = StateBuilder()
    try save(to: &state)
    try state.write(to: path)
    return state.byteCount
  }

  /// Gives fresh memories what was saved; the number of the next chunk, the noise as it stood, and the latents that were
  /// kept.
  static func restore(
    _ memories: [KVMemory], noise: any ChunkNoise, from state: SavedState, on backend: any Backend
  ) throws -> (chunk: Int, noise: any ChunkNoise, recent: [DeviceTensor]) {
    let stand: Stand = try state.value("rollout")
    for (what, found, wanted) in [
      ("noise", stand.noise, "\(type(of: noise))"),
      ("number of memories", "\(stand.branches)", "\(memories.count)"),
    ] where found != wanted {
      throw state.damaged("rollout", "the \(what) of the state is '\(found)', that of this run '\(wanted)'")
    }
    for (i, memory) in memories.enumerated() { try memory.restore(from: state, as: "memory\(i)") }
    let recent = try (0..<(stand.recent < 0 ? 0 : stand.recent)).map {
      backend.upload(try state.tensor("recent\($0)", dtype: .f32))
    }
    guard let coded = noise as? any ChunkNoise & Decodable else { return (stand.nextChunk, noise, recent) }
    func decode<Noise: ChunkNoise & Decodable>(_: Noise) throws -> any ChunkNoise {
      try state.value("noise", as: Noise.self)
    }
    return (stand.nextChunk, try decode(coded), recent)
  }
}
