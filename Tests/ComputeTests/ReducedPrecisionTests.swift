import Compute
import Tensors
import Testing

/// Products and convolutions in bf16 and in bytes against the reference on the same rounded numbers, and on one thread
/// against three: the same bytes.
@Suite struct ReducedPrecisionTests {
  private func rounded(_ x: Tensor) -> Tensor { x.converted(to: .bf16).converted(to: .f32) }

  /// Rows as bytes times a scale each, as the int8 path sees them.
  private func quantised(_ x: Tensor) -> Tensor {
    let width = x.shape[x.shape.count - 1]
    let values = x.floats()
    let out = values.indices.map { i -> Float in
      let row = values[i / width * width..<(i / width + 1) * width]
      let largest = row.reduce(0) { max($0, abs($1)) }
      if largest == 0 { return 0 }
      return (values[i] * (127 / largest)).rounded(.toNearestOrEven) * (largest / 127)
    }
    return Tensor(out, shape: x.shape)
  }

  /// Compares with the reference, which is given numbers that are rounded already.
  private func check(
    _ name: String, _ precision: Precision, tolerance: Double, seed: UInt64,
    reference: (any Backend) -> [DeviceTensor], fast: (any Backend) -> [DeviceTensor]
  ) {
    let judge = ReferenceBackend()
    let expected = reference(judge).map { judge.download($0) }
    let (one, three) = (CPUBackend(threads: 1, precision: precision), CPUBackend(threads: 3, precision: precision))
    let results = fast(one).map { one.download($0) }
    let again = fast(three).map { three.download($0) }
    for (i, wanted) in expected.enumerated() {
      let error = distance(results[i], wanted)
      #expect(error <= tolerance, "\(name)[\(i)] \(precision): relative error \(error), seed \(seed)")
      #expect(results[i].floats() == again[i].floats(), "\(name)[\(i)] depends on the number of threads, seed \(seed)")
    }
  }

  @Test(
    "Linear layers agree in bf16 and in bytes, with every activation and with gated residuals",
    .enabled(if: Precision.int8.isSupported), arguments: [Precision.bf16, .int8])
  func linearLayersAgreeInReducedPrecision(precision: Precision) {
    var random = RandomTensors()
    let sizes = [(1, 1, 7), (1, 37, 9), (131, 65, 33), (65, 48, 1601), (7, 300, 513), (64, 64, 64), (200, 384, 384)]
    for (rows, inputs, outputs) in sizes {
      let (x, w) = (random.tensor(rows, inputs), random.tensor([outputs, inputs], scale: 0.1))
      let (b, residual, table) = (random.tensor(outputs), random.tensor(rows, outputs), random.tensor(3, 6, outputs))
      let groups = (0..<rows).map { _ in Int32(random.integer(0...2)) }
      func run(_ x: Tensor, _ w: Tensor, _ backend: any Backend) -> [DeviceTensor] {
        let input = backend.upload(x)
        let weight = backend.prepareLinear(weight: w, bias: b)
        let bare = backend.prepareLinear(weight: w, bias: nil)
        let gate = ModulationRow(
          table: backend.upload(table), row: 4, groups: backend.upload(indices: groups, shape: [rows]))
        return [
          backend.linear(input, weight, activation: .none),
          backend.linear(input, bare, activation: .none),
          backend.linear(input, weight, addedTo: backend.upload(residual), gate: gate),
          backend.linear(input, bare, addedTo: backend.upload(residual), gate: nil),
        ]
      }
      let name = "linear \(rows)x\(inputs)x\(outputs)"
      let round = precision == .bf16 ? rounded : quantised
      check(name, precision, tolerance: 3e-6, seed: random.seed) {
        run(round(x), round(w), $0)
      } fast: {
        run(x, w, $0)
      }
      // What follows an activation is kept in bf16: 2^-8 of each number at most.
      func activated(_ x: Tensor, _ w: Tensor, _ backend: any Backend) -> [DeviceTensor] {
        let weight = backend.prepareLinear(weight: w, bias: b)
        return Activation.allCases.map { backend.linear(backend.upload(x), weight, activation: $0) }
      }
      check(name, precision, tolerance: 4e-3, seed: random.seed) {
        activated(round(x), round(w), $0)
      } fast: {
        activated(x, w, $0)
      }
    }
  }

  @Test("Sensitive layers stay in bf16 when blocks are in bytes", .enabled(if: Precision.int8.isSupported))
  func sensitiveLayersStayInBF16() {
    var random = RandomTensors()
    let (x, w) = (random.tensor(70, 96), random.tensor(40, 96))
    check("sensitive", .int8, tolerance: 3e-6, seed: random.seed) { backend in
      let weight = backend.prepareLinear(weight: rounded(w), bias: nil, role: .sensitive)
      return [backend.linear(backend.upload(rounded(x)), weight, activation: .none)]
    } fast: { backend in
      let weight = backend.prepareLinear(weight: w, bias: nil, role: .sensitive)
      return [backend.linear(backend.upload(x), weight, activation: .none)]
    }
  }

  @Test(
    "A row of zeros stays zero in bytes, and a row with NaN or infinity becomes NaN",
    .enabled(if: Precision.int8.isSupported))
  func strangeRowsInBytes() {
    var random = RandomTensors()
    var values = random.tensor(3, 20).floats()
    for i in 0..<20 { values[i] = 0 }
    values[25] = .nan
    values[47] = -.infinity
    let backend = CPUBackend(threads: 1, precision: .int8)
    let weight = backend.prepareLinear(weight: random.tensor(5, 20), bias: nil)
    let out = backend.download(
      backend.linear(backend.upload(Tensor(values, shape: [3, 20])), weight, activation: .none)
    ).floats()
    #expect(out[..<5].allSatisfy { $0 == 0 }, "\(out)")
    #expect(out[5...].allSatisfy { $0.isNaN }, "\(out)")
  }

  @Test(
    "Convolutions agree in bf16, in space and time, with history, strides, one-sided padding and residuals",
    .enabled(if: Precision.bf16.isSupported))
  func convolutionsAgreeInBF16() {
    var random = RandomTensors()
    typealias Case = (
      map: [Int], history: Int, out: Int, kernel: [Int], stride: ConvolutionStride, padding: SpatialPadding
    )
    let cases: [Case] = [
      ([1, 1, 1, 1], 0, 1, [1, 1], .one, .all(0)),
      ([1, 1, 1, 3], 0, 2, [3, 3], .one, .all(1)),
      ([3, 5, 7, 6], 0, 9, [3, 3], .one, .all(1)),
      ([2, 6, 4, 5], 2, 7, [3, 3, 3], .one, .all(1)),
      ([4, 6, 9, 3], 0, 4, [3, 3], ConvolutionStride(space: 2), SpatialPadding(bottom: 1, right: 1)),
      ([4, 3, 5, 4], 1, 8, [3, 1, 1], ConvolutionStride(frames: 2), .all(0)),
      ([1, 90, 70, 40], 0, 17, [3, 3], .one, .all(1)),
      ([2, 20, 32, 64], 1, 64, [2, 3, 3], .one, .all(1)),
      ([2, 9, 8, 12], 0, 5, [1, 1, 1], .one, .all(0)),
      ([2, 8, 6, 3], 0, 4, [3, 3], ConvolutionStride(space: 2), .all(1)),
      ([1, 33, 21, 96], 2, 96, [3, 3, 3], .one, .all(1)),
      // Of few channels, which have a kernel of their own.
      ([3, 7, 13, 24], 1, 24, [2, 3, 3], .one, .all(1)),
      ([1, 5, 9, 16], 0, 3, [3, 3], .one, .all(1)),
      ([2, 1, 1, 8], 1, 1, [2, 3, 3], .one, .all(1)),
      ([3, 11, 4, 48], 0, 40, [3, 3], .one, .all(1)),
      ([2, 3, 30, 56], 0, 17, [3, 3], .one, .all(1)),
    ]
    for c in cases {
      let x = random.tensor(c.map)
      let history = c.history > 0 ? random.tensor([c.history] + c.map.dropFirst()) : nil
      let w = random.tensor([c.out, c.map[3]] + c.kernel, scale: 0.2)
      let b = random.tensor(c.out)
      let shape = ReferenceBackend()
      let empty = shape.convolve(
        shape.upload(x), after: history.map { [shape.upload($0)] } ?? [], shape.prepareConvolution(weight: w, bias: b),
        stride: c.stride, padding: c.padding, activation: .none)
      let residual = random.tensor(empty.shape)
      func run(_ activation: Activation, _ round: (Tensor) -> Tensor, _ backend: any Backend) -> [DeviceTensor] {
        let weight = backend.prepareConvolution(weight: round(w), bias: b)
        let (map, past) = (backend.upload(round(x)), history.map { backend.upload(round($0)) })
        return [nil, backend.upload(residual)].map {
          backend.convolve(
            map, after: past.map { [$0] } ?? [], weight, stride: c.stride, padding: c.padding, addedTo: $0,
            activation: activation)
        }
      }
      let name = "convolution \(c.map) \(c.kernel)"
      // Wide maps are kept in bf16 as they come out.
      check(name, .bf16, tolerance: c.out <= 32 ? 3e-6 : 4e-3, seed: random.seed) {
        run(.none, rounded, $0)
      } fast: {
        run(.none, { $0 }, $0)
      }
      check(name, .bf16, tolerance: 4e-3, seed: random.seed) {
        run(.relu, rounded, $0)
      } fast: {
        run(.relu, { $0 }, $0)
      }
    }
  }

  @Test(
    "Kernels of 3 x 3 that keep a map's size agree in bf16, also over a map that is doubled first",
    .enabled(if: Precision.bf16.isSupported))
  func kernelsThatKeepTheSizeAgreeInBF16() {
    var random = RandomTensors()
    typealias Case = (map: [Int], history: Int, out: Int, taps: Int)
    let cases: [Case] = [
      ([1, 1, 1, 64], 0, 64, 1), ([1, 2, 3, 80], 0, 64, 1), ([2, 21, 19, 64], 2, 96, 3), ([1, 24, 17, 96], 2, 80, 3),
      ([3, random.integer(1...12), random.integer(1...12), 64], 1, 64, 2), ([1, 7, 4, 48], 0, 40, 1),
    ]
    for c in cases {
      let (x, b) = (random.tensor(c.map), random.tensor(c.out))
      let history = c.history > 0 ? random.tensor([c.history] + c.map.dropFirst()) : nil
      let w = random.tensor([c.out, c.map[3], c.taps, 3, 3], scale: 0.2)
      let residual = random.tensor([c.map[0] + c.history - c.taps + 1, c.map[1], c.map[2], c.out])
      func run(_ round: (Tensor) -> Tensor, _ backend: any Backend) -> [DeviceTensor] {
        let weight = backend.prepareConvolution(weight: w, bias: b, keepsSize: true)
        let (map, past) = (backend.upload(round(x)), history.map { backend.upload(round($0)) })
        let plain = [(nil, Activation.none), (backend.upload(residual), .silu)].map { added, activation in
          backend.convolve(
            map, after: past.map { [$0] } ?? [], weight, stride: .one, padding: .all(1), addedTo: added,
            activation: activation)
        }
        return plain + (c.taps == 1 ? [backend.convolveDoubled(map, weight, activation: .relu)] : [])
      }
      // Transformed inputs and kernels are rounded too: about twice the error of a direct convolution.
      check("convolution \(c.map) to \(c.out)", .bf16, tolerance: 8e-3, seed: random.seed) {
        run(rounded, $0)
      } fast: {
        run({ $0 }, $0)
      }
    }
  }

  @Test(
    "What a stream remembers in bytes is read as the same numbers, and survives a download",
    .enabled(if: Precision.bf16.isSupported))
  func rememberedFrames() {
    var random = RandomTensors()
    let backend = CPUBackend(threads: 3, precision: .bf16)
    // With Winograd's kernels and without.
    for (inputs, outputs, taps, keepsSize) in [
      (64, 96, 3, true), (96, 64, 3, true), (80, 33, 2, false), (64, 16, 3, false),
    ] {
      let map = [1, random.integer(1...13), random.integer(1...13), inputs]
      let w = random.tensor([outputs, inputs, taps, 3, 3], scale: 0.2)
      let weight = backend.prepareConvolution(weight: w, bias: nil, keepsSize: keepsSize)
      let (x, past) = (random.tensor(map), (0..<taps - 1).map { _ in random.tensor(map) })
      let kept = past.map { backend.remembered(backend.upload($0), for: weight) }
      let numbers = kept.map { backend.download($0) }
      for (was, now) in zip(past, numbers) {
        // Half a step of the largest number of a position, and a little for the scale's rounding.
        let (a, b) = (was.floats(), now.floats())
        for position in stride(from: 0, to: a.count, by: inputs) {
          let range = position..<position + inputs
          let largest = a[range].map(abs).max() ?? 0
          #expect(range.allSatisfy { abs(a[$0] - b[$0]) <= largest / 250 }, "\(map), seed \(random.seed)")
        }
      }
      func convolve(_ backend: any Backend, _ history: [DeviceTensor], _ weight: ConvolutionWeight, _ x: Tensor)
        -> Tensor
      {
        backend.download(
          backend.convolve(
            backend.upload(x), after: history, weight, stride: .one, padding: .all(1), activation: .none))
      }
      let found = convolve(backend, kept, weight, x)
      let reference = ReferenceBackend()
      let wanted = convolve(
        reference, numbers.map { reference.upload($0) }, reference.prepareConvolution(weight: w, bias: nil), x)
      let error = distance(found, wanted)
      #expect(error < 8e-3, "\(inputs) to \(outputs): relative error \(error), seed \(random.seed)")
      // Stored and put back: the same bits.
      let again = numbers.map { backend.remembered(backend.upload($0), for: weight) }
      #expect(convolve(backend, again, weight, x).floats() == found.floats(), "\(map), seed \(random.seed)")
    }
    // Nothing, and what is too small for a scale; a number that is none stays none.
    let weight = backend.prepareConvolution(weight: random.tensor(64, 64, 1, 3, 3), bias: nil, keepsSize: true)
    for value: Float in [0, 1e-35, .nan, .infinity] {
      let x = Tensor([Float](repeating: value, count: 64), shape: [1, 1, 1, 64])
      let found = backend.download(backend.remembered(backend.upload(x), for: weight)).floats()
      #expect(found.allSatisfy { value.isFinite ? $0 == 0 : $0.isNaN }, "\(value) became \(found[0])")
    }
  }

  @Test("Convolutions behind a doubling agree with doubling first", arguments: Precision.allCases.filter(\.isSupported))
  func convolutionsBehindADoublingAgree(precision: Precision) {
    var random = RandomTensors()
    let cases = [
      ([1, 1, 1, 8], 32, 1), ([2, 5, 7, 64], 48, 1), ([1, 6, 13, 48], 24, 2), ([3, 4, 17, 24], 16, 2),
      ([1, 3, 5, 40], 20, 3), ([1, 2, 3, 5], 4, 2), ([1, 9, 6, 96], 80, 1),
    ]
    for (map, outputs, frames) in cases {
      let (x, w) = (random.tensor(map), random.tensor([frames * outputs, map[3], 3, 3], scale: 0.2))
      func run(_ backend: any Backend) -> [DeviceTensor] {
        [Activation.none, .relu, .silu].map {
          backend.convolveDoubled(
            backend.upload(x), backend.prepareDoubledConvolution(weight: w, frames: frames), frames: frames,
            activation: $0)
        }
      }
      // Sums of weights are rounded where each of them would be, and so is what comes out.
      check("doubled \(map)", precision, tolerance: precision == .f32 ? 3e-6 : 1.5e-2, seed: random.seed) {
        run($0)
      } fast: {
        run($0)
      }
    }
  }

  @Test(
    "Blocks of a small decoder add their input in bf16 as the reference does", .enabled(if: Precision.bf16.isSupported))
  func residualsInBF16() {
    var random = RandomTensors()
    for (map, threads) in [([2, 9, 15, 24], 1), ([1, 4, 33, 64], 3), ([3, 5, 6, 16], 2)] {
      let channels = map[3]
      let (x, first) = (random.tensor(map), random.tensor([channels, channels, 3, 3], scale: 0.1))
      let (second, bias) = (random.tensor([channels, channels, 3, 3], scale: 0.1), random.tensor(channels))
      func block(_ backend: any Backend) -> Tensor {
        func convolve(_ x: DeviceTensor, _ w: Tensor, addedTo residual: DeviceTensor?) -> DeviceTensor {
          backend.convolve(
            x, after: [], backend.prepareConvolution(weight: w, bias: bias), stride: .one, padding: .all(1),
            addedTo: residual, activation: .relu)
        }
        let y = convolve(backend.upload(x), first, addedTo: nil)
        return backend.download(convolve(y, second, addedTo: y))
      }
      let error = distance(block(CPUBackend(threads: threads, precision: .bf16)), block(ReferenceBackend()))
      #expect(error < 8e-3, "\(map): relative error \(error), seed \(random.seed)")
    }
  }

  @Test("Layers of one input agree with each of them alone", arguments: Precision.allCases.filter(\.isSupported))
  func layersOfOneInputAgree(precision: Precision) {
    var random = RandomTensors()
    for (rows, inputs) in [(1, 3), (70, 65), (480, 96)] {
      let backend = CPUBackend(threads: 2, precision: precision)
      let x = backend.upload(random.tensor(rows, inputs))
      let layers = [33, 64, 1600].map {
        backend.prepareLinear(weight: random.tensor([$0, inputs], scale: 0.1), bias: random.tensor($0))
      }
      let together = backend.linears(x, layers)
      for (i, layer) in layers.enumerated() {
        let alone = backend.download(backend.linear(x, layer, activation: .none))
        #expect(
          backend.download(together[i]).floats() == alone.floats() && together[i].shape == alone.shape,
          "layer \(i) of \(rows) x \(inputs), seed \(random.seed)")
      }
    }
  }

  @Test("Pixels are limited, truncated, and refused with NaN or infinity")
  func pixelsForTheHost() {
    var random = RandomTensors()
    var values = random.tensor([3, 7, 5, 3]).floats()
    (values[0], values[1], values[2], values[3], values[4]) = (0, 1, 0.5, 1.0001, -0.2)
    let backends: [any Backend] = [ReferenceBackend(), CPUBackend(threads: 3)]
    for backend in backends {
      let pixels = backend.downloadPixels(backend.upload(Tensor(values, shape: [3, 7, 5, 3])))
      #expect(pixels?.shape == [3, 7, 5, 3] && pixels?.dtype == .u8)
      #expect(pixels?.integers() == values.map { Int(max(0, min(255, $0 * 255))) }, "seed \(random.seed)")
      for wrong in [Float.nan, .infinity, -.infinity] {
        var damaged = values
        damaged[314] = wrong
        #expect(backend.downloadPixels(backend.upload(Tensor(damaged, shape: [315]))) == nil)
      }
    }
  }

  @Test("Maps in bf16 are moved, joined and read as the same numbers", .enabled(if: Precision.bf16.isSupported))
  func mapsInBF16AreMoved() {
    var random = RandomTensors()
    let (x, w) = (random.tensor(2, 6, 5, 8), random.tensor(12, 8, 3, 3))
    // The reference starts from what the fast path kept, so that moving is all that is judged: exact.
    let fast = CPUBackend(threads: 2, precision: .bf16)
    let kept = fast.convolve(
      fast.upload(x), after: [], fast.prepareConvolution(weight: w, bias: nil), stride: .one, padding: .all(1),
      activation: .relu)
    func moves(_ y: DeviceTensor, _ backend: any Backend) -> [Tensor] {
      [
        backend.upsampleTwice(y), backend.channelsToFrames(y, 3), backend.framesToChannels(y, 2),
        backend.slice(y, 1..<2), backend.concatenate([y, y]),
        backend.concatenate([y, backend.upload(random.tensor([1, 6, 5, 12], scale: 0))]), backend.add(y, y),
        backend.joinChannels(y, y), backend.channelsFirst(y),
      ].map { backend.download($0) }
    }
    let judge = ReferenceBackend()
    let expected = moves(judge.upload(fast.download(kept)), judge)
    for (i, result) in moves(kept, fast).enumerated() {
      #expect(result.floats() == expected[i].floats() && result.shape == expected[i].shape, "move \(i)")
    }
  }

  @Test("oneDNN's code for these instructions is chosen, not its reference", .enabled(if: Precision.int8.isSupported))
  func fastCodeIsChosen() {
    #expect(Precision.bf16.implementation?.contains("bf16") == true, "\(Precision.bf16.implementation ?? "none")")
    #expect(Precision.int8.implementation?.contains("vnni") == true, "\(Precision.int8.implementation ?? "none")")
    #expect(Precision.f32.implementation == nil)
  }
}
