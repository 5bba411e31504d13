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
