import Foundation
import Tensors
import Testing

@Suite("Counter-based noise")
struct CounterNoiseTests {
  @Test("Philox 4x32-10 gives the known answers of Random123")
  func philox() {
    // kat_vectors of Random123: counter, key, result.
    let all: UInt32 = 0xFFFF_FFFF
    let vectors: [(SIMD4<UInt32>, (UInt32, UInt32), SIMD4<UInt32>)] = [
      (SIMD4(0, 0, 0, 0), (0, 0), SIMD4(0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8)),
      (SIMD4(all, all, all, all), (all, all), SIMD4(0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd)),
      (
        SIMD4(0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344), (0xa409_3822, 0x299f_31d0),
        SIMD4(0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1)
      ),
    ]
    for (counter, key, wanted) in vectors { #expect(Philox.words(counter: counter, key: key) == wanted) }
  }

  @Test("The mapping from words to normals stays what it is: these values are those of old runs")
  func frozen() {
    var noise = CounterNoise(seed: 1234)
    let first = noise.initial(chunk: 0, frames: 1, channels: 1, height: 1, width: 5).floats()
    let second = noise.renoise(chunk: 2, step: 1, frames: 1, channels: 1, height: 1, width: 5).floats()
    // Made by a second implementation, in Python.
    let wanted: [Float] = [
      1.2291553, -1.6164905, 0.4646211, -1.5605406, 0.7433671,
      0.0608328, 1.8282942, -0.2033542, 0.4328379, 0.8999981,
    ]
    for (found, wanted) in zip(first + second, wanted) { #expect(abs(found - wanted) < 1e-6) }
  }

  @Test("A draw depends on seed, chunk, step and purpose alone, not on what was drawn before")
  func anyOrder() {
    var a = CounterNoise(seed: 7)
    var b = CounterNoise(seed: 7)
    let forwards = (0..<4).map { a.renoise(chunk: $0, step: 1, frames: 3, channels: 2, height: 4, width: 5).floats() }
    let backwards = (0..<4).reversed().map {
      b.renoise(chunk: $0, step: 1, frames: 3, channels: 2, height: 4, width: 5).floats()
    }
    #expect(forwards == Array(backwards.reversed()))
    let others = [
      a.initial(chunk: 1, frames: 3, channels: 2, height: 4, width: 5).floats(),
      a.renoise(chunk: 1, step: 2, frames: 3, channels: 2, height: 4, width: 5).floats(),
      CounterNoise(seed: 8).normals(.renoise, chunk: 1, step: 1, shape: [3, 2, 4, 5]).floats(),
      CounterNoise(seed: 7 | 1 << 32).normals(.renoise, chunk: 1, step: 1, shape: [3, 2, 4, 5]).floats(),
      forwards[0],
    ]
    for other in others { #expect(Set(other).isDisjoint(with: forwards[1])) }
  }

  @Test("Any count is the beginning of a longer one")
  func prefixes() {
    let noise = CounterNoise(seed: 3)
    let long = noise.normals(.initial, chunk: 5, step: 0, shape: [64]).floats()
    for n in 0..<20 {
      #expect(noise.normals(.initial, chunk: 5, step: 0, shape: [n]).floats() == Array(long[..<n]))
    }
  }

  @Test("A million numbers have the moments and the tails of the standard normal, and no correlation")
  func moments() {
    let n = 1 << 20
    let x = CounterNoise(seed: 99).normals(.initial, chunk: 3, step: 0, shape: [n]).floats().map(Double.init)
    func mean(_ values: some Collection<Double>) -> Double { values.reduce(0, +) / Double(values.count) }
    // Five standard errors each.
    let error = 5 / Double(n).squareRoot()
    #expect(abs(mean(x)) < error)
    #expect(abs(mean(x.map { $0 * $0 }) - 1) < error * 2.0.squareRoot())
    #expect(abs(mean(x.map { $0 * $0 * $0 })) < error * 15.0.squareRoot())
    #expect(abs(mean(x.map { $0 * $0 * $0 * $0 }) - 3) < error * 96.0.squareRoot())
    for lag in [1, 2, 3, 4, 8, 640] { #expect(abs(mean(zip(x, x.dropFirst(lag)).map { $0 * $1 })) < error, "\(lag)") }
    for (limit, probability) in [(1.0, 0.317311), (2, 0.045500), (3, 0.0026998)] {
      let found = Double(x.count { abs($0) > limit }) / Double(n)
      #expect(abs(found - probability) < error * probability.squareRoot(), "\(limit): \(found)")
    }
    #expect(x.allSatisfy { abs($0) < 6.8 })
  }

  @Test("It can be written and read")
  func codable() throws {
    let noise = CounterNoise(seed: .max)
    #expect(try JSONDecoder().decode(CounterNoise.self, from: JSONEncoder().encode(noise)) == noise)
  }
}

@Suite("PyTorch's noise on the CPU")
struct TorchNoiseTests {
  /// `Tests/Fixtures/torch-noise.json`, made by `tools/fixtures/noise.py`.
  struct Fixture: Decodable {
    struct Case: Decodable {
      let seed: UInt64
      let counts: [Int]
      let draws: [[Float]]
      init(from decoder: any Decoder) throws {
        var values = try decoder.unkeyedContainer()
        seed = try values.decode(UInt64.self)
        counts = try values.decode([Int].self)
        draws = try values.decode([[Float]].self)
      }
    }
    struct Bits: Decodable {
      let seed: UInt64
      let words: [UInt32]
      init(from decoder: any Decoder) throws {
        var values = try decoder.unkeyedContainer()
        seed = try values.decode(UInt64.self)
        words = try values.decode([UInt32].self)
      }
    }
    let bits: [Bits]
    let cases: [Case]
  }

  let fixture: Fixture

  init() throws {
    let url = URL(filePath: repository + "/Tests/Fixtures/torch-noise.json")
    fixture = try JSONDecoder().decode(Fixture.self, from: Data(contentsOf: url))
  }

  @Test("The integer stream is PyTorch's, word for word")
  func bits() {
    for entry in fixture.bits {
      var generator = TorchGenerator(seed: entry.seed)
      // The fixture holds the second word of each of 700 pairs: the first eight and the last eight.
      let words = (0..<1400).map { _ in generator.bits() }.enumerated().filter { $0.offset % 2 == 1 }.map(\.element)
      #expect(Array(words[..<8] + words[692...]) == entry.words, "seed \(entry.seed)")
      var skipped = TorchGenerator(seed: entry.seed)
      skipped.skip(1399)
      #expect(skipped.bits() == words[699])
    }
    var standard = TorchGenerator(seed: 5489)
    standard.skip(9999)
    #expect(standard.bits() == 4_123_659_995, "the 10,000th word that the C++ standard prescribes")
  }

  @Test("Normals are PyTorch's within 1e-6, above and below 16 elements, in sequences of draws")
  func normals() {
    var worst: Float = 0
    for entry in fixture.cases {
      var generator = TorchGenerator(seed: entry.seed)
      for (count, wanted) in zip(entry.counts, entry.draws) {
        let all = generator.normals(count)
        let found = count <= 96 ? all : Array(all[..<64] + all[(count - 32)...])
        #expect(found.count == wanted.count)
        let difference = zip(found, wanted).map { abs($0 - $1) }.max() ?? 0
        #expect(difference <= 1e-6, "seed \(entry.seed), counts \(entry.counts)")
        worst = max(worst, difference)
      }
    }
    print("torch.randn: largest difference \(worst)")
  }

  @Test("The noise of the shipped reference values is reproduced, clip and re-noising")
  func reference() throws {
    let archive = try TensorArchive(path: repository + "/weights/default/reference.safetensors")
    let initial = try archive.tensor("initial_noise")
    let renoise = try archive.tensor("renoise")
    #expect(renoise.shape == [3, 3, 3, 16, 20, 32])
    var noise = TorchNoise(seed: 20_240_611, totalFrames: 9, channels: 16, height: 20, width: 32)
    var clip: [Float] = []
    var fresh: [Float] = []
    for chunk in 0..<3 {
      clip += try noise.initial(chunk: chunk, frames: 3, channels: 16, height: 20, width: 32).floats()
      for step in 0..<3 {
        // Written and read between any two calls, it goes on as if nothing had happened.
        noise = try JSONDecoder().decode(TorchNoise.self, from: JSONEncoder().encode(noise))
        fresh += try noise.renoise(chunk: chunk, step: step, frames: 3, channels: 16, height: 20, width: 32).floats()
      }
    }
    for (name, found, wanted) in [("initial_noise", clip, initial), ("renoise", fresh, renoise)] {
      #expect(found.count == wanted.count)
      let difference = zip(found, wanted.floats()).map { abs($0 - $1) }.max() ?? .infinity
      print("\(name): largest difference \(difference)")
      #expect(difference <= 1e-6)
    }
  }

  @Test("A clip read in chunks is the clip drawn at once, whatever the sizes; re-noising goes on behind it")
  func portions() throws {
    for (frames, elements) in [
      (4, 4), (3, 5), (5, 3), (9, 16), (9, 7), (12, 33), (6, 24), (21, 40), (1, 15), (1, 16), (1, 17),
    ] {
      for portion in [1, 2, 3, 5] where frames % portion == 0 {
        var generator = TorchGenerator(seed: 5)
        let whole = generator.normals(frames * elements)
        let after = generator.normals(portion * elements)
        var noise = TorchNoise(seed: 5, totalFrames: frames, channels: 1, height: 1, width: elements)
        let read = try (0..<frames / portion).flatMap {
          try noise.initial(chunk: $0, frames: portion, channels: 1, height: 1, width: elements).floats()
        }
        #expect(read == whole, "\(frames) x \(elements) by \(portion)")
        let fresh = try noise.renoise(chunk: 0, step: 0, frames: portion, channels: 1, height: 1, width: elements)
        #expect(fresh.floats() == after, "\(frames) x \(elements) by \(portion)")
      }
    }
  }

  @Test("Chunks and steps out of order, frames past the clip and other shapes are refused")
  func order() throws {
    var noise = TorchNoise(seed: 5, totalFrames: 6, channels: 2, height: 4, width: 4)
    #expect(throws: TorchNoise.OrderError.self) {
      try noise.initial(chunk: 1, frames: 3, channels: 2, height: 4, width: 4)
    }
    #expect(throws: TorchNoise.OrderError.self) {
      try noise.initial(chunk: 0, frames: 3, channels: 2, height: 4, width: 5)
    }
    _ = try noise.initial(chunk: 0, frames: 3, channels: 2, height: 4, width: 4)
    let error = #expect(throws: TorchNoise.OrderError.self) {
      try noise.initial(chunk: 1, frames: 4, channels: 2, height: 4, width: 4)
    }
    #expect(error?.description.contains("chunk 1 of 3 latent frames or fewer next; chunk 1 of 4") == true)
    _ = try noise.renoise(chunk: 0, step: 1, frames: 3, channels: 2, height: 4, width: 4)
    #expect(throws: TorchNoise.OrderError.self) {
      try noise.renoise(chunk: 0, step: 1, frames: 3, channels: 2, height: 4, width: 4)
    }
    _ = try noise.renoise(chunk: 1, step: 0, frames: 3, channels: 2, height: 4, width: 4)
  }
}
