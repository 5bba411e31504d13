import Compute
import Foundation
import Tensors
import Testing
import WanModel

/// Reference values in `Tests/Fixtures`, made by `tools/make-fixtures` from the published Python classes.
struct Fixture {
  let name: String
  private let archive: TensorArchive

  init(_ name: String) throws {
    self.name = name
    archive = try TensorArchive(url: Self.repository.appending(path: "Tests/Fixtures/\(name).safetensors"))
  }

  static let repository = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  /// An input or an expected output.
  func tensor(_ name: String) throws -> Tensor { try archive.tensor(name) }

  /// The model's weights, as a checkpoint would hold them.
  func weights() throws -> WeightDictionary {
    let prefix = "weights."
    let named = try archive.names.filter { $0.hasPrefix(prefix) }
      .map { (String($0.dropFirst(prefix.count)), try archive.tensor($0)) }
    return WeightDictionary(Dictionary(uniqueKeysWithValues: named), label: name)
  }

  /// The file itself, where it stands for a checkpoint.
  func checkpoint() -> any WeightSource { archive }

  /// What the metadata says.
  func metadata(_ key: String) throws -> String { try #require(archive.metadata[key]) }

  /// The class's configuration, read from a file.
  func configuration<Value>(_ read: (String) throws -> Value) throws -> Value {
    try withTemporaryFile(metadata("config"), read)
  }

  /// A file of the shipped model.
  static func shipped(_ path: String) throws -> TensorArchive { try TensorArchive(url: shippedURL(path)) }
  static func shippedURL(_ path: String) -> URL { repository.appending(path: "weights/default/\(path)") }
}

/// Gives `body` the path of a file that holds `text`, for as long as it runs.
func withTemporaryFile<Value>(_ text: String, _ body: (String) throws -> Value) throws -> Value {
  let url = FileManager.default.temporaryDirectory.appending(path: "longtake-\(UUID().uuidString).json")
  try Data(text.utf8).write(to: url)
  defer { try? FileManager.default.removeItem(at: url) }
  return try body(url.path)
}

/// Expects a configuration to be refused with an error that names the file and says `reason`.
func expectRefused(_ json: String, _ reason: String, by read: (String) throws -> Void) throws {
  try withTemporaryFile(json) { (path) -> Void in
    #expect {
      try read(path)
    } throws: { error in
      "\(error)".hasPrefix(path + ": ") && "\(error)".contains(reason)
    }
  }
}

/// The backends that must agree with the references.
enum TestBackend: String, CaseIterable, CustomTestStringConvertible {
  case cpu, reference

  func make() -> any Backend {
    switch self {
    case .cpu: CPUBackend(threads: 2)
    case .reference: ReferenceBackend()
    }
  }

  var testDescription: String { rawValue }
}

/// `|a - b| / |b|`, the measure of `docs/parity.md`.
func relativeL2(_ a: [Float], _ b: [Float]) -> Double {
  guard a.count == b.count else { return .infinity }
  var (difference, norm) = (0.0, 0.0)
  for (x, y) in zip(a, b) {
    difference += Double(x - y) * Double(x - y)
    norm += Double(y) * Double(y)
  }
  return norm == 0 ? difference.squareRoot() : (difference / norm).squareRoot()
}

/// Expects float32 parity: a relative L2 of at most 1e-4. Prints the value, which goes into `docs/parity.md`.
func expectParity(
  _ found: Tensor, _ wanted: Tensor, _ what: String, on backend: TestBackend,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  #expect(found.shape == wanted.shape, "\(what): shapes differ", sourceLocation: sourceLocation)
  let error = relativeL2(found.floats(), wanted.floats())
  print("parity \(what) [\(backend.rawValue)]: relative L2 \(error)")
  #expect(error <= 1e-4, "\(what): relative L2 is \(error)", sourceLocation: sourceLocation)
}

extension Backend {
  /// Pixels as files and references hold them, uint8 `[frames, 3, h, w]`, as an encoder takes them.
  func pixels(channelsFirst video: Tensor) -> DeviceTensor {
    channelsLast(upload(Tensor(video.floats().map { $0 / 255 }, shape: video.shape)))
  }
}
