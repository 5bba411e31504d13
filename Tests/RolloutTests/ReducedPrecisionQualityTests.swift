import Compute
import Foundation
import Rollout
import Tensors
import Testing
import WanModel

/// How far the shipped model's first chunk in bf16 and int8 is from its first chunk in float32, with the same noise.
@Suite struct ReducedPrecisionQualityTests {
  private func firstChunk(_ precision: Precision) async throws -> [Float] {
    let model = try ShippedModel()
    let backend = CPUBackend(threads: 2, precision: precision)
    let transformer = try model.folder.loadTransformer(on: backend)
    let rollout = try Rollout(
      transformer: transformer, text: model.context(transformer, on: backend), noise: CounterNoise(seed: 3),
      settings: model.settings(latentFrames: 3), on: backend)
    let chunk = try #require(try await rollout.next())
    return backend.download(try model.folder.loadDecoder(on: backend).decode(chunk.latents)).floats()
  }

  @Test("bf16 keeps 40 dB and int8 keeps 30 dB of float32's frames", .enabled(if: Precision.int8.isSupported))
  func reducedPrecisionKeepsTheFrames() async throws {
    let exact = try await firstChunk(.f32)
    for (precision, least) in [(Precision.bf16, 40.0), (.int8, 30)] {
      let frames = try await firstChunk(precision)
      let error = zip(frames, exact).reduce(0.0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
      let decibels = 10 * log10(Double(exact.count) / error)
      print("quality of the first chunk in \(precision.rawValue): PSNR \(decibels) dB against float32")
      #expect(decibels >= least, "\(precision.rawValue): \(decibels) dB")
      // A test that compares float32 with itself would see infinity.
      #expect(decibels < 100)
    }
  }
}
