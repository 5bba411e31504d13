import Foundation
import Production

/// The plan that `plan` prints for flags on the shipped model's folder.
func plan(detail: Bool = false, _ change: (inout RunRequest) -> Void) throws -> RunPlan {
  try RunPlan(RunSettings(request(change)), detail: detail)
}

/// A request of 512x768 pixels, 24 pages a frame, on the shipped model's folder.
func request(_ change: (inout RunRequest) -> Void) -> RunRequest {
  var request = RunRequest()
  request.model =
    URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "weights/default").path
  (request.height, request.width) = (512, 768)
  change(&request)
  return request
}

/// The line that refuses a request; nil if it is accepted.
func refusal(_ change: (inout RunRequest) -> Void) throws -> String? {
  do {
    _ = try RunSettings(request(change))
    return nil
  } catch let error as UsageError { return error.description }
}
