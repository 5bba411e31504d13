import Tensors
import VideoIO

/// `preview.png` of a run directory: small pictures of the video so far, evenly spaced, at most ``PreviewSheet/most``.
///
/// It takes the first frame of each chunk. When it is full, every second picture leaves and the spacing doubles, so that
/// it stays small however long the video, and what it shows depends on the number of chunks alone.
package struct PreviewSheet {
  package static let most = 24
  /// Pixels of a picture's longer side.
  private static let side = 192
  private var spacing = 1
  private var cells: [(chunk: Int, frame: Int, picture: RGBFrame)] = []

  package init() {}

  /// Offers the first frame of a chunk.
  /// - Returns: whether the sheet has changed.
  package mutating func add(_ picture: RGBFrame, frame: Int, chunk: Int) -> Bool {
    // The last chunk of a run comes again when the run is extended.
    cells.removeAll { $0.chunk >= chunk }
    guard chunk % spacing == 0 else { return false }
    let scale = min(1, Double(PreviewSheet.side) / Double(max(picture.width, picture.height)))
    cells.append((chunk, frame, picture.scaledDown(by: scale)))
    while cells.count > PreviewSheet.most {
      spacing *= 2
      cells.removeAll { $0.chunk % spacing != 0 }
    }
    return true
  }

  /// Writes the sheet, each picture with the number of its frame.
  package func write(to path: String) throws {
    var sheet = try ContactSheet()
    for cell in cells { sheet.add(cell.picture, number: cell.frame) }
    try PNG.write(sheet.picture(), to: path)
  }

  private struct Stand: Codable {
    var spacing, width, height: Int
    var chunks, frames: [Int]
  }

  package func save(to state: inout StateBuilder) throws {
    guard let first = cells.first else { return }
    let (width, height) = (first.picture.width, first.picture.height)
    try state.add(
      "preview",
      value: Stand(
        spacing: spacing, width: width, height: height, chunks: cells.map(\.chunk), frames: cells.map(\.frame)))
    state.add("preview.cells", tensor: Tensor(cells.flatMap(\.picture.pixels), shape: [cells.count, height, width, 3]))
  }

  /// - Throws: `TensorError` for a state that is damaged.
  package init(from state: SavedState) throws {
    guard state.contains("preview") else { return }
    let stand: Stand = try state.value("preview")
    let (count, size) = (stand.chunks.count, stand.width * stand.height * 3)
    guard stand.width > 0, stand.height > 0, stand.frames.count == count, stand.spacing > 0 else {
      throw state.damaged("preview", "the preview cannot be of this run")
    }
    let pixels = try state.tensor("preview.cells", dtype: .u8, shape: [count, stand.height, stand.width, 3])
    spacing = stand.spacing
    cells = pixels.withUnsafeBytes { bytes in
      (0..<count).map {
        let picture = RGBFrame(
          width: stand.width, height: stand.height, pixels: Array(bytes[$0 * size..<($0 + 1) * size]))
        return (stand.chunks[$0], stand.frames[$0], picture)
      }
    }
  }
}
