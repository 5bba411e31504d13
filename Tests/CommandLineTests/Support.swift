import Foundation

/// What a program said and how it ended.
struct ProgramResult {
  var status: Int32
  var output: Data
  var error: String
  var text: String { String(decoding: output, as: UTF8.self) }
}

/// The folder of the built programs: they lie beside the tests.
let programs = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath().deletingLastPathComponent()
/// The root of the repository.
let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent().path

/// A program about to run in `folder`.
func program(_ name: String, _ arguments: [String], in folder: String, environment: [String: String] = [:]) -> Process {
  let process = Process()
  process.executableURL = programs.appendingPathComponent(name)
  process.arguments = arguments
  process.currentDirectoryURL = URL(fileURLWithPath: folder)
  // What programs keep for later runs stays out of the user's folders.
  let cache = ["XDG_CACHE_HOME": NSTemporaryDirectory() + "longtake-test-cache"]
  process.environment = ProcessInfo.processInfo.environment.merging(cache) { $1 }.merging(environment) { $1 }
  return process
}

/// Runs a built program as a user would.
func runProgram(_ name: String, _ arguments: [String], in folder: String, environment: [String: String] = [:]) throws
  -> ProgramResult
{
  let process = program(name, arguments, in: folder, environment: environment)
  // Standard error goes to a file, so that a full pipe cannot stop the program.
  let log = NSTemporaryDirectory() + "longtake-log-\(UUID().uuidString)"
  _ = FileManager.default.createFile(atPath: log, contents: nil)
  defer { try? FileManager.default.removeItem(atPath: log) }
  let output = Pipe()
  process.standardOutput = output
  process.standardError = FileHandle(forWritingAtPath: log)
  try process.run()
  let data = output.fileHandleForReading.readDataToEndOfFile()
  process.waitUntilExit()
  let error = (try? String(contentsOfFile: log, encoding: .utf8)) ?? ""
  return ProgramResult(status: process.terminationStatus, output: data, error: error)
}

/// A folder that goes with the test.
final class Scratch: Sendable {
  let path = NSTemporaryDirectory() + "longtake-test-\(UUID().uuidString)"
  init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: path) }

  func file(_ name: String) -> String { path + "/" + name }
  func exists(_ name: String) -> Bool { FileManager.default.fileExists(atPath: file(name)) }
  func names(_ folder: String = "") throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: path + "/" + folder).sorted()
  }
}
