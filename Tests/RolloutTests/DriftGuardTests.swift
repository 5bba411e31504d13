import Compute
import Rollout
import SparseAttention
import Tensors
import Testing
import WanModel

/// What is done against drift: limits of the latents' statistics, noise in what is remembered.
@Suite struct DriftGuardTests {
  /// Mean and standard deviation of each channel of `[frames, channels, h, w]`.
  private func statistics(_ x: Tensor) -> [(mean: Double, deviation: Double)] {
    let (values, plane) = (x.floats(), x.shape[2] * x.shape[3])
    return (0..<x.shape[1]).map { channel in
      let numbers = (0..<x.shape[0]).flatMap { frame -> [Double] in
        let start = (frame * x.shape[1] + channel) * plane
        return values[start..<start + plane].map { Double($0) }
      }
      let mean = numbers.reduce(0, +) / Double(numbers.count)
      let variance = numbers.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(numbers.count)
      return (mean, variance.squareRoot())
    }
  }

  @Test("Statistics stay within the limit of those of the first chunks, which are left alone")
  func statisticsStayWithinTheLimit() {
    let backend = CPUBackend(threads: 1)
    let shape = [3, 5, 7, 9]
    let noise = CounterNoise(seed: .random(in: 0...1 << 40))
    func chunk(_ i: Int, scale: Float, shift: Float) -> Tensor {
      let plain = noise.normals(.initial, chunk: i, step: 0, shape: shape)
      return Tensor(plain.floats().map { scale * $0 + shift }, shape: shape)
    }
    for limit in [0, 0.25, 1] {
      var latentGuard = LatentGuard(limit: limit, chunks: 2)
      let first = (0..<2).map { chunk($0, scale: 1, shift: 0.5) }
      for x in first {
        #expect(backend.download(latentGuard.apply(backend.upload(x), on: backend)).floats() == x.floats())
      }
      let both = statistics(Tensor(first.flatMap { $0.floats() }, shape: [6, 5, 7, 9]))
      for (i, (scale, shift)) in [(Float(3), Float(4)), (0.1, -3), (1, 0.5)].enumerated() {
        let x = chunk(2 + i, scale: scale, shift: shift)
        let out = backend.download(latentGuard.apply(backend.upload(x), on: backend))
        let (before, after) = (statistics(x), statistics(out))
        for c in 0..<5 {
          let (m, s) = both[c]
          let mean = min(max(before[c].mean, m - limit * s), m + limit * s)
          let deviation = min(max(before[c].deviation, s / (1 + limit)), s * (1 + limit))
          #expect(abs(after[c].mean - mean) < 1e-4, "limit \(limit): \(after[c]), \(before[c]), \(both[c])")
          #expect(abs(after[c].deviation - deviation) < 1e-4, "limit \(limit): \(after[c]), \(before[c]), \(both[c])")
        }
        if limit == 1, i == 2 { #expect(out.floats() == x.floats()) }
      }
    }
  }

  @Test("Guards act in a rollout, and a saved rollout goes on with them") func guardsActInARollout() async throws {
    let model = try ShippedModel()
    let backend = CPUBackend(threads: 2)
    let transformer = try model.folder.loadTransformer(on: backend)
    let path = "/tmp/longtake-guard-\(UInt64.random(in: 0...UInt64.max)).safetensors"
    func run(_ change: (inout RolloutSettings) -> Void, cut: Int? = nil) async throws -> [[Float]] {
      var settings = RolloutSettings(
        latentHeight: 8, latentWidth: 8, latentFrames: 21, schedule: try FlowSchedule(nominal: [1000, 500], shift: 5),
        recipe: .selfForcing(window: 9))
      change(&settings)
      func rollout(from state: SavedState?) throws -> Rollout {
        try Rollout(
          transformer: transformer, text: model.context(transformer, on: backend), noise: CounterNoise(seed: 3),
          settings: settings, from: state, on: backend)
      }
      guard let cut else { return try await rollout(from: nil).latents(on: backend) }
      let first = try rollout(from: nil)
      var found: [[Float]] = []
      while found.count < cut, let chunk = try await first.next() {
        found.append(backend.download(chunk.latents).floats())
      }
      _ = try await first.save(to: path)
      return found + (try await rollout(from: SavedState(path: path)).latents(on: backend))
    }
    let plain = try await run { _ in }
    let clamped = try await run { $0.latentGuard = LatentGuard(limit: 0, chunks: 2) }
    #expect(clamped[0] == plain[0] && clamped[1] == plain[1] && clamped[2] != plain[2])
    for cut in [1, 5] {
      #expect(try await run({ $0.latentGuard = LatentGuard(limit: 0, chunks: 2) }, cut: cut) == clamped)
    }
    let noisy = try await run { ($0.contextTimestep, $0.contextNoise) = (100, 0.1) }
    #expect(noisy[0] == plain[0] && noisy[1] != plain[1] && noisy.joined().allSatisfy(\.isFinite))
    #expect(try await run({ ($0.contextTimestep, $0.contextNoise) = (100, 0.1) }, cut: 3) == noisy)
    #expect(try await run { $0.latentGuard = LatentGuard(limit: 1e9) } == plain)
  }
}
