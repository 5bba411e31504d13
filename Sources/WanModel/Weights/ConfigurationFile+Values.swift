extension ConfigurationFile {
  /// Numbers of a list; nil for none and for null.
  func numbers(_ key: String) throws -> [Double]? {
    try list(key) { ($0 as? Double) ?? ($0 as? Int).map(Double.init) }
  }

  /// Whole numbers from 1 of a list.
  func positives(_ key: String) throws -> [Int]? {
    try list(key) { item in (item as? Int).flatMap { (1..<1 << 20).contains($0) ? $0 : nil } }
  }

  /// Truth values of a list.
  func truths(_ key: String) throws -> [Bool]? { try list(key) { $0 as? Bool } }

  /// Refuses a class that the configuration is not of; files that do not say pass.
  func requireClass(_ wanted: String, key: String = "_class_name") throws {
    guard let found = value(key), found as? String != wanted else { return }
    throw problem("\(key) is \(found), wanted \(wanted)")
  }

  private func list<Item>(_ key: String, _ read: (Any) -> Item?) throws -> [Item]? {
    guard let value = value(key) else { return nil }
    guard let items = value as? [Any] else { throw problem("'\(key)' is \(value), wanted a list") }
    return try items.map { item in
      guard let read = read(item) else { throw problem("'\(key)' holds \(item), wanted \(Item.self)") }
      return read
    }
  }
}
