import SparseAttention
import Testing

@Suite struct PageGeometryTests {
  @Test(
    "The standard tile is the largest of at most 64 tokens that divides the grid, the squarest of equals",
    arguments: [(30, 52, 15, 4), (10, 16, 5, 8), (1, 1, 1, 1), (22, 40, 11, 5), (13, 17, 1, 17), (45, 80, 15, 4)])
  func theStandardTileIsTheLargestOf(
    rows: Int, columns: Int, tileRows: Int, tileColumns: Int
  ) {
    let tile = PageGeometry.defaultTile(rows: rows, columns: columns)
    // Checked against every divisor pair, not only against the table.
    for r in 1...rows where rows % r == 0 {
      for c in 1...columns where columns % c == 0 && r * c <= 64 {
        #expect(r * c <= tile.tokens)
        if r * c == tile.tokens { #expect(abs(r - c) >= abs(tile.rows - tile.columns)) }
      }
    }
    #expect(tile == PageTile(rows: tileRows, columns: tileColumns))
  }

  @Test(
    "Page order is a permutation of the chunk's tokens, and a page is a tile",
    arguments: [
      PageTile(rows: 5, columns: 8), PageTile(frames: 3, rows: 5, columns: 4), PageTile(rows: 1, columns: 1),
    ])
  func pageOrderIsAPermutationOfThe(tile: PageTile) throws {
    let geometry = try PageGeometry(rows: 10, columns: 16, tile: tile)
    for frames in [1, 2, 3, 7] {
      let tokens = geometry.tokens(frames: frames)
      let raster = tokens.map { ($0.frame * 10 + $0.row) * 16 + $0.column }
      #expect(raster.sorted() == Array(0..<frames * 160))
      #expect(geometry.pageIDs(firstFrame: 5, frames: frames).count == geometry.pages(frames: frames))
      let tiles = geometry.tiles(frames: frames)
      #expect(tiles.count == geometry.pages(frames: frames) && tiles.rows == tokens.count)
      // Every page spans exactly one tile, cut short or not.
      for page in 0..<geometry.pages(frames: frames) {
        let part = tokens[tiles[page]]
        #expect(Set(part.map { $0.frame / tile.frames }).count == 1)
        #expect(Set(part.map { $0.row / tile.rows }).count == 1)
        #expect(Set(part.map { $0.column / tile.columns }).count == 1)
      }
    }
  }

  @Test("Tiles of 3x5x4 on 30x52 tokens lie row of tiles after row, inside by frame, row, column")
  func tilesOfThreeFramesLieRowAfterRow() throws {
    // Sparse Forcing specification, section 4, layout L-A; L-F beside it.
    let geometry = try PageGeometry(rows: 30, columns: 52, tile: PageTile(frames: 3, rows: 5, columns: 4))
    #expect(geometry.pages(frames: 3) == 78 && geometry.pages(frames: 6) == 156 && geometry.tile.tokens == 60)
    let tokens = geometry.tokens(frames: 3)
    var i = 0
    for top in 0..<6 {
      for left in 0..<13 {
        for frame in 0..<3 {
          for row in 0..<5 {
            for column in 0..<4 {
              let wanted = TokenPosition(frame: frame, row: 5 * top + row, column: 4 * left + column)
              if tokens[i] != wanted { Issue.record("token \(i): \(tokens[i]), not \(wanted)") }
              i += 1
            }
          }
        }
      }
    }
    #expect(i == tokens.count && i == 4680)
    let flat = try PageGeometry(rows: 30, columns: 52)
    #expect(flat.tilesPerFrame == 26 && flat.pages(frames: 3) == 78 && flat.tile == PageTile(rows: 15, columns: 4))
  }

  @Test("A tile that does not divide the grid is refused and the nearest is named") func aTileThatDoesNotDivideThe() {
    #expect(throws: SparsityError.tile("a tile of 4x8 does not divide the 10x16 tokens of a frame", "5x8")) {
      try PageGeometry(rows: 10, columns: 16, tile: PageTile(rows: 4, columns: 8))
    }
    #expect(throws: SparsityError.tile("a tile of 10x16 holds 160 tokens, more than 64", "5x8")) {
      try PageGeometry(rows: 10, columns: 16, tile: PageTile(rows: 10, columns: 16))
    }
    #expect(throws: SparsityError.self) {
      try PageGeometry(rows: 10, columns: 16, tile: PageTile(rows: 0, columns: 16))
    }
  }
}
