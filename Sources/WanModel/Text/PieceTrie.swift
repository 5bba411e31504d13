/// Byte strings in a prefix tree, for finding all pieces that a text continues with.
///
/// Edges lie in one open-addressed hash table from (node, byte) to node, so that 256,000 pieces take tens of megabytes
/// and build in a fraction of a second.
struct PieceTrie: Sendable {
  /// The value of each node; -1 where no piece ends.
  private var values: [Int32] = [-1]
  /// `(node << 8 | byte) + 1` of each slot; 0 where it is free.
  private var keys: [UInt64] = Array(repeating: 0, count: 1 << 10)
  private var children: [Int32] = Array(repeating: 0, count: 1 << 10)

  static let root: Int32 = 0

  /// Adds a piece that is not empty; one that is there already gets the new value.
  mutating func insert(_ piece: some Sequence<UInt8>, _ value: Int32) {
    var node = PieceTrie.root
    for byte in piece {
      if let next = step(node, byte) {
        node = next
      } else {
        let new = Int32(values.count)
        values.append(-1)
        add(PieceTrie.key(node, byte), new)
        node = new
      }
    }
    if node != PieceTrie.root { values[Int(node)] = value }
  }

  /// The node below `node`; nil if no piece goes on with `byte`.
  func step(_ node: Int32, _ byte: UInt8) -> Int32? {
    let key = PieceTrie.key(node, byte)
    var slot = PieceTrie.hash(key) & (keys.count - 1)
    while keys[slot] != 0 {
      if keys[slot] == key { return children[slot] }
      slot = (slot + 1) & (keys.count - 1)
    }
    return nil
  }

  /// The value of the piece that ends in `node`.
  func value(_ node: Int32) -> Int32? {
    let value = values[Int(node)]
    return value < 0 ? nil : value
  }

  /// The value of exactly these bytes.
  func find(_ piece: some Sequence<UInt8>) -> Int32? {
    var node = PieceTrie.root
    for byte in piece {
      guard let next = step(node, byte) else { return nil }
      node = next
    }
    return value(node)
  }

  private static func key(_ node: Int32, _ byte: UInt8) -> UInt64 {
    (UInt64(UInt32(bitPattern: node)) << 8 | UInt64(byte)) + 1
  }

  private static func hash(_ key: UInt64) -> Int {
    Int(truncatingIfNeeded: (key &* 0x9E37_79B9_7F4A_7C15) >> 32)
  }

  private mutating func add(_ key: UInt64, _ child: Int32) {
    if values.count * 2 > keys.count {
      let old = zip(keys, children).filter { $0.0 != 0 }
      let size = keys.count * 4
      keys = Array(repeating: 0, count: size)
      children = Array(repeating: 0, count: size)
      for (key, child) in old { place(key, child) }
    }
    place(key, child)
  }

  private mutating func place(_ key: UInt64, _ child: Int32) {
    var slot = PieceTrie.hash(key) & (keys.count - 1)
    while keys[slot] != 0 { slot = (slot + 1) & (keys.count - 1) }
    keys[slot] = key
    children[slot] = child
  }
}
