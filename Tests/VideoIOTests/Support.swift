import Foundation
import Testing
import VideoIO

/// A folder that is removed at the end of the test.
final class Scratch {
  let path: String

  init() throws {
    path = NSTemporaryDirectory() + "longtake-video-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func file(_ name: String) -> String { path + "/" + name }
  func exists(_ name: String) -> Bool { FileManager.default.fileExists(atPath: file(name)) }
  func bytes(_ name: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: file(name))) }
  func names(_ folder: String = "") throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: file(folder)).sorted()
  }
}

/// Smooth gradients that move, with a hard edge: like a video, and different in every frame.
func movingFrames(_ range: Range<Int>, width: Int = 64, height: Int = 48) -> [RGBFrame] {
  range.map { t in
    var pixels = [UInt8]()
    for y in 0..<height {
      for x in 0..<width {
        let inside = (x - 2 * t % width) * (x - 2 * t % width) + (y - height / 2) * (y - height / 2) < 100
        pixels.append(inside ? 230 : UInt8(40 + x * 150 / width))
        pixels.append(inside ? 60 : UInt8(40 + y * 150 / height))
        pixels.append(UInt8(60 + (t * 5) % 120))
      }
    }
    return RGBFrame(width: width, height: height, pixels: pixels)
  }
}

func settings(_ width: Int = 64, _ height: Int = 48, fps: String = "16") throws -> OutputSettings {
  OutputSettings(width: width, height: height, frameRate: try FrameRate(parsing: fps))
}

/// Runs a program; `nil` if it is not installed.
func run(_ program: String, _ arguments: [String]) throws -> (status: Int32, output: String)? {
  let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
  guard let path = folders.map({ $0 + "/" + program }).first(where: FileManager.default.isExecutableFile) else {
    return nil
  }
  let process = Process()
  process.executableURL = URL(fileURLWithPath: String(path))
  process.arguments = arguments
  let pipe = Pipe()
  process.standardOutput = pipe
  process.standardError = FileHandle.nullDevice
  try process.run()
  let data = pipe.fileHandleForReading.readDataToEndOfFile()
  process.waitUntilExit()
  return (process.terminationStatus, String(decoding: data, as: UTF8.self))
}

/// What ffprobe says about the video stream, with frames counted by decoding; `nil` where ffprobe is not installed.
func probe(_ path: String) throws -> [String: String]? {
  let entries =
    "stream=codec_name,pix_fmt,width,height,r_frame_rate,avg_frame_rate,nb_read_frames,color_space,color_primaries,"
    + "color_transfer,color_range,start_pts,sample_aspect_ratio:format_tags=comment,description"
  guard
    let result = try run(
      "ffprobe",
      [
        "-v", "error", "-count_frames", "-select_streams", "v", "-show_entries", entries, "-of", "default=nk=0:nw=1",
        path,
      ])
  else { return nil }
  #expect(result.status == 0, "ffprobe cannot read \(path)")
  var values: [String: String] = [:]
  for line in result.output.split(separator: "\n") {
    let parts = line.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    if parts.count == 2 { values[String(parts[0])] = String(parts[1]) }
  }
  return values
}
