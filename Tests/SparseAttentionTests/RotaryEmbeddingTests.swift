import Compute
import SparseAttention
import Tensors
import Testing

@Suite struct RotaryEmbeddingTests {
  @Test("128 channels split into 44 for time and 42 for each side") func n128ChannelsSplitInto44ForTime() {
    let rotation = RotaryEmbedding(headDim: 128)
    #expect(rotation.temporalChannels == 44 && rotation.spatialChannels == 42)
  }

  @Test("The frequencies are those of the published tables") func theFrequenciesAreThoseOfThePublished() {
    // cos and sin of position 1 are those of the frequency itself; golden numbers of Wan's tables.
    let backend = CPUBackend(threads: 1)
    let rotary = RotaryEmbedding(headDim: 128).rotary(
      [TokenPosition(frame: 0, row: 1, column: 0)], framePositions: [1], on: backend)
    let sines = backend.download(rotary.sines).floats()
    let golden: [(Int, Double)] = [
      (0, 1), (1, 0.65793322), (2, 0.43287613), (3, 0.28480359), (21, 1.5199111e-4), (22, 1), (23, 0.64494668),
      (24, 0.41595622), (25, 0.26826953), (42, 1.5505158e-4), (43, 0), (63, 0),
    ]
    for (pair, frequency) in golden { #expect(abs(Double(sines[pair]) - frequency.sine) < 1e-7, "pair \(pair)") }
  }

  @Test(
    "Logits depend on differences of positions alone, past 1024 frames too", arguments: [0, 1000, 1023, 1024, 100_000])
  func logitsDependOnDifferencesOfPositionsAlone(offset: Int) {
    let backend = CPUBackend(threads: 1)
    let rotation = RotaryEmbedding(headDim: 44)
    let ones = backend.upload(Tensor([Float](repeating: 1, count: 44), shape: [44]))
    let x = Tensor((0..<88).map { Float(($0 * 37) % 23) / 11 - 1 }, shape: [2, 44])
    func logit(_ frames: [Int]) -> Double {
      let tokens = [TokenPosition(frame: 0, row: 3, column: 1), TokenPosition(frame: 1, row: 0, column: 4)]
      let rotary = rotation.rotary(tokens, framePositions: frames, on: backend)
      let rows = backend.download(backend.rmsNorm(backend.upload(x), epsilon: 1e-6, weight: ones, rotary: rotary))
        .floats()
      return zip(rows[..<44], rows[44...]).map { Double($0) * Double($1) }.reduce(0, +)
    }
    #expect(abs(logit([offset, offset + 7]) - logit([0, 7])) < 1e-5)
    #expect(abs(logit([offset, offset + 7]) - logit([0, 8])) > 1e-3)
  }
}

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

extension Double {
  fileprivate var sine: Double { sin(self) }
}
