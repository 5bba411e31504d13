import Tensors

/// The form of a record in a file (docs/formats.md): safetensors, one file per chunk.
extension AttentionRecord {
  /// Bytes in `reads` beside 0 and 1: the pass computes no attention in this layer.
  private static let unread: UInt8 = 255

  /// Writes the record under a temporary name and renames it.
  /// - Throws: `TensorError`.
  public func write(to path: String) throws {
    let (layers, numbers) = (layerNumbers, headNumbers)
    let width = heads.map(\.pages.count).max() ?? 0
    let cells = layers.flatMap { layer in
      numbers.map { number in heads.first { $0.layer == layer && $0.head == number } }
    }
    func padded<Element>(_ row: [Element], _ value: Element, _ count: Int) -> [Element] {
      row + Array(repeating: value, count: count - row.count)
    }
    let shape = [layers.count, numbers.count]
    var tensors: [(String, Tensor)] = [
      ("layers", Tensor(layers.map(Int32.init), shape: [layers.count])),
      ("heads", Tensor(numbers.map(Int32.init), shape: [numbers.count])),
      ("persistent", Tensor(cells.map { Int32($0?.persistent ?? 0) }, shape: shape)),
      (
        "pages",
        Tensor(
          cells.flatMap { head in
            padded((head?.pages ?? []).flatMap { [Int32($0.frame), Int32($0.tile)] }, -1, 2 * width)
          }, shape: shape + [width, 2])
      ),
    ]
    let tiles = geometry.pages(frames: frames)
    for pass in passes {
      let readings = cells.map { $0?.passes[pass] }
      let mass = readings.flatMap { reading in
        reading.map { padded($0.mass, 0, width) } ?? Array(repeating: .nan, count: width)
      }
      let reads = readings.flatMap { reading in
        reading?.reads.map { $0.flatMap { padded($0.map { $0 ? 1 : 0 }, UInt8(0), width) } }
          ?? Array(repeating: Self.unread, count: tiles * width)
      }
      tensors.append(("mass.\(pass)", Tensor(mass, shape: shape + [width])))
      tensors.append(("reads.\(pass)", Tensor(reads, shape: shape + [tiles, width])))
    }
    let tile = geometry.tile
    try SafetensorsWriter.write(
      tensors,
      metadata: [
        "chunk": "\(chunk)", "first_frame": "\(firstFrame)", "frames": "\(frames)", "recipe": recipe,
        "grid": "\(geometry.rows)x\(geometry.columns)", "tile": "\(tile.frames)x\(tile.rows)x\(tile.columns)",
      ], to: path)
  }

  /// Reads a record.
  /// - Throws: `TensorError` for a file that cannot be read or holds something else.
  public init(path: String) throws {
    let archive = try TensorArchive(path: path)
    func number(_ key: String) throws -> Int {
      guard let value = archive.metadata[key].flatMap(Int.init), value >= 0, value < 1 << 30 else {
        throw TensorError(.malformedHeader, path: path, "no record of attention: '\(key)' is not in its metadata")
      }
      return value
    }
    func sizes(_ key: String, _ count: Int) throws -> [Int] {
      let sizes = (archive.metadata[key] ?? "").split(separator: "x").compactMap { Int($0) }
      guard sizes.count == count, sizes.allSatisfy({ $0 > 0 && $0 < 1 << 16 }) else {
        throw TensorError(.malformedHeader, path: path, "no record of attention: '\(key)' is not in its metadata")
      }
      return sizes
    }
    (chunk, firstFrame, frames) = (try number("chunk"), try number("first_frame"), try number("frames"))
    recipe = archive.metadata["recipe"] ?? ""
    let (grid, tile) = (try sizes("grid", 2), try sizes("tile", 3))
    do {
      geometry = try PageGeometry(
        rows: grid[0], columns: grid[1], tile: PageTile(frames: tile[0], rows: tile[1], columns: tile[2]))
    } catch { throw TensorError(.malformedHeader, path: path, "\(error)") }
    guard frames >= 1 else { throw TensorError(.malformedHeader, path: path, "a chunk of no frames") }

    func tensor(_ name: String, _ dtype: DType, _ shape: [Int?]) throws -> Tensor {
      let tensor = try archive.tensor(name)
      guard tensor.dtype == dtype, tensor.shape.count == shape.count,
        zip(tensor.shape, shape).allSatisfy({ $1 == nil || $0 == $1 })
      else {
        let wanted = shape.map { $0.map(String.init) ?? "n" }.joined(separator: ", ")
        throw TensorError(
          .shape, path: path, tensor: name, "\(tensor.dtype) \(tensor.shape), not \(dtype) [\(wanted)]")
      }
      return tensor
    }
    let layers = try tensor("layers", .i32, [nil]).integers()
    let numbers = try tensor("heads", .i32, [nil]).integers()
    let shape: [Int?] = [layers.count, numbers.count]
    let persistent = try tensor("persistent", .i32, shape).integers()
    let pageTensor = try tensor("pages", .i32, shape + [nil, 2])
    let (pages, width) = (pageTensor.integers(), pageTensor.shape[2])
    let tiles = geometry.pages(frames: frames)
    var readings: [(pass: AttentionSelection.Pass, mass: [Float], reads: [Int])] = []
    for name in archive.names where name.hasPrefix("mass.") {
      guard let pass = AttentionSelection.Pass(String(name.dropFirst("mass.".count))) else { continue }
      readings.append(
        (
          pass, try tensor(name, .f32, shape + [width]).floats(),
          try tensor("reads.\(pass)", .u8, shape + [tiles, width]).integers()
        ))
    }
    heads = []
    for (i, layer) in layers.enumerated() {
      for (j, head) in numbers.enumerated() {
        let cell = i * numbers.count + j
        let ids = (0..<width).map { k in
          PageID(frame: pages[2 * (cell * width + k)], tile: pages[2 * (cell * width + k) + 1])
        }
        let kept = ids.prefix { $0.frame >= 0 }
        guard kept.allSatisfy({ $0.frame < firstFrame + frames && (0..<geometry.tilesPerFrame).contains($0.tile) }),
          (0...kept.count).contains(persistent[cell])
        else {
          throw TensorError(.offsets, path: path, tensor: "pages", "a page that the video does not have")
        }
        var passes: [AttentionSelection.Pass: Reading] = [:]
        for reading in readings {
          let mass = Array(reading.mass[cell * width..<cell * width + kept.count])
          let rows = (0..<tiles).map { tile in
            Array(reading.reads[(cell * tiles + tile) * width..<(cell * tiles + tile) * width + kept.count])
          }
          if let first = mass.first, first.isNaN { continue }
          let isUnread = rows.joined().contains(Int(Self.unread))
          passes[reading.pass] = Reading(reads: isUnread ? nil : rows.map { $0.map { $0 == 1 } }, mass: mass)
        }
        heads.append(
          Head(layer: layer, head: head, pages: Array(kept), persistent: persistent[cell], passes: passes))
      }
    }
  }
}
