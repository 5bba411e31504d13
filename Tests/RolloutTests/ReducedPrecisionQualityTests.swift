import Compute
import Foundation
import Rollout
import Tensors
import Testing
import WanModel

/// How far the shipped model's first chunk in bf16 and int8 is from its first chunk in float32, with the same noise.
@Suite struct ReducedPrecisionQualityTests {
  private func firstChunk(_ precision: Precision, seed: UInt64) async throws -> [Float] {
    let model = try ShippedModel()
    let backend = CPUBackend(threads: 2, precision: precision)
    let transformer = try model.folder.loadTransformer(on: backend)
    let rollout = try Rollout(
      transformer: transformer, text: model.context(transformer, on: backend), noise: CounterNoise(seed: seed),
      settings: model.settings(latentFrames: 3), on: backend)
    let chunk = try #require(try await rollout.next())
    return backend.download(try model.folder.loadDecoder(on: backend).decode(chunk.latents)).floats()
  }

  // Four steps from noise are not continuous everywhere: where a noise stands between two pictures, rounding decides. So the
  // middle of three seeds is judged, and the worst more mildly.
  @Test("bf16 keeps 40 dB and int8 keeps 30 dB of float32's frames", .enabled(if: Precision.int8.isSupported))
  func reducedPrecisionKeepsTheFrames() async throws {
    let seeds: [UInt64] = [3, 4, 5]
    var exact: [[Float]] = []
    for seed in seeds { exact.append(try await firstChunk(.f32, seed: seed)) }
    for (precision, middle, least) in [(Precision.bf16, 40.0, 35.0), (.int8, 30, 25)] {
      var decibels: [Double] = []
      for (seed, frames) in zip(seeds, exact) {
        let rounded = try await firstChunk(precision, seed: seed)
        let error = zip(rounded, frames).reduce(0.0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
        decibels.append(10 * log10(Double(frames.count) / error))
        print("quality of the first chunk in \(precision.rawValue), seed \(seed): PSNR \(decibels.last ?? 0) dB")
      }
      decibels.sort()
      #expect(decibels[1] >= middle && decibels[0] >= least, "\(precision.rawValue): \(decibels) dB")
      // A test that compares float32 with itself would see infinity.
      #expect(decibels[2] < 100)
    }
  }
}
