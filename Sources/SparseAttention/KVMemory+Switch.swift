/// What a change of prompt does to a memory, between two chunks.
extension KVMemory {
  /// Forgets everything: the next chunk is the first of a new scene, with frames and chunks counted from 0.
  ///
  /// - Parameters:
  ///   - chunks: Chunks of the scene; nil if it has no end.
  ///   - start: The number of its first chunk in the video, for records of attention.
  public func restart(chunks: Int?, at start: Int) {
    precondition(isBetweenChunks, "a memory is restarted between chunks")
    table = PageTable(layers: table.layers, heads: table.heads, slots: table.slots)
    (sealedFrames, chunk) = (0, -1)
    belongs(toSceneAt: start, chunks: chunks)
  }

  /// Says which scene the memory is of, after it was restored; see ``restart(chunks:at:)``.
  public func belongs(toSceneAt start: Int, chunks: Int?) { (sceneStart, chunkCount) = (start, chunks) }

  /// Forgets all pages but those of the sink and of the last `frames` frames.
  public func flush(keeping frames: Int) {
    precondition(isBetweenChunks, "a memory is flushed between chunks")
    let (sink, first, span) = (recipe.memory.sinkFrames, sealedFrames - frames, geometry.tile.frames)
    table.evict { _, _, pages in Set(pages.filter { $0.frame >= sink && $0.frame + span <= first }) }
  }

  /// Forgets the last `frames` frames, which were `chunks` chunks, as if they had not been: they can be given again.
  /// What their sealing evicted is gone for good.
  public func rewind(frames: Int, chunks: Int) {
    precondition(isBetweenChunks && frames <= sealedFrames && chunks <= chunk + 1, "a memory is rewound between chunks")
    sealedFrames -= frames
    chunk -= chunks
    let end = sealedFrames
    table.evict { _, _, pages in Set(pages.filter { $0.frame >= end }) }
  }
}
