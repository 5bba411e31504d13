/// A scale of colours from dark to light, for amounts.
package struct ColourRamp: Sendable {
  private let stops: [SIMD3<Float>]

  /// Black, violet, red, orange, pale yellow: lightness rises evenly (nine values of matplotlib's `inferno`).
  package static let fire = ColourRamp(stops: [
    [0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85], [227, 89, 51], [249, 140, 10],
    [249, 201, 50],
    [252, 255, 164],
  ])
  /// Black, deep blue, cyan, white.
  package static let ice = ColourRamp(stops: [
    [3, 5, 18], [20, 30, 74], [24, 66, 128], [22, 106, 170], [32, 148, 200], [70, 188, 218], [132, 218, 230],
    [196, 240, 244], [250, 255, 255],
  ])

  /// The colour at `position` in 0...1; what lies outside has that of the end.
  package subscript(_ position: Double) -> Ink {
    let place = Float(max(0, min(1, position.isNaN ? 0 : position))) * Float(stops.count - 1)
    let lower = min(stops.count - 2, Int(place))
    let mixed = stops[lower] + (stops[lower + 1] - stops[lower]) * (place - Float(lower))
    return Ink(UInt8(mixed.x.rounded()), UInt8(mixed.y.rounded()), UInt8(mixed.z.rounded()))
  }
}
