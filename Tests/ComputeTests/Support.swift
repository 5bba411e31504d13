import Compute
import Tensors

/// A random source that differs from run to run; tests print its seed when they fail.
struct RandomTensors {
  let seed: UInt64
  private var state: UInt64

  init(seed: UInt64 = UInt64.random(in: 1..<UInt64.max)) {
    self.seed = seed
    state = seed
  }

  mutating func uniform() -> Float {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Float(state >> 40) / Float(1 << 24) * 2 - 1
  }
  mutating func integer(_ range: ClosedRange<Int>) -> Int {
    range.lowerBound + min(range.count - 1, Int((uniform() + 1) / 2 * Float(range.count)))
  }
  mutating func tensor(_ shape: Int...) -> Tensor { tensor(shape) }
  mutating func tensor(_ shape: [Int], scale: Float = 1) -> Tensor {
    Tensor((0..<shape.reduce(1, *)).map { _ in scale * (uniform() + uniform() + uniform()) }, shape: shape)
  }
}

/// Relative L2 distance |a - b| / |b|; infinite if a shape differs or a number is not finite.
func distance(_ a: Tensor, _ b: Tensor) -> Double {
  guard a.shape == b.shape else { return .infinity }
  var (difference, size) = (0.0, 0.0)
  for (x, y) in zip(a.floats(), b.floats()) {
    guard x.isFinite else { return .infinity }
    difference += Double(x - y) * Double(x - y)
    size += Double(y) * Double(y)
  }
  return size == 0 ? difference.squareRoot() : (difference / size).squareRoot()
}

/// Runs the same operations on every backend and returns what each gave: the reference, one thread, and three threads.
func onEachBackend(_ body: (any Backend) -> [DeviceTensor]) -> (reference: [Tensor], one: [Tensor], three: [Tensor]) {
  func run(_ backend: any Backend) -> [Tensor] { body(backend).map { backend.download($0) } }
  return (run(ReferenceBackend()), run(CPUBackend(threads: 1)), run(CPUBackend(threads: 3)))
}

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

extension Double {
  var cosine: Double { cos(self) }
  var sine: Double { sin(self) }
  var exponential: Double { exp(self) }
}
