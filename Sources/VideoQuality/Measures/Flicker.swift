/// How much brightness trembles from frame to frame, apart from any steady change.
///
/// The mean over all frames t of the second difference of the mean luma Y', and the same for each of 8 x 8 cells of the picture
/// (which sees light that flickers in one place, but takes fast motion for some of it):
///
///     flicker = mean_t | Y'(t-1) - (Y'(t-2) + Y'(t)) / 2 |
///
/// A linear fade has none; brightness that alternates by ±A has 2 A. Three frames that lie on both sides of a chunk border do
/// not count: that is the ``SeamError``.
public struct Flicker: Sendable, Equatable, Encodable {
  /// Levels of 255.
  public let brightness: Double
  /// Levels of 255: the mean over cells.
  public let local: Double
}

/// Takes the frames of a video one after the other.
struct FlickerMeter {
  private(set) var bins: TimeBins
  private var previous: [ColourLayout] = []
  private var sums = (brightness: 0.0, local: 0.0)
  private var count = 0

  init(frames: Int) { bins = TimeBins(over: frames) }

  mutating func add(_ layout: ColourLayout, frame: Int, startsChunk: Bool) {
    if startsChunk { previous = [] }
    if previous.count == 2 {
      let (a, b) = (previous[0], previous[1])
      let value = abs(b.brightness - (a.brightness + layout.brightness) / 2)
      var local = 0.0
      for i in layout.luma.indices { local += Double(abs(b.luma[i] - (a.luma[i] + layout.luma[i]) / 2)) }
      sums.brightness += value
      sums.local += local / Double(layout.luma.count)
      count += 1
      bins.add(value, frame: frame)
      previous.removeFirst()
    }
    previous.append(layout)
  }

  /// `nil` if there were no three frames in a row.
  var flicker: Flicker? {
    count == 0 ? nil : Flicker(brightness: sums.brightness / Double(count), local: sums.local / Double(count))
  }
}
