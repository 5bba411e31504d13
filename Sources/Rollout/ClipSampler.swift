import Compute

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The noise levels of a whole clip and the solver that steps through them, for models trained by flow matching
/// (Wan 2.1): x_sigma = (1 - sigma) x0 + sigma noise, v = noise - x0.
///
/// - `euler`: `x <- x + (sigma' - sigma) v` on the shifted linspace(1, 0, n + 1) without its last; the transformer is
///   given 1000 sigma as it is.
/// - `unipc`: UniPC of order 2 (bh2, x0-prediction, lower order at the end; `fm_solvers_unipc.py`) on the shifted
///   linspace(0.999, 0, n + 1) without its last; the transformer is given 1000 sigma truncated to a whole number.
///
/// The last step goes to sigma 0. The value steps once through the levels; start from a fresh copy for another clip.
public struct ClipSampler: Sendable {
  public enum Kind: String, Sendable, CaseIterable {
    case euler, unipc
  }

  public let kind: Kind
  /// What the transformer is given at each step.
  public let timesteps: [Double]
  /// The solver's noise level of each step; the final 0 is not listed.
  public let sigmas: [Double]

  /// Steps taken.
  public private(set) var step = 0
  /// Predictions of x0 of the last two steps, the newer first.
  private var predictions: [DeviceTensor] = []
  /// The sample before the last predictor, and that predictor's order.
  private var before: (sample: DeviceTensor, order: Int)?

  /// - Parameters:
  ///   - steps: Length of the grid, 1 to 1000.
  ///   - shift: Flow shift S, sigma = S u / (1 + (S - 1) u).
  /// - Throws: ``RolloutError/settings(_:)``.
  public init(_ kind: Kind, steps: Int, shift: Double) throws(RolloutError) {
    guard (1...1000).contains(steps) else { throw .settings("\(steps) steps; 1 to 1000 are possible") }
    guard shift.isFinite, shift > 0 else { throw .settings("a flow shift of \(shift); it must be above 0") }
    self.kind = kind
    let top = kind == .unipc ? 0.999 : 1
    sigmas = (0..<steps).map { i in
      let u = top * (1 - Double(i) / Double(steps))
      return shift * u / (1 + (shift - 1) * u)
    }
    timesteps = sigmas.map { kind == .unipc ? (1000 * $0).rounded(.towardZero) : 1000 * $0 }
  }

  /// Euler on given levels.
  public init(euler schedule: FlowSchedule) {
    kind = .euler
    timesteps = schedule.timesteps
    sigmas = schedule.sigmas
  }

  public var isFinished: Bool { step == sigmas.count }

  /// The sample of the next level from the one of this level, `x`, and the flow that the model predicts there; same shape.
  public mutating func advance(_ x: DeviceTensor, flow: DeviceTensor, on backend: any Backend) -> DeviceTensor {
    precondition(!isFinished, "a sampler of \(sigmas.count) steps was asked for one more")
    defer { step += 1 }
    let sigma = sigmas[step]
    switch kind {
    case .euler:
      let next = step + 1 < sigmas.count ? sigmas[step + 1] : 0
      return backend.combine(1, x, Float(next - sigma), flow)
    case .unipc:
      let clean = backend.combine(1, x, -Float(sigma), flow)
      let corrected = correct(x, clean, on: backend)
      predictions = [clean] + predictions.prefix(1)
      let order = min(2, sigmas.count - step, step + 1)
      before = (corrected, order)
      return predict(corrected, order: order, on: backend)
    }
  }

  /// ln alpha - ln sigma of step i, alpha = 1 - sigma.
  private func lambda(_ i: Int) -> Double { log(1 - sigmas[i]) - log(sigmas[i]) }

  /// Step i - 1's distance from step i relative to the distance `h` from i to the next: r.
  private func ratio(_ i: Int, h: Double) -> Double { (lambda(i - 1) - lambda(i)) / h }

  /// The predictor, from this step's corrected sample to the next level.
  private func predict(_ x: DeviceTensor, order: Int, on backend: any Backend) -> DeviceTensor {
    // To sigma 0 the exponential vanishes and x0 is left.
    guard step + 1 < sigmas.count else { return predictions[0] }
    let h = lambda(step + 1) - lambda(step)
    let alpha = (1 - sigmas[step + 1]) * expm1(-h)
    let m = predictions[0]
    var next = backend.combine(Float(sigmas[step + 1] / sigmas[step]), x, -Float(alpha), m)
    if order == 2 {
      let weight = alpha * 0.5 / ratio(step, h: h)
      next = backend.combine(1, next, -Float(weight), backend.combine(1, predictions[1], -1, m))
    }
    return next
  }

  /// The corrector: this step's sample once more from the one before, now that the prediction here, `clean`, is known.
  private func correct(_ x: DeviceTensor, _ clean: DeviceTensor, on backend: any Backend) -> DeviceTensor {
    guard let before else { return x }
    let h = lambda(step) - lambda(step - 1)
    let e = expm1(-h)
    let alpha = (1 - sigmas[step]) * e
    let m = predictions[0]
    let base = backend.combine(Float(sigmas[step] / sigmas[step - 1]), before.sample, -Float(alpha), m)
    let change = backend.combine(1, clean, -1, m)
    if before.order == 1 { return backend.combine(1, base, -Float(alpha * 0.5), change) }
    let phi1 = e / -h - 1
    let phi2 = phi1 / -h - 0.5
    let (b1, b2) = (phi1 / e, 2 * phi2 / e)
    let r = ratio(step - 1, h: h)
    let rho1 = (b2 - b1) / (r - 1)
    let rho2 = b1 - rho1
    let older = backend.combine(1, predictions[1], -1, m)
    let corrected = backend.combine(1, base, -Float(alpha * rho1 / r), older)
    return backend.combine(1, corrected, -Float(alpha * rho2), change)
  }
}
