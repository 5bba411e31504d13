import Foundation
import Tensors

/// A plain reader of one safetensors file, until the one of `Tensors` is there.
struct TensorArchive: WeightSource {
  let label: String
  let metadata: [String: String]
  private let entries: [String: Entry]
  private let data: Data

  private struct Entry: Decodable {
    let dtype: String
    let shape: [Int]
    let range: [Int]
    enum CodingKeys: String, CodingKey {
      case dtype
      case shape
      case range = "data_offsets"
    }
  }

  init(url: URL) throws {
    label = url.path
    data = try Data(contentsOf: url, options: .mappedIfSafe)
    let length = data.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
    let header = try JSONSerialization.jsonObject(with: data.subdata(in: 8..<8 + length)) as? [String: Any] ?? [:]
    metadata = header["__metadata__"] as? [String: String] ?? [:]
    let tensors = try JSONSerialization.data(withJSONObject: header.filter { $0.key != "__metadata__" })
    entries = try JSONDecoder().decode([String: Entry].self, from: tensors)
      .mapValues { Entry(dtype: $0.dtype, shape: $0.shape, range: $0.range.map { $0 + 8 + length }) }
  }

  var names: [String] { entries.keys.sorted() }
  func shape(of name: String) -> [Int]? { entries[name]?.shape }
  func tensor(_ name: String) throws -> Tensor {
    guard let entry = entries[name], let dtype = DType(rawValue: entry.dtype.lowercased()) else {
      return try WeightDictionary([:], label: label).tensor(name)
    }
    return Tensor(dtype: dtype, shape: entry.shape) { memory in
      data.copyBytes(to: memory, from: entry.range[0]..<entry.range[1])
    }
  }
}
