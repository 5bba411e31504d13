/// What becomes of the pages that a query skips.
public enum Compensation: String, Sendable, Codable, CaseIterable {
  /// Nothing: they do not exist for this query.
  case drop
  /// Each skipped page stays as one row in the same softmax: its mean key and mean value, with `ln n` added to the logit
  /// for its n tokens (PISA's zeroth order, SVG-EAR's compensation):
  ///
  ///     o = [ sum_read e^(s q.k) v + sum_skipped n e^(s q.K) V ] / [ sum_read e^(s q.k) + sum_skipped n e^(s q.K) ]
  ///
  /// Exact where keys and values are constant inside the skipped pages. Costs about 1/n of reading them.
  case centroidTail = "centroid"
}
