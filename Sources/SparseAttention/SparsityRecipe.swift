/// What becomes of the pages that a query skips.
public enum Compensation: String, Sendable, Codable {
  /// Nothing: they do not exist for this query.
  case drop
}

/// One answer to each of the four questions, and where keys are thought to stand in time.
public struct SparsityRecipe: Sendable {
  /// The name under which a user asked for it.
  public var name: String
  /// Which pages stay.
  public var memory: any MemoryPolicy
  /// How many may be read.
  public var density: any DensitySchedule
  /// Which ones are read.
  public var select: any PageSelector
  /// What becomes of the rest.
  public var tail: Compensation
  public var positions: PositionMode

  public init(
    name: String, memory: any MemoryPolicy, density: any DensitySchedule = FullDensity(),
    select: any PageSelector = AllPages(), tail: Compensation = .drop, positions: PositionMode = .absolute
  ) {
    self.name = name
    self.memory = memory
    self.density = density
    self.select = select
    self.tail = tail
    self.positions = positions
  }

  /// Keep everything, read everything.
  public static func dense() -> SparsityRecipe { SparsityRecipe(name: "dense", memory: KeepAll()) }

  /// Self-Forcing: a sliding window with an optional sink, read whole.
  public static func selfForcing(window: Int, sink: Int = 0, positions: PositionMode = .absolute) -> SparsityRecipe {
    SparsityRecipe(name: "self-forcing", memory: SlidingWindow(window: window, sink: sink), positions: positions)
  }

  /// The names of the recipes that exist.
  public static let names = ["dense", "self-forcing"]
}
