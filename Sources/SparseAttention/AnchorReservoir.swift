/// Keeps the sink, the recent frames, and of those between an evenly spaced sample of bounded size: history for anchors
/// to rotate over, in constant memory however long the video (an answer of this project to LVSA's need for old frames).
///
/// Middle frames that stay are the multiples of 2^j, j the smallest for which there are at most `capacity` of them: when
/// the reservoir is full, every second frame leaves and the spacing doubles. What stays depends on the number of sealed
/// frames alone.
public struct AnchorReservoir: MemoryPolicy {
  /// The most middle frames that stay, 32 to 48 for a budget of 21.
  public let capacity: Int
  /// Leading frames that always stay.
  public let sink: Int
  /// Frames before the chunk that always stay.
  public let recent: Int

  public init(capacity: Int = 48, sink: Int = 1, recent: Int = 7) {
    self.capacity = capacity
    self.sink = sink
    self.recent = recent
  }

  public var sinkFrames: Int { sink }
  public func recentFrames(next: Int) -> Int { recent }
  public var summary: String { "reservoir of \(capacity) frames, sink \(sink), recent \(recent)" }

  public func capacity(chunkFrames: Int, total: Int?) throws(SparsityError) -> Int {
    guard capacity >= 2, sink >= 0, recent >= 0 else {
      throw .capacity("a reservoir of \(capacity) frames beside a sink of \(sink); the least is 2 and 0")
    }
    let most = sink + capacity + recent + chunkFrames
    return min(most, total ?? most)
  }

  /// The distance of the middle frames that stay once `sealedFrames` frames are sealed: 2^j.
  public func spacing(sealedFrames: Int) -> Int {
    let middle = sink..<max(sink, sealedFrames - recent)
    var spacing = 1
    func count(_ n: Int) -> Int { (middle.upperBound + n - 1) / n - (middle.lowerBound + n - 1) / n }
    while count(spacing) > capacity { spacing *= 2 }
    return spacing
  }

  public func evictions(from resident: [PageID], mass: [Float]?, after chunk: SealedChunk) -> Set<PageID> {
    let spacing = spacing(sealedFrames: chunk.sealedFrames)
    let end = chunk.sealedFrames - recent
    return Set(resident.filter { $0.frame >= sink && $0.frame < end && $0.frame % spacing != 0 })
  }
}
