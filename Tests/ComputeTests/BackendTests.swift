import Compute
import Tensors
import Testing

/// Every operation of the fast backend against the reference, on fresh random inputs with odd sizes, and on one thread
/// against three: the same bytes.
@Suite struct BackendTests {
  private func check(
    _ name: String, tolerance: Double = 2e-6, seed: UInt64, _ body: (any Backend) -> [DeviceTensor]
  ) {
    let (reference, one, three) = onEachBackend(body)
    for (i, expected) in reference.enumerated() {
      let error = distance(one[i], expected)
      #expect(error <= tolerance, "\(name)[\(i)]: relative error \(error), seed \(seed), shape \(expected.shape)")
      #expect(one[i].floats() == three[i].floats(), "\(name)[\(i)] depends on the number of threads, seed \(seed)")
    }
  }

  @Test("Linear layers agree, with every activation and with gated residuals")
  func linearLayersAgreeWithEveryActivationAnd() {
    var random = RandomTensors()
    for (rows, inputs, outputs) in [(1, 1, 7), (1, 37, 9), (131, 65, 33), (260, 48, 1031), (7, 300, 513)] {
      let (x, w) = (random.tensor(rows, inputs), random.tensor([outputs, inputs], scale: 0.1))
      let (b, residual, table) = (random.tensor(outputs), random.tensor(rows, outputs), random.tensor(3, 6, outputs))
      let groups = (0..<rows).map { _ in Int32(random.integer(0...2)) }
      check("linear \(rows)x\(inputs)x\(outputs)", seed: random.seed) { backend in
        let input = backend.upload(x)
        let weight = backend.prepareLinear(weight: w, bias: b)
        let bare = backend.prepareLinear(weight: w, bias: nil)
        let gate = ModulationRow(
          table: backend.upload(table), row: 4, groups: backend.upload(indices: groups, shape: [rows]))
        return Activation.allCases.map { backend.linear(input, weight, activation: $0) } + [
          backend.linear(input, bare, activation: .none),
          backend.linear(input, weight, addedTo: backend.upload(residual), gate: gate),
          backend.linear(input, bare, addedTo: backend.upload(residual), gate: nil),
        ]
      }
    }
  }

  @Test("Norms over rows agree, modulated, affine, and with rotated heads") func normsOverRowsAgreeModulatedAffineAnd()
  {
    var random = RandomTensors()
    for (rows, heads, dim) in [(1, 1, 2), (5, 3, 10), (67, 2, 128), (33, 5, 22)] {
      let width = heads * dim
      let (x, table, w, b) = (
        random.tensor(rows, width), random.tensor(2, 3, width), random.tensor(width), random.tensor(width)
      )
      let groups = (0..<rows).map { _ in Int32(random.integer(0...1)) }
      let angles = (cos: random.tensor(rows, dim / 2), sin: random.tensor(rows, dim / 2))
      check("norms \(rows)x\(width)", seed: random.seed) { backend in
        let (input, weight, bias) = (backend.upload(x), backend.upload(w), backend.upload(b))
        let index = backend.upload(indices: groups, shape: [rows])
        let modulation = backend.upload(table)
        let rotary = Rotary(cosines: backend.upload(angles.cos), sines: backend.upload(angles.sin), headDim: dim)
        return [
          backend.layerNorm(
            input, epsilon: 1e-6, shift: ModulationRow(table: modulation, row: 0, groups: index),
            scale: ModulationRow(table: modulation, row: 2, groups: index)),
          backend.layerNorm(input, epsilon: 1e-5, weight: weight, bias: bias),
          backend.rmsNorm(input, epsilon: 1e-6, weight: weight, rotary: nil),
          backend.rmsNorm(input, epsilon: 1e-6, weight: weight, rotary: rotary),
          backend.channelNorm(input.reshaped([1, rows, 1, width]), gamma: weight, silu: false),
          backend.channelNorm(input.reshaped([1, rows, 1, width]), gamma: weight, silu: true),
        ]
      }
    }
  }

  @Test("Dense attention agrees for odd lengths, wide heads and every bias")
  func denseAttentionAgreesForOddLengthsWide() {
    var random = RandomTensors()
    for (n, m, heads, dim) in [(1, 1, 1, 4), (61, 129, 2, 10), (7, 70, 3, 128), (130, 64, 1, 384), (5, 5, 4, 64)] {
      let (q, k, v) = (
        random.tensor(n, heads * dim), random.tensor(m, heads * dim), random.tensor(m, heads * dim)
      )
      let (perKey, relative) = (random.tensor(m), random.tensor(heads, n + m - 1))
      check("attention \(n)x\(m)x\(heads)x\(dim)", tolerance: 5e-6, seed: random.seed) { backend in
        let biases: [AttentionBias] = [.none, .perKey(backend.upload(perKey)), .relative(backend.upload(relative))]
        return biases.map { bias in
          backend.attention(
            queries: backend.upload(q), keys: backend.upload(k), values: backend.upload(v), heads: heads, scale: 0.3,
            bias: bias)
        }
      }
    }
  }

  @Test("Attention survives large logits") func attentionSurvivesLargeLogits() {
    var random = RandomTensors()
    // Whole numbers, so that every order of summation gives the same logits, up to 25,600, to the last bit.
    func whole(_ shape: [Int]) -> Tensor {
      Tensor((0..<shape.reduce(1, *)).map { _ in Float(random.integer(-40...40)) }, shape: shape)
    }
    let (q, k, v) = (whole([9, 16]), whole([100, 16]), random.tensor(100, 16))
    check("large logits", tolerance: 5e-6, seed: random.seed) { backend in
      [
        backend.attention(
          queries: backend.upload(q), keys: backend.upload(k), values: backend.upload(v), heads: 1, scale: 1,
          bias: .none)
      ]
    }
  }

  @Test("Convolutions agree in space and time, with history, strides and one-sided padding")
  func convolutionsAgreeInSpaceAndTimeWith() {
    var random = RandomTensors()
    let cases:
      [(map: [Int], history: Int, out: Int, kernel: [Int], stride: ConvolutionStride, padding: SpatialPadding)] = [
        ([1, 1, 1, 1], 0, 1, [1, 1], .one, .all(0)),
        ([3, 5, 7, 6], 0, 9, [3, 3], .one, .all(1)),
        ([2, 6, 4, 5], 2, 7, [3, 3, 3], .one, .all(1)),
        ([4, 6, 9, 3], 0, 4, [3, 3], ConvolutionStride(space: 2), SpatialPadding(bottom: 1, right: 1)),
        ([4, 3, 5, 4], 1, 8, [3, 1, 1], ConvolutionStride(frames: 2), .all(0)),
        ([1, 90, 70, 40], 0, 17, [3, 3], .one, .all(1)),
        ([2, 9, 8, 12], 0, 5, [1, 1, 1], .one, .all(0)),
        ([2, 8, 6, 3], 0, 4, [3, 3], ConvolutionStride(space: 2), .all(1)),
      ]
    for c in cases {
      let x = random.tensor(c.map)
      let history = c.history > 0 ? random.tensor([c.history] + c.map.dropFirst()) : nil
      let (w, b) = (random.tensor([c.out, c.map[3]] + c.kernel, scale: 0.2), random.tensor(c.out))
      check("convolution \(c.map) by \(c.kernel)", seed: random.seed) { backend in
        [Activation.none, .relu].map { activation in
          backend.convolve(
            backend.upload(x), after: history.map { [backend.upload($0)] } ?? [],
            backend.prepareConvolution(weight: w, bias: b),
            stride: c.stride, padding: c.padding, activation: activation)
        }
      }
    }
  }

  @Test("A stream convolved in pieces gives the same bytes as in one go") func aStreamConvolvedInPiecesGivesThe() {
    var random = RandomTensors()
    let backend = CPUBackend(threads: 2)
    let x = backend.upload(random.tensor(7, 9, 11, 5))
    let zeros = backend.upload(Tensor([Float](repeating: 0, count: 2 * 9 * 11 * 5), shape: [2, 9, 11, 5]))
    let weight = backend.prepareConvolution(weight: random.tensor(6, 5, 3, 3, 3), bias: random.tensor(6))
    func convolve(_ x: DeviceTensor, _ history: DeviceTensor) -> DeviceTensor {
      backend.convolve(x, after: [history], weight, stride: .one, padding: .all(1), activation: .none)
    }
    let whole = backend.download(convolve(x, zeros)).floats()
    var (history, pieces, start) = (zeros, [DeviceTensor](), 0)
    for count in [1, 3, 2, 1] {
      let part = backend.slice(x, start..<start + count)
      pieces.append(convolve(part, history))
      let joined = backend.concatenate([history, part])
      history = backend.slice(joined, count..<count + 2)
      start += count
    }
    #expect(backend.download(backend.concatenate(pieces)).floats() == whole)
  }

  @Test("Layout changes and elementwise operations agree") func layoutChangesAndElementwiseOperationsAgree() {
    var random = RandomTensors()
    let (x, y) = (random.tensor(4, 3, 5, 6), random.tensor(4, 3, 5, 2))
    let (scale, shift, twin) = (random.tensor(6), random.tensor(6), random.tensor(4, 3, 5, 6))
    let indices = (0..<77).map { _ in Int32(random.integer(-1...359)) }
    check("layouts", seed: random.seed) { backend in
      let (a, b) = (backend.upload(x), backend.upload(twin))
      return [
        backend.upsampleTwice(a), backend.channelsToFrames(a, 2), backend.framesToChannels(a, 2),
        backend.channelsToFrames(backend.framesToChannels(a, 2), 2), backend.joinChannels(a, backend.upload(y)),
        backend.channelsLast(a), backend.channelsFirst(a), backend.channelsFirst(backend.channelsLast(a)),
        backend.scaleChannels(a, scale: backend.upload(scale), shift: backend.upload(shift)),
        backend.slice(a, 1..<3), backend.concatenate([a, backend.slice(b, 0..<1)]),
        backend.gather(a, backend.upload(indices: indices, shape: [77]), shape: [7, 11]),
        backend.combine(0.3, a, -1.7, b), backend.add(a, backend.upload(scale)), backend.multiply(a, b),
        backend.clamp(a, to: -0.5...0.25),
      ] + Activation.allCases.map { backend.activate(a, $0) }
    }
  }

  @Test("A rearrangement undone gives back the input") func aRearrangementUndoneGivesBackTheInput() {
    var random = RandomTensors()
    let x = random.tensor(6, 2, 3, 4)
    for backend in [CPUBackend(threads: 2), ReferenceBackend()] as [any Backend] {
      let a = backend.upload(x)
      #expect(backend.download(backend.channelsToFrames(backend.framesToChannels(a, 3), 3)).floats() == x.floats())
      #expect(backend.download(backend.channelsFirst(backend.channelsLast(a))).floats() == x.floats())
    }
  }

  @Test("A number that is not finite is noticed and travels through every activation") func aNumberThatIsNotFiniteIs() {
    for backend in [CPUBackend(threads: 1), ReferenceBackend()] as [any Backend] {
      for bad in [Float.nan, .infinity, -.infinity] {
        let x = backend.upload(Tensor([1, 2, bad, 3], shape: [4]))
        #expect(!backend.allFinite(x))
      }
      let nan = backend.upload(Tensor([Float](repeating: .nan, count: 17), shape: [17]))
      for activation in Activation.allCases {
        let lost = backend.download(backend.activate(nan, activation)).floats().count { !$0.isNaN }
        #expect(lost == 0, "\(activation)")
      }
      #expect(backend.allFinite(backend.upload(Tensor([0, -1, 3e38], shape: [3]))))
    }
  }
}
