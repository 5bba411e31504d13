import Tensors

/// The tensors that one part of a model needs: names under both published schemes, and shapes.
///
/// The one place that knows a checkpoint's names. A model builds its table from its configuration, and a file is compared
/// with it before anything is loaded; headers are enough for that.
public struct WeightTable: Sendable {
  /// One tensor.
  public struct Entry: Sendable, Equatable {
    /// Name in the files of Wan-AI and their descendants; the one that the code uses.
    public let name: String
    /// Name in the diffusers and transformers folders.
    public let converted: String
    public let shape: [Int]
    /// Whether a file may hold more rows than `shape[0]`, of which the last ones count (TAEHV's growth in time).
    var keepsLastRows = false
  }

  /// Which part of the model this is, for messages.
  let module: String
  public private(set) var entries: [Entry] = []
  /// Converted names that may be there and mean nothing here.
  var ignored: Set<String> = []
  /// Wrappers that training and repacking leave in front of names; the first that fits is dropped.
  var prefixes: [String] = []
  /// Wrappers inside names, dropped wherever they stand.
  var infixes: [String] = []

  init(module: String) { self.module = module }

  /// Parameters of all tensors.
  public var parameters: Int { entries.reduce(0) { $0 + $1.shape.reduce(1, *) } }

  /// Adds a tensor; `converted` is left out where both schemes agree.
  mutating func add(_ name: String, converted: String? = nil, _ shape: [Int], keepsLastRows: Bool = false) {
    entries.append(
      Entry(name: name, converted: converted ?? name, shape: shape, keepsLastRows: keepsLastRows))
  }

  /// Adds `name.weight` and, unless told otherwise, `name.bias` as long as the weight's first extent.
  mutating func addLayer(_ name: String, converted: String? = nil, _ shape: [Int], bias: Bool = true) {
    add(name + ".weight", converted: converted.map { $0 + ".weight" }, shape)
    if bias { add(name + ".bias", converted: converted.map { $0 + ".bias" }, [shape[0]]) }
  }

  /// The weights of `source`, all there, in the right shapes and nothing else. The scheme is the one that knows more of
  /// the file's names.
  ///
  /// - Throws: ``ModelError/weights(module:label:missing:extra:misshapen:)``
  func check(_ source: any WeightSource) throws -> CheckedWeights {
    let known = Dictionary(entries.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    let converted = Dictionary(entries.map { ($0.converted, $0.name) }, uniquingKeysWith: { first, _ in first })
    let names = source.names.map(stripped)
    let isConverted = names.count { converted[$0] != nil } > names.count { known[$0] != nil }
    var expected = known.mapValues(\.shape)
    for entry in entries where entry.keepsLastRows {
      guard let found = source.shape(of: isConverted ? entry.converted : entry.name) else { continue }
      if found.dropFirst() == entry.shape.dropFirst(), found[0] > entry.shape[0] { expected[entry.name] = found }
    }
    do {
      return try CheckedWeights(source, module: module, expected: expected) { stored in
        let stored = stripped(stored)
        guard isConverted else { return stored }
        return ignored.contains(stored) ? nil : converted[stored] ?? stored
      }
    } catch ModelError.weights(let module, let label, let missing, let extra, let misshapen) where isConverted {
      // What is missing is best called by the names of that file.
      let ofFile = missing.map { item in
        let name = String(item.prefix { $0 != " " })
        return (known[name]?.converted ?? name) + item.dropFirst(name.count)
      }
      throw ModelError.weights(module: module, label: label, missing: ofFile, extra: extra, misshapen: misshapen)
    }
  }
  /// A stored name without wrappers.
  private func stripped(_ name: String) -> String {
    var rest = name[...]
    if let prefix = prefixes.first(where: { name.hasPrefix($0) }) { rest = rest.dropFirst(prefix.count) }
    return infixes.reduce(String(rest)) { $0.replacing($1, with: "") }
  }
}
