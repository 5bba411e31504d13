import Compute
import Foundation
import Rollout
import Tensors
import Testing

/// Against diffusers' schedulers (tools/fixtures/samplers.py).
@Suite struct ClipSamplerTests {
  struct Fixture: Decodable {
    struct Case: Decodable {
      let sampler: String
      let steps: Int
      let shift: Double
      let sigmas, timesteps: [Double]
      let samples: [[Double]]
    }
    let initial: [Double]
    let cases: [Case]

    init() throws {
      let path = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "Fixtures/samplers.json")
      self = try JSONDecoder().decode(Fixture.self, from: Data(contentsOf: path))
    }
  }

  @Test("Each step of both samplers is that of diffusers") func eachStepOfBothSamplersIsThat() throws {
    let fixture = try Fixture()
    let backend = ReferenceBackend()
    #expect(fixture.cases.count == 14)
    for c in fixture.cases {
      var sampler = try ClipSampler(#require(ClipSampler.Kind(rawValue: c.sampler)), steps: c.steps, shift: c.shift)
      let name = "\(c.sampler), \(c.steps) steps, shift \(c.shift)"
      for (a, b) in zip(sampler.sigmas, c.sigmas) { #expect(abs(a - b) < 1e-6, "\(name): sigma \(a), wanted \(b)") }
      // diffusers computes Euler's levels in float32.
      for (a, b) in zip(sampler.timesteps, c.timesteps) {
        #expect(abs(a - b) < (c.sampler == "unipc" ? 1e-9 : 3e-4), "\(name): timestep \(a), wanted \(b)")
      }
      #expect(sampler.sigmas.count == c.steps && sampler.timesteps.count == c.steps)
      var x = backend.upload(Tensor(fixture.initial.map { Float($0) }, shape: [fixture.initial.count]))
      for (step, wanted) in c.samples.enumerated() {
        let t = sampler.timesteps[step]
        let flow = backend.download(x).floats().map { Float(sin(3 * Double($0) + t / 500) + 0.3 * Double($0)) }
        x = sampler.advance(x, flow: backend.upload(Tensor(flow, shape: [flow.count])), on: backend)
        for (a, b) in zip(backend.download(x).floats(), wanted) {
          #expect(abs(Double(a) - b) < 2e-5, "\(name), step \(step): \(a), wanted \(b)")
        }
      }
      #expect(sampler.isFinished)
    }
  }

  @Test(
    "The whole timesteps of 50 steps are Wan's",
    arguments: [
      (5.0, [999.0, 995, 991, 987, 982, 978], [302.0, 241, 172, 92]),
      (3.0, [999, 992, 985, 978, 971, 963], [206, 160, 111, 57]),
    ])
  func theWholeTimestepsOf50StepsAre(shift: Double, first: [Double], last: [Double]) throws {
    let sampler = try ClipSampler(.unipc, steps: 50, shift: shift)
    #expect(Array(sampler.timesteps.prefix(6)) == first && Array(sampler.timesteps.suffix(4)) == last)
  }

  @Test("Euler's grid of four is the shifted quarter steps") func eulersGridOfFourIsTheShifted() throws {
    let sampler = try ClipSampler(.euler, steps: 4, shift: 5)
    for (a, b) in zip(sampler.timesteps, [1000, 937.5, 833.3333333, 625]) { #expect(abs(a - b) < 1e-6) }
  }

  @Test("A straight flow is followed to its end by both") func aStraightFlowIsFollowedToIts() throws {
    let backend = ReferenceBackend()
    for kind in ClipSampler.Kind.allCases {
      var sampler = try ClipSampler(kind, steps: 7, shift: 3)
      let (clean, noise): (Float, Float) = (0.3, -1.2)
      let start = Float(sampler.sigmas[0])
      var x = backend.upload(Tensor([(1 - start) * clean + start * noise], shape: [1]))
      let flow = backend.upload(Tensor([noise - clean], shape: [1]))
      while !sampler.isFinished { x = sampler.advance(x, flow: flow, on: backend) }
      let end = backend.download(x).floats()[0]
      #expect(abs(end - clean) < 1e-5, "\(kind): \(end)")
    }
  }

  @Test("Impossible grids are refused") func impossibleGridsAreRefused() {
    #expect(throws: RolloutError.settings("0 steps; 1 to 1000 are possible")) {
      try ClipSampler(.euler, steps: 0, shift: 5)
    }
    #expect(throws: RolloutError.self) { try ClipSampler(.unipc, steps: 1001, shift: 5) }
    #expect(throws: RolloutError.self) { try ClipSampler(.unipc, steps: 10, shift: 0) }
  }
}
