import Compute
import Tensors
import Testing
import WanModel

@Suite("A checkpoint that does not fit")
struct WeightProblemTests {
  // A checkpoint of a tiny autoencoder without one tensor, with one too many and with one of another shape.
  private func broken() throws -> (TinyVAEConfiguration, WeightDictionary) {
    var weights = try Fixture("taehv-a").weights()
    let configuration = TinyVAEConfiguration(shapesOf: weights)
    weights.tensors["decoder.3.conv.2.bias"] = nil
    weights.tensors["decoder.99.weight"] = Tensor([1 as Float], shape: [1])
    weights.tensors["encoder.17.bias"] = Tensor([1 as Float, 2], shape: [2])
    return (configuration, weights)
  }

  @Test("is refused in one line that lists all tensors at fault, their found and wanted shapes, and the file")
  func listsEverything() throws {
    let (configuration, weights) = try broken()
    do {
      _ = try TinyVAE(configuration, weights: weights, on: ReferenceBackend())
      Issue.record("it was accepted")
    } catch let error as ModelError {
      guard case .weights(_, let label, let missing, let extra, let misshapen) = error else { throw error }
      #expect(label == "taehv-a")
      #expect(missing == ["decoder.3.conv.2.bias [20]"])
      #expect(extra == ["decoder.99.weight"])
      #expect(misshapen == ["encoder.17.bias (found [2], wanted [16])"])
      #expect(!"\(error)".contains("\n"))
      for part in ["taehv-a", "decoder.3.conv.2.bias [20]", "decoder.99.weight", "found [2], wanted [16]"] {
        #expect("\(error)".contains(part))
      }
    }
  }

  @Test("under the names of diffusers calls what is missing by such a name")
  func missingUnderConvertedNames() throws {
    let fixture = try Fixture("wanvae-a")
    var weights = try fixture.weights()
    weights.tensors["decoder.conv_in.bias"] = nil
    let configuration = try fixture.configuration(WanVAEConfiguration.init(path:))
    #expect {
      try WanVAE(configuration, weights: weights, on: ReferenceBackend())
    } throws: { error in
      "\(error)".contains("1 missing: decoder.conv_in.bias [16]")
    }
  }

  @Test("with a growth layer that could also double time is accepted, one with too few channels is not")
  func growthInTime() throws {
    var weights = try Fixture("taehv-b").weights()
    let configuration = TinyVAEConfiguration(shapesOf: weights)
    #expect(weights.shape(of: "decoder.7.conv.weight") == [20, 10, 1, 1], "the fixture has twice the channels")
    _ = try TinyVAE(configuration, weights: weights, on: ReferenceBackend())
    weights.tensors["decoder.7.conv.weight"] = Tensor([Float](repeating: 0, count: 90), shape: [9, 10, 1, 1])
    #expect {
      try TinyVAE(configuration, weights: weights, on: ReferenceBackend())
    } throws: { error in
      "\(error)".contains("decoder.7.conv.weight (found [9, 10, 1, 1], wanted [10, 10, 1, 1])")
    }
  }

  @Test("may hold the shared embedding twice")
  func embeddingTwice() throws {
    let fixture = try Fixture("umt5-a")
    var weights = try fixture.weights()
    weights.tensors["encoder.embed_tokens.weight"] = weights.tensors["shared.weight"]
    _ = try UMT5Encoder(
      fixture.configuration(UMT5Configuration.init(path:)), weights: weights, on: ReferenceBackend())
  }
}
