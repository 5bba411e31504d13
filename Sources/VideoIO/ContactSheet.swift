/// Many frames in one picture: a grid, row by row, with thin lines between.
///
/// Frames are made smaller as they are added, so that a sheet of a long video needs little memory.
public struct ContactSheet: Sendable {
  /// Cells in a row; `nil` for a grid that is about as wide as high.
  public var columns: Int?
  /// Width of the lines between and around the cells, in pixels.
  public var gap: Int
  /// Level of the grey between the cells and in empty ones.
  public var background: UInt8
  private let scale: Double
  private var cells: [RGBFrame] = []
  private var pixelCount = 0
  private static let maximumPixels = 1 << 28

  /// An empty sheet.
  ///
  /// - Parameter scale: above 0, at most 1: the size of a cell against its frame (box filter).
  /// - Throws: `VideoIOError.invalidSetting`.
  public init(columns: Int? = nil, scale: Double = 1, gap: Int = 2, background: UInt8 = 24) throws {
    if let columns, columns < 1 {
      throw VideoIOError.invalidSetting(name: "columns", value: "\(columns)", expected: "1 or more")
    }
    guard scale > 0, scale <= 1 else {
      throw VideoIOError.invalidSetting(name: "scale", value: "\(scale)", expected: "a factor above 0 and up to 1")
    }
    precondition(gap >= 0, "a negative gap")
    self.columns = columns
    self.scale = scale
    self.gap = gap
    self.background = background
  }

  /// Number of frames on the sheet.
  public var count: Int { cells.count }

  /// Adds a frame in the next cell.
  ///
  /// - Parameter number: is written into the cell's corner.
  public mutating func add(_ frame: RGBFrame, number: Int? = nil) {
    var cell = frame.scaledDown(by: scale)
    if let number { cell.stamp(number) }
    cells.append(cell)
    pixelCount += cell.width * cell.height
  }

  /// Whether the frames so far are more than a picture can hold, so that it is useless to go on.
  public var isTooLarge: Bool { pixelCount > ContactSheet.maximumPixels }

  /// The sheet. Cells have the size of the largest frame; smaller ones sit in the upper left corner.
  ///
  /// - Throws: `VideoIOError.invalidSetting` for a sheet without frames or of more than 2^28 pixels.
  public func picture() throws -> RGBFrame {
    guard let cellWidth = cells.map(\.width).max(), let cellHeight = cells.map(\.height).max() else {
      throw VideoIOError.invalidSetting(name: "contact sheet", value: "of 0 frames", expected: "at least one frame")
    }
    let columns = min(self.columns ?? balancedColumns(cellWidth, cellHeight), cells.count)
    let rows = (cells.count + columns - 1) / columns
    let width = columns * (cellWidth + gap) + gap
    let height = rows * (cellHeight + gap) + gap
    guard width <= ContactSheet.maximumPixels / height, width < 1_000_000, height < 1_000_000 else {
      throw VideoIOError.invalidSetting(
        name: "contact sheet", value: "of \(width)x\(height) pixels", expected: "fewer frames or a smaller scale")
    }
    var pixels = [UInt8](repeating: background, count: width * height * 3)
    for (i, cell) in cells.enumerated() {
      let top = gap + i / columns * (cellHeight + gap)
      let left = gap + i % columns * (cellWidth + gap)
      let line = cell.width * 3
      for row in 0..<cell.height {
        let start = ((top + row) * width + left) * 3
        pixels.replaceSubrange(start..<start + line, with: cell.pixels[row * line..<(row + 1) * line])
      }
    }
    return RGBFrame(width: width, height: height, pixels: pixels)
  }

  /// The number of columns that brings the sheet nearest to a square.
  private func balancedColumns(_ cellWidth: Int, _ cellHeight: Int) -> Int {
    let ideal = (Double(cells.count) * Double(cellHeight) / Double(cellWidth)).squareRoot()
    return max(1, Int(ideal.rounded(.up)))
  }
}
