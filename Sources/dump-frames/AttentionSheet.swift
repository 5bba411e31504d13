import Foundation
import SparseAttention
import VideoIO

/// One layer's head over the chunks of a run, as a sheet of pictures: what it kept, what was read, what got attention.
struct AttentionSheet {
  private static let persistent = Ink(255, 190, 46)
  private static let window = Ink(92, 178, 255)
  private static let own = Ink(112, 226, 128)
  private static let faint = Ink(110, 110, 122)
  /// Brightness of what is not in memory.
  private static let gone = 0.3
  /// Columns before a band wraps, and frames up to which every frame has a column of its own.
  private static let columns = 24
  /// The scale of masses spans 2^-3 to 2^3 times an equal share.
  private static let octaves = 3.0

  private let records: [(record: AttentionRecord, head: AttentionRecord.Head)]
  private let pictures: [Int: RGBFrame]
  private let layer: Int
  private let head: Int
  private let pass: AttentionSelection.Pass?

  /// - Parameters:
  ///   - pass: Which to show; nil for the last, or the last that read anything.
  ///   - pictures: By latent frame, all of one size.
  init?(
    layer: Int, head: Int, records: [AttentionRecord], pass: AttentionSelection.Pass?, pictures: [Int: RGBFrame]
  ) {
    self.records = records.compactMap { record in
      record.heads.first { $0.layer == layer && $0.head == head }.map { (record, $0) }
    }
    if self.records.isEmpty { return nil }
    (self.layer, self.head, self.pass, self.pictures) = (layer, head, pass, pictures)
  }

  /// The sheet.
  /// - Throws: `VideoIOError.invalidSetting` for one that is too large.
  func picture() throws -> RGBFrame {
    let record = records[0].record
    let size =
      pictures.values.first.map { ($0.width, $0.height) } ?? (128, 128 * record.geometry.rows / record.geometry.columns)
    let (g, tile) = (record.geometry, record.geometry.tile)
    let mass = Set(records.compactMap { massPass($0.head) }).sorted().map(name).joined(separator: ", ")
    let read = Set(records.compactMap { readPass($0.head) }).sorted().map(name).joined(separator: ", ")
    var sheet = TileSheet(
      title: "\(record.recipe): layer \(layer), head \(head)",
      subtitle: "pages of \(tile) tokens, \(g.tilesPerFrame) in a frame; read in: \(read); mass of: \(mass)",
      legend: [
        .swatch(Self.persistent, "persistent"), .swatch(Self.window, "window"), .swatch(Self.own, "this chunk"),
        .dim(Self.gone, "not in memory"),
        .scale(.ice, name: "read by % of tiles", marks: ["0", "6", "25", "56", "100"]),
        .scale(.fire, name: "mass / equal share", marks: ["1/8", "1/4", "1/2", "1", "2", "4", "8"]),
      ], cellWidth: size.0, cellHeight: size.1, columns: Self.columns)
    // A short video has a column for each frame; a long one shows what is in memory only.
    let everyFrame = records.map { $0.record.firstFrame + $0.record.frames }.max() ?? 0
    for (record, head) in records {
      sheet.bands.append(band(record, head, frames: everyFrame <= Self.columns ? Array(0..<everyFrame) : nil))
    }
    return try sheet.picture()
  }

  private func name(_ pass: AttentionSelection.Pass) -> String {
    switch pass {
    case .step(let step): "step \(step)"
    case .clean: "the clean pass"
    }
  }

  private func massPass(_ head: AttentionRecord.Head) -> AttentionSelection.Pass? { pass ?? head.passes.keys.max() }
  private func readPass(_ head: AttentionRecord.Head) -> AttentionSelection.Pass? {
    pass ?? head.passes.filter { $0.value.reads != nil }.keys.max()
  }

  /// Pages of one latent frame, by their place in it.
  private func places(_ record: AttentionRecord, _ head: AttentionRecord.Head) -> [Int: [Int: Int]] {
    var places: [Int: [Int: Int]] = [:]
    for (place, page) in head.pages.enumerated() {
      for frame in record.span(of: page) { places[frame, default: [:]][page.tile] = place }
    }
    return places
  }

  private func band(_ record: AttentionRecord, _ head: AttentionRecord.Head, frames: [Int]?) -> TileSheet.Band {
    let places = places(record, head)
    let end = record.firstFrame + record.frames
    let frames = frames ?? places.keys.sorted()
    let geometry = record.geometry
    let (rows, columns) = (geometry.rows / geometry.tile.rows, geometry.columns / geometry.tile.columns)
    let ownPages = head.pages.count { $0.frame >= record.firstFrame }
    func ink(_ place: Int) -> Ink {
      place < head.persistent ? Self.persistent : place >= head.pages.count - ownPages ? Self.own : Self.window
    }
    func cell(_ frame: Int, _ tile: (Int) -> TileSheet.Tile) -> TileSheet.Cell? {
      if frame >= end { return nil }
      let tiles = (0..<rows).map { row in
        (0..<columns).map { column -> TileSheet.Tile in
          places[frame]?[row * columns + column].map(tile) ?? TileSheet.Tile(level: Self.gone, isGrey: true)
        }
      }
      return TileSheet.Cell(picture: pictures[frame], tiles: tiles)
    }
    func tinted(_ ink: Ink, _ text: String) -> TileSheet.Tile {
      TileSheet.Tile(level: 0.75, isGrey: true, tint: (ink, 0.66), text: text)
    }
    var lines = [TileSheet.Line(name: "kept", cells: frames.map { cell($0) { TileSheet.Tile(outline: ink($0)) } })]
    let reading = readPass(head).flatMap { head.passes[$0] }
    if let shares = reading?.readShare {
      lines.append(
        TileSheet.Line(
          name: "read",
          cells: frames.map { cell($0) { tinted(cold(shares[$0]), percent(shares[$0])) } }))
    }
    if let mass = massPass(head).flatMap({ head.passes[$0]?.mass }) {
      let total = Double(mass.reduce(0, +))
      let relative = mass.map { total > 0 ? Double($0) * Double(mass.count) / total : 0 }
      lines.append(
        TileSheet.Line(
          name: "mass",
          cells: frames.map { cell($0) { tinted(heat(relative[$0]), number(relative[$0])) } }))
    }
    let heads = frames.map { frame -> (text: String, ink: Ink) in
      let kinds = places[frame]?.values.map(ink) ?? []
      let colour = [Self.own, Self.window, Self.persistent].first(where: kinds.contains) ?? Self.faint
      return frame >= end ? ("", Self.faint) : ("\(frame)", colour)
    }
    return TileSheet.Band(
      title: title(record, head, own: ownPages, reading: reading), heads: heads, lines: lines)
  }

  private func title(
    _ record: AttentionRecord, _ head: AttentionRecord.Head, own: Int, reading: AttentionRecord.Reading?
  ) -> String {
    let parts = [
      (head.persistent, "persistent"), (head.pages.count - head.persistent - own, "window"), (own, "own"),
    ].filter { $0.0 > 0 }.map { "\($0.0) \($0.1)" }
    var title =
      "chunk \(record.chunk), latent frames \(record.firstFrame)-\(record.firstFrame + record.frames - 1): "
      + "\(head.pages.count) pages in memory (\(parts.joined(separator: ", ")))"
    if let reads = reading?.reads, let most = reads.map({ $0.count { $0 } }).max() {
      title += "; a query tile reads \(most)"
    }
    return title
  }

  /// A square root, so that a few readers can be told from none.
  private func cold(_ share: Double) -> Ink { ColourRamp.ice[share.squareRoot()] }
  private func heat(_ relative: Double) -> Ink {
    ColourRamp.fire[relative > 0 ? (log2(relative) / Self.octaves + 1) / 2 : 0]
  }
  private func percent(_ share: Double) -> String { "\(Int((share * 100).rounded()))" }
  private func number(_ value: Double) -> String {
    value >= 9.95 ? "\(Int(value.rounded()))" : String(format: value < 0.095 ? "%.2f" : "%.1f", value)
  }
}
