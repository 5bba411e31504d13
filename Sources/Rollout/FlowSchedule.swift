/// The noise levels of a few-step rollout: x_sigma = (1 - sigma) x0 + sigma noise, timestep = 1000 sigma.
public struct FlowSchedule: Sendable, Equatable, Codable {
  /// What the transformer is given at each step, fractional, falling.
  public let timesteps: [Double]

  /// Levels as they stand, in (0, 1000], strictly falling.
  /// - Throws: ``RolloutError/settings(_:)``.
  public init(timesteps: [Double]) throws(RolloutError) {
    guard !timesteps.isEmpty else { throw .settings("a schedule needs at least one timestep") }
    guard timesteps.allSatisfy({ $0.isFinite && $0 > 0 && $0 <= 1000 }) else {
      throw .settings("timesteps must lie in (0, 1000], not \(FlowSchedule.list(timesteps))")
    }
    guard zip(timesteps, timesteps.dropFirst()).allSatisfy({ $0 > $1 }) else {
      throw .settings("timesteps must fall from step to step, not \(FlowSchedule.list(timesteps))")
    }
    self.timesteps = timesteps
  }

  /// Nominal levels warped by the flow shift S: `t = 1000 S u / (1 + (S - 1) u)`, u = nominal / 1000
  /// (Self-Forcing, `utils/scheduler.py`; shift 5 turns 1000, 750, 500, 250 into 1000, 937.5, 833.33, 625).
  public init(nominal: [Double], shift: Double) throws(RolloutError) {
    guard shift.isFinite, shift > 0 else { throw .settings("a flow shift of \(shift); it must be above 0") }
    try self.init(
      timesteps: nominal.map { u in
        let u = u / 1000
        return 1000 * shift * u / (1 + (shift - 1) * u)
      })
  }

  /// n steps: nominal 1000 (1 - i / n), warped.
  public init(steps: Int, shift: Double) throws(RolloutError) {
    guard (1...1000).contains(steps) else { throw .settings("\(steps) steps; 1 to 1000 are possible") }
    try self.init(nominal: (0..<steps).map { 1000 * (1 - Double($0) / Double(steps)) }, shift: shift)
  }

  /// The end of this schedule from a noise level on: `sigma`, unless it is one of the levels, then the levels below it.
  /// - Parameter strength: Nominal, in (0, 1], warped by the flow shift S as in ``init(nominal:shift:)``; 1 is the whole
  ///   schedule. With n levels evenly spaced before the warp, `k / n` is its last k.
  /// - Throws: ``RolloutError/settings(_:)``.
  public func entered(at strength: Double, shift: Double) throws(RolloutError) -> FlowSchedule {
    guard strength > 0, strength <= 1 else {
      throw .settings("a strength of \(strength); above 0 and at most 1 is possible")
    }
    let level = try FlowSchedule(nominal: [1000 * strength], shift: shift).timesteps[0]
    let below = timesteps.filter { $0 < level * (1 + 1e-6) }
    if let first = below.first, first > level * (1 - 1e-6) { return try FlowSchedule(timesteps: below) }
    return try FlowSchedule(timesteps: [level] + below)
  }

  /// The noise level of each step.
  public var sigmas: [Double] { timesteps.map { $0 / 1000 } }

  private static func list(_ timesteps: [Double]) -> String { timesteps.map { "\($0)" }.joined(separator: ", ") }
}
