/// Pictures cut into tiles, each tile outlined, dimmed or tinted, in labelled rows: a map of what happens where.
///
/// A sheet has bands, a band has lines, a line has cells; cells of a band stand under each other and wrap together. It
/// knows nothing of what its colours mean.
package struct TileSheet {
  /// One tile of a picture.
  package struct Tile: Sendable {
    /// Colour of its border; neighbours of one colour share a thin one. nil for none.
    package var outline: Ink?
    /// How bright the picture is, 0 to 1.
    package var level: Double
    /// Whether the picture is shown without colour.
    package var isGrey: Bool
    /// A colour over the picture, and its share.
    package var tint: (ink: Ink, share: Double)?
    /// A number in the middle, shown if it fits.
    package var text: String?

    package init(
      outline: Ink? = nil, level: Double = 1, isGrey: Bool = false, tint: (ink: Ink, share: Double)? = nil,
      text: String? = nil
    ) {
      (self.outline, self.level, self.isGrey, self.tint, self.text) = (outline, level, isGrey, tint, text)
    }
  }

  /// A picture of `rows` x `columns` tiles.
  package struct Cell: Sendable {
    /// nil for a plain grey.
    package var picture: RGBFrame?
    /// `[row][column]`
    package var tiles: [[Tile]]

    package init(picture: RGBFrame?, tiles: [[Tile]]) { (self.picture, self.tiles) = (picture, tiles) }
  }

  /// Cells under one name.
  package struct Line: Sendable {
    package var name: String
    /// nil leaves a place free.
    package var cells: [Cell?]
    package init(name: String, cells: [Cell?]) { (self.name, self.cells) = (name, cells) }
  }

  package struct Band: Sendable {
    package var title: String
    /// What stands above each column, and its colour.
    package var heads: [(text: String, ink: Ink)]
    package var lines: [Line]
    package init(title: String, heads: [(text: String, ink: Ink)], lines: [Line]) {
      (self.title, self.heads, self.lines) = (title, heads, lines)
    }
  }

  /// An entry of the legend: a swatch, or a scale of colours with marks along it.
  package enum Key: Sendable {
    case swatch(Ink, String)
    /// A dimmed swatch.
    case dim(Double, String)
    case scale(ColourRamp, name: String, marks: [String])
  }

  package let title: String
  package let subtitle: String
  package let legend: [Key]
  /// Pixels of a cell.
  package let cellWidth: Int
  package let cellHeight: Int
  /// Cells in a row before a band wraps.
  package let columns: Int
  package var bands: [Band] = []

  package static let background = Ink(18, 18, 23)
  package static let plain = Ink(92, 92, 98)
  private static let light = Ink(232, 232, 238)
  private static let faint = Ink(140, 140, 152)
  private static let (margin, gap, gutter, head) = (18, 6, 86, 22)
  private static let maximumPixels = 1 << 28

  package init(
    title: String, subtitle: String, legend: [Key], cellWidth: Int, cellHeight: Int, columns: Int
  ) {
    precondition(cellWidth > 0 && cellHeight > 0 && columns > 0, "a sheet without cells")
    (self.title, self.subtitle, self.legend) = (title, subtitle, legend)
    (self.cellWidth, self.cellHeight, self.columns) = (cellWidth, cellHeight, columns)
  }

  // MARK: Places

  private var widest: Int { min(columns, max(1, bands.map(\.heads.count).max() ?? 1)) }
  package var width: Int {
    let cells = Self.gutter + widest * (cellWidth + Self.gap)
    let words = max(Canvas.width(of: title, zoom: 3), Canvas.width(of: subtitle, zoom: 2), legendWidth)
    return 2 * Self.margin + max(cells, words)
  }
  private var top: Int { Self.margin + 34 + 28 + 58 }
  private func wraps(_ band: Band) -> Int { max(1, (band.heads.count + columns - 1) / columns) }
  private func height(_ band: Band) -> Int {
    30 + wraps(band) * (Self.head + band.lines.count * (cellHeight + Self.gap) + Self.gap)
  }
  package var height: Int { top + bands.reduce(0) { $0 + height($1) } + Self.margin }

  /// The upper left pixel of a cell.
  package func origin(band: Int, line: Int, cell: Int) -> (x: Int, y: Int) {
    let (row, column) = (cell / columns, cell % columns)
    let lines = bands[band].lines.count
    let start = top + bands[..<band].reduce(0) { $0 + height($1) } + 30
    let wrap = Self.head + lines * (cellHeight + Self.gap) + Self.gap
    return (
      Self.margin + Self.gutter + column * (cellWidth + Self.gap),
      start + row * wrap + Self.head + line * (cellHeight + Self.gap)
    )
  }

  // MARK: Drawing

  /// The sheet.
  /// - Throws: `VideoIOError.invalidSetting` for one of more than 2^28 pixels.
  package func picture() throws -> RGBFrame {
    guard width <= Self.maximumPixels / max(1, height) else {
      throw VideoIOError.invalidSetting(
        name: "map", value: "of \(width)x\(height) pixels", expected: "fewer chunks or a smaller --scale")
    }
    var canvas = Canvas(width: width, height: height, background: Self.background)
    canvas.text(title, x: Self.margin, y: Self.margin, Self.light, zoom: 3)
    canvas.text(subtitle, x: Self.margin, y: Self.margin + 34, Self.faint)
    drawLegend(on: &canvas, y: Self.margin + 34 + 30)
    for (b, band) in bands.enumerated() {
      let start = origin(band: b, line: 0, cell: 0).y - Self.head - 30
      canvas.fill(x: Self.margin, y: start, width: width - 2 * Self.margin, height: 1, Ink(52, 52, 62))
      canvas.text(band.title, x: Self.margin, y: start + 9, Self.light)
      for (c, head) in band.heads.enumerated() {
        let (x, y) = origin(band: b, line: 0, cell: c)
        canvas.text(head.text, x: x + 1, y: y - 17, head.ink)
      }
      for (l, line) in band.lines.enumerated() {
        for row in 0..<wraps(band) {
          let y = origin(band: b, line: l, cell: row * columns).y
          canvas.text(line.name, x: Self.margin, y: y + cellHeight / 2 - 7, Self.faint)
        }
        for (c, cell) in line.cells.enumerated() {
          guard let cell else { continue }
          let (x, y) = origin(band: b, line: l, cell: c)
          draw(cell, x: x, y: y, on: &canvas)
        }
      }
    }
    return canvas.picture
  }

  /// The pixels of tile `i` of `count` along a side of `size`.
  private func range(_ i: Int, of count: Int, _ size: Int) -> (start: Int, length: Int) {
    let start = i * size / count
    return (start, (i + 1) * size / count - start)
  }

  private func draw(_ cell: Cell, x: Int, y: Int, on canvas: inout Canvas) {
    let rows = cell.tiles.count
    let columns = cell.tiles.first?.count ?? 0
    var picture =
      cell.picture
      ?? RGBFrame(
        width: cellWidth, height: cellHeight, red: Self.plain.red, green: Self.plain.green, blue: Self.plain.blue)
    shade(&picture, cell.tiles)
    canvas.draw(picture, x: x, y: y)
    for r in 0..<rows {
      let (top, height) = range(r, of: rows, cellHeight)
      for c in 0..<columns {
        let tile = cell.tiles[r][c]
        let (left, width) = range(c, of: columns, cellWidth)
        if let ink = tile.outline {
          func thickness(_ row: Int, _ column: Int) -> Int {
            guard (0..<rows).contains(row), (0..<columns).contains(column) else { return 2 }
            return cell.tiles[row][column].outline == ink ? 1 : 2
          }
          func side(_ row: Int, _ column: Int, _ dx: Int, _ dy: Int, _ w: Int, _ h: Int) {
            let share = thickness(row, column) == 2 ? 1 : 0.35
            canvas.fill(x: x + left + dx, y: y + top + dy, width: w, height: h, ink, share: share)
          }
          // A thin border between neighbours of one kind is drawn once, by the tile after it.
          side(r - 1, c, 0, 0, width, thickness(r - 1, c))
          side(r, c - 1, 0, 0, thickness(r, c - 1), height)
          if thickness(r + 1, c) == 2 { side(r + 1, c, 0, height - 2, width, 2) }
          if thickness(r, c + 1) == 2 { side(r, c + 1, width - 2, 0, 2, height) }
        }
        if let text = tile.text {
          let wide = Canvas.width(of: text, zoom: 1)
          guard wide + 6 <= width, DotFont.height + 6 <= height else { continue }
          let (tx, ty) = (x + left + (width - wide) / 2, y + top + (height - DotFont.height) / 2)
          canvas.fill(x: tx - 2, y: ty - 2, width: wide + 4, height: DotFont.height + 4, Ink(0, 0, 0), share: 0.45)
          canvas.text(text, x: tx, y: ty, Ink(255, 255, 255), zoom: 1)
        }
      }
    }
  }

  /// Brightness, greyness and tint of each tile.
  private func shade(_ picture: inout RGBFrame, _ tiles: [[Tile]]) {
    var pixels = picture.pixels
    let (rows, columns) = (tiles.count, tiles.first?.count ?? 0)
    for r in 0..<rows {
      let (top, height) = range(r, of: rows, picture.height)
      for c in 0..<columns {
        let tile = tiles[r][c]
        let (left, width) = range(c, of: columns, picture.width)
        if tile.level == 1, !tile.isGrey, tile.tint == nil { continue }
        let share = tile.tint?.share ?? 0
        let ink = tile.tint?.ink ?? .black
        let over = [Double(ink.red), Double(ink.green), Double(ink.blue)]
        for row in top..<top + height {
          for column in left..<left + width {
            let i = (row * picture.width + column) * 3
            let luma =
              0.2126 * Double(pixels[i]) + 0.7152 * Double(pixels[i + 1]) + 0.0722 * Double(pixels[i + 2])
            for channel in 0..<3 {
              let own = (tile.isGrey ? luma : Double(pixels[i + channel])) * tile.level
              pixels[i + channel] = UInt8(max(0, min(255, own + (over[channel] - own) * share)))
            }
          }
        }
      }
    }
    picture.pixels = pixels
  }

  private static let (swatch, scale) = (26, 168)

  private func width(_ key: Key) -> Int {
    switch key {
    case .swatch(_, let text), .dim(_, let text): Self.swatch + 8 + Canvas.width(of: text) + 26
    case .scale(_, let name, _): Canvas.width(of: name) + 10 + Self.scale + 34
    }
  }
  private var legendWidth: Int { legend.reduce(0) { $0 + width($1) } }

  private func drawLegend(on canvas: inout Canvas, y: Int) {
    var x = Self.margin
    for key in legend {
      switch key {
      case .swatch(let ink, let text):
        canvas.fill(x: x, y: y, width: Self.swatch, height: 18, Self.plain)
        canvas.frame(x: x, y: y, width: Self.swatch, height: 18, thickness: 2, ink)
        canvas.text(text, x: x + Self.swatch + 8, y: y + 2, Self.light)
      case .dim(let level, let text):
        func dimmed(_ value: UInt8) -> UInt8 { UInt8(Double(value) * level) }
        let ink = Ink(dimmed(Self.plain.red), dimmed(Self.plain.green), dimmed(Self.plain.blue))
        canvas.fill(x: x, y: y, width: Self.swatch, height: 18, ink)
        canvas.frame(x: x, y: y, width: Self.swatch, height: 18, Self.faint)
        canvas.text(text, x: x + Self.swatch + 8, y: y + 2, Self.light)
      case .scale(let ramp, let name, let marks):
        canvas.text(name, x: x, y: y + 2, Self.light)
        let start = x + Canvas.width(of: name) + 10
        for column in 0..<Self.scale {
          canvas.fill(x: start + column, y: y, width: 1, height: 18, ramp[Double(column) / Double(Self.scale - 1)])
        }
        for (i, mark) in marks.enumerated() {
          let at = start + (marks.count == 1 ? 0 : i * (Self.scale - 1) / (marks.count - 1))
          canvas.fill(x: at, y: y + 18, width: 1, height: 4, Self.faint)
          canvas.text(mark, x: at - Canvas.width(of: mark, zoom: 1) / 2, y: y + 25, Self.faint, zoom: 1)
        }
      }
      x += width(key)
    }
  }
}
