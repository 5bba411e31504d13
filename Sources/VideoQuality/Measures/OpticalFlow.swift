/// Where each pixel of one picture went in the next: dense, coarse-to-fine Lucas-Kanade.
///
/// Lucas and Kanade (1981) in the pyramid of Bouguet (2001), in the form that solves for the whole displacement at once, as
/// Farnebäck's flow does (which VQeval uses). On each level, from the coarsest, with I and J the pictures, g = ∇I, w the flow
/// so far and ⟨ ⟩ the mean over a window of 15 x 15 pixels, three times:
///
///     r(x) = J(x + w(x)) - I(x) - g(x)·w(x)             (0 - g·w where x + w lies outside)
///     w    ← (⟨g gᵀ⟩ + λ 1)⁻¹ (λ ⟨w⟩ - ⟨g r⟩),          λ = 1 level² / px²
///
/// so that pixels without texture take the flow of their surroundings, and the flow of a flat picture is 0. Up to five levels,
/// the coarsest of at least 16 pixels, reach displacements of about 30 px at 480 px. Lengths are given in pixels of a
/// picture whose longer side is 480, so that thresholds mean the same at every size.
public struct OpticalFlow: Sendable {
  public let width: Int
  public let height: Int
  /// `[height, width]`: displacement to the right.
  public let right: [Float]
  /// `[height, width]`: displacement downwards.
  public let down: [Float]

  private static let radius = 7
  private static let iterations = 3
  private static let stiffness: Float = 1
  private static let maximumLevels = 5
  private static let coarsest = 16

  /// A flow that is known.
  public init(width: Int, height: Int, right: [Float], down: [Float]) {
    precondition(right.count == width * height && down.count == right.count, "\(right.count) for \(width)x\(height)")
    (self.width, self.height, self.right, self.down) = (width, height, right, down)
  }

  /// The flow from one picture to another of the same size.
  public init(from first: GreyPicture, to second: GreyPicture) {
    precondition(first.width == second.width && first.height == second.height, "pictures of different sizes")
    var pyramid = [(first, second)]
    while pyramid.count < OpticalFlow.maximumLevels, let (a, b) = pyramid.last,
      min(a.width, a.height) >= 2 * OpticalFlow.coarsest
    {
      pyramid.append((a.halved(), b.halved()))
    }
    var flow = Field(width: 0, height: 0, right: [], down: [])
    for (a, b) in pyramid.reversed() {
      flow = flow.enlarged(width: a.width, height: a.height)
      OpticalFlow.refine(&flow, from: a, to: b)
    }
    width = first.width
    height = first.height
    let unit = Float(GreyPicture.longSide) / Float(max(width, height))
    right = unit == 1 ? flow.right : flow.right.map { $0 * unit }
    down = unit == 1 ? flow.down : flow.down.map { $0 * unit }
  }

  /// Length of each displacement.
  public var magnitudes: [Float] { zip(right, down).map { ($0 * $0 + $1 * $1).squareRoot() } }

  /// Mean length of the displacements.
  public var meanMagnitude: Double {
    var sum = 0.0
    for (u, v) in zip(right, down) { sum += Double((u * u + v * v).squareRoot()) }
    return sum / Double(right.count)
  }

  private struct Field {
    var width: Int
    var height: Int
    var right: [Float]
    var down: [Float]

    /// The flow of the next finer level, twice as long.
    func enlarged(width newWidth: Int, height newHeight: Int) -> Field {
      var out = Field(
        width: newWidth, height: newHeight, right: [Float](repeating: 0, count: newWidth * newHeight),
        down: [Float](repeating: 0, count: newWidth * newHeight))
      if width == 0 { return out }
      for y in 0..<newHeight {
        let row = min(height - 1, y / 2) * width
        for x in 0..<newWidth {
          let i = row + min(width - 1, x / 2)
          out.right[y * newWidth + x] = 2 * right[i]
          out.down[y * newWidth + x] = 2 * down[i]
        }
      }
      return out
    }
  }

  private static func refine(_ flow: inout Field, from a: GreyPicture, to b: GreyPicture) {
    let (width, height, n) = (a.width, a.height, a.values.count)
    var gx = [Float](repeating: 0, count: n)
    var gy = gx
    for y in 0..<height {
      let (row, above, below) = (y * width, max(0, y - 1) * width, min(height - 1, y + 1) * width)
      for x in 0..<width {
        gx[row + x] = (a.values[row + min(width - 1, x + 1)] - a.values[row + max(0, x - 1)]) / 2
        gy[row + x] = (a.values[below + x] - a.values[above + x]) / 2
      }
    }
    var window = Window(width: width, height: height, radius: radius)
    var (xx, xy, yy) = (gx, gx, gx)
    for i in 0..<n {
      xx[i] = gx[i] * gx[i]
      xy[i] = gx[i] * gy[i]
      yy[i] = gy[i] * gy[i]
    }
    window.average(&xx)
    window.average(&xy)
    window.average(&yy)
    var (bx, by) = (gx, gx)
    let (right, bottom) = (Float(width - 1), Float(height - 1))
    for _ in 0..<iterations {
      for y in 0..<height {
        for x in 0..<width {
          let i = y * width + x
          let (u, v) = (flow.right[i], flow.down[i])
          let (px, py) = (Float(x) + u, Float(y) + v)
          var r = -(gx[i] * u + gy[i] * v)
          if px >= 0 && py >= 0 && px <= right && py <= bottom {
            let (x0, y0) = (min(Int(px), max(0, width - 2)), min(Int(py), max(0, height - 2)))
            let (fx, fy) = (px - Float(x0), py - Float(y0))
            let (p, q) = (y0 * width + x0, min(height - 1, y0 + 1) * width + x0)
            let step = width > 1 ? 1 : 0
            let upper = b.values[p] + fx * (b.values[p + step] - b.values[p])
            let lower = b.values[q] + fx * (b.values[q + step] - b.values[q])
            r += upper + fy * (lower - upper) - a.values[i]
          }
          bx[i] = gx[i] * r
          by[i] = gy[i] * r
        }
      }
      window.average(&bx)
      window.average(&by)
      window.average(&flow.right)
      window.average(&flow.down)
      for i in 0..<n {
        let (sx, sy) = (stiffness * flow.right[i] - bx[i], stiffness * flow.down[i] - by[i])
        let (axx, ayy) = (xx[i] + stiffness, yy[i] + stiffness)
        let determinant = axx * ayy - xy[i] * xy[i]
        flow.right[i] = (ayy * sx - xy[i] * sy) / determinant
        flow.down[i] = (axx * sy - xy[i] * sx) / determinant
      }
    }
  }

  /// Means over a square window that ends at the picture's border.
  private struct Window {
    let width: Int
    let height: Int
    let radius: Int
    private var columns: [Float]
    private var rows: [Float]

    init(width: Int, height: Int, radius: Int) {
      self.width = width
      self.height = height
      self.radius = radius
      columns = [Float](repeating: 0, count: width)
      rows = [Float](repeating: 0, count: width * height)
    }

    /// Replaces each value by its window's mean. Running sums in a fixed order.
    mutating func average(_ values: inout [Float]) {
      for y in 0..<height {
        let base = y * width
        var sum: Float = 0
        for x in 0..<min(radius, width) { sum += values[base + x] }
        for x in 0..<width {
          if x + radius < width { sum += values[base + x + radius] }
          if x > radius { sum -= values[base + x - radius - 1] }
          let count = min(width - 1, x + radius) - max(0, x - radius) + 1
          rows[base + x] = sum / Float(count)
        }
      }
      for x in 0..<width { columns[x] = 0 }
      for y in 0..<min(radius, height) {
        for x in 0..<width { columns[x] += rows[y * width + x] }
      }
      for y in 0..<height {
        if y + radius < height {
          let base = (y + radius) * width
          for x in 0..<width { columns[x] += rows[base + x] }
        }
        if y > radius {
          let base = (y - radius - 1) * width
          for x in 0..<width { columns[x] -= rows[base + x] }
        }
        let scale = 1 / Float(min(height - 1, y + radius) - max(0, y - radius) + 1)
        for x in 0..<width { values[y * width + x] = columns[x] * scale }
      }
    }
  }
}
