import Rollout
import Testing

@Suite struct FlowScheduleTests {
  @Test(
    "Nominal steps are warped by the flow shift",
    arguments: [
      (5.0, [1000, 750, 500, 250], [1000, 937.5, 833.33333, 625]),
      (8.0, [1000, 750, 500, 250], [1000, 960, 888.88889, 727.27273]),
      (3.0, [1000, 800, 600, 400, 200], [1000, 923.07692, 818.18182, 666.66667, 428.57143]),
      (1.0, [700, 20], [700, 20]),
    ])
  func nominalStepsAreWarpedByTheFlow(shift: Double, nominal: [Double], warped: [Double]) throws {
    let schedule = try FlowSchedule(nominal: nominal, shift: shift)
    for (a, b) in zip(schedule.timesteps, warped) { #expect(abs(a - b) < 1e-5) }
    for (a, b) in zip(schedule.sigmas, warped) { #expect(abs(a - b / 1000) < 1e-8) }
  }

  @Test("Four steps are Self-Forcing's, twelve those of the undistilled model")
  func fourStepsAreSelfForcingsTwelveThose() throws {
    #expect(try FlowSchedule(steps: 4, shift: 5) == FlowSchedule(nominal: [1000, 750, 500, 250], shift: 5))
    let twelve = try FlowSchedule(steps: 12, shift: 5).timesteps
    for (a, b) in zip(
      twelve, [1000, 982.1429, 961.5385, 937.5, 909.0909, 875, 833.3333, 781.25, 714.2857, 625, 500, 312.5])
    {
      #expect(abs(a - b) < 1e-4)
    }
  }

  @Test(
    "Impossible lists are refused", arguments: [[], [0], [1001], [500, 500], [250, 500], [Double.nan]] as [[Double]])
  func impossibleListsAreRefused(timesteps: [Double]) {
    #expect(throws: RolloutError.self) { try FlowSchedule(timesteps: timesteps) }
  }

  @Test("Impossible shifts and counts are refused") func impossibleShiftsAndCountsAreRefused() {
    for shift in [0, -1, Double.infinity, .nan] {
      #expect(throws: RolloutError.self) { try FlowSchedule(nominal: [1000], shift: shift) }
    }
    for steps in [0, -4, 1001] { #expect(throws: RolloutError.self) { try FlowSchedule(steps: steps, shift: 5) } }
  }
}
