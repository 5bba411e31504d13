import Compute
import Foundation
import Tensors
import Testing
import WanModel

@Suite("The text encoder")
struct UMT5EncoderTests {
  @Test(
    "agrees with transformers.UMT5EncoderModel under both naming schemes",
    arguments: ["umt5-a", "umt5-b"], TestBackend.allCases)
  func agreesWithTransformers(name: String, kind: TestBackend) throws {
    let fixture = try Fixture(name)
    let backend = kind.make()
    let configuration = try fixture.configuration(UMT5Configuration.init(path:))
    let weights = try fixture.weights()
    #expect((weights.tensors["token_embedding.weight"] != nil) == (name == "umt5-b"), "the fixtures' schemes differ")
    let keeping = try UMT5Encoder(configuration, weights: weights, on: backend)
    let dropping = try UMT5Encoder(configuration, weights: weights, on: backend, keepsWeights: false)
    for length in [1, 7, 150] {
      let ids = try fixture.tensor("ids.\(length)").integers().map(Int32.init)
      let rows = backend.download(try keeping.encode(ids: ids))
      expectParity(rows, try fixture.tensor("rows.\(length)"), "UMT5EncoderModel \(name), \(length) tokens", on: kind)
      #expect(backend.download(try dropping.encode(ids: ids)).floats() == rows.floats())
    }
  }

  @Test("of the shipped model gives its reference rows", arguments: TestBackend.allCases)
  func agreesWithShippedModel(kind: TestBackend) throws {
    let configuration = try UMT5Configuration(path: Fixture.shippedURL("text_encoder/config.json").path)
    let backend = kind.make()
    let encoder = try UMT5Encoder(
      configuration, weights: Fixture.shipped("text_encoder/model.safetensors"), on: backend)
    let reference = try Fixture.shipped("reference.safetensors")
    let ids = try reference.tensor("token_ids").integers().map(Int32.init)
    let rows = backend.download(try encoder.encode(ids: ids))
    expectParity(rows, try reference.tensor("text_rows"), "UMT5EncoderModel shipped", on: kind)
  }

  @Test("sorts distances into the buckets of UMT5")
  func buckets() {
    let bucket = RelativePositionBuckets(buckets: 32, maxDistance: 128)
    // The first distance of each bucket, as T5's formula gives them.
    let first = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91]
    for distance in 0...600 {
      let wanted = (first.lastIndex { $0 <= distance }) ?? 0
      #expect(bucket(-distance) == wanted)
      #expect(bucket(distance) == (distance == 0 ? 0 : wanted + 16))
    }
  }

  @Test("refuses a token that its embedding has no row for")
  func tokenOutOfRange() throws {
    let fixture = try Fixture("umt5-a")
    let configuration = try fixture.configuration(UMT5Configuration.init(path:))
    let encoder = try UMT5Encoder(configuration, weights: fixture.weights(), on: ReferenceBackend())
    for ids in [[5, 120], [-1]] as [[Int32]] {
      #expect {
        try encoder.encode(ids: ids)
      } throws: { error in
        "\(error)".contains("token \(ids.last ?? 0) has no row in the embedding of 120 rows")
      }
    }
  }

  @Test("asks for the 242 tensors and the parameters of UMT5-XXL")
  func sizeOfXXL() {
    let table = UMT5Configuration().weightTable
    #expect(table.entries.count == 242)
    #expect(table.parameters == 5_680_910_336)
  }

  @Test(
    "refuses configurations that it cannot run, by file and reason",
    arguments: [
      (#"{"model_type": "t5"}"#, "umt5"), (#"{"feed_forward_proj": "relu"}"#, "gated-gelu"),
      (#"{"num_heads": 0}"#, "num_heads"), (#"{"num_layers": "x"}"#, "num_layers"), ("{", "JSON"),
      (#"{"d_model": 99999999999}"#, "d_model"), (#"{"relative_attention_num_buckets": 3}"#, "buckets"),
    ])
  func badConfiguration(json: String, reason: String) throws {
    try expectRefused(json, reason) { _ = try UMT5Configuration(path: $0) }
  }
}
