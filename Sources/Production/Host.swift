import Compute
import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// What this machine and this process are.
public enum Host {
  /// Cores that this process may use, two hardware threads of one core counted once.
  public static let physicalCores = physicalCores(
    in: lines("/proc/cpuinfo"), allowed: ProcessInfo.processInfo.activeProcessorCount)

  /// - Parameters:
  ///   - information: Lines of `/proc/cpuinfo`. A virtual machine may give many processors one core's number: more than
  ///     two for each are not believed.
  ///   - allowed: Processors that may be used.
  public static func physicalCores(in information: [String], allowed: Int) -> Int {
    var cores = Set<String>()
    var (package, processors) = ("", 0)
    for line in information {
      let parts = line.split(separator: ":", maxSplits: 1).map { $0.trimmingCharacters(in: .whitespaces) }
      guard parts.count == 2 else { continue }
      if parts[0] == "processor" { processors += 1 }
      if parts[0] == "physical id" { package = parts[1] }
      if parts[0] == "core id" { cores.insert("\(package).\(parts[1])") }
    }
    return max(1, cores.isEmpty || processors > 2 * cores.count ? allowed : min(allowed, cores.count))
  }

  /// The instruction set that the kernels use here.
  public static var simd: String { CPUBackend.simdLevel }

  /// The file of this program.
  static let program =
    (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]

  /// The processor's name.
  public static var processor: String {
    for line in lines("/proc/cpuinfo") where line.hasPrefix("model name") {
      if let name = line.split(separator: ":", maxSplits: 1).last { return name.trimmingCharacters(in: .whitespaces) }
    }
    return "unknown"
  }

  /// Resident memory of this process in bytes, now and at its highest.
  public static var memory: (resident: Int, peak: Int) {
    // Read at once: two reads could see a peak from before and a size from after.
    let status = lines("/proc/self/status")
    func value(_ key: String) -> Int {
      let line = status.first { $0.hasPrefix(key + ":") } ?? ""
      return (Int(line.filter(\.isNumber)) ?? 0) * 1024
    }
    // The kernel updates the high-water mark lazily.
    let resident = value("VmRSS")
    return (resident, max(resident, value("VmHWM")))
  }

  /// Seconds since this process began, program load included.
  public static var processSeconds: Double {
    guard let uptime = lines("/proc/uptime").first?.split(separator: " ").first.flatMap({ Double($0) }),
      let stat = lines("/proc/self/stat").first, let name = stat.lastIndex(of: ")")
    else { return 0 }
    let fields = stat[stat.index(after: name)...].split(separator: " ")
    // Field 22 of proc(5), the third after the name being field 3.
    guard fields.count > 19, let ticks = Double(fields[19]) else { return 0 }
    return max(0, uptime - ticks / Double(sysconf(Int32(_SC_CLK_TCK))))
  }

  /// Programs that wanted to run in the last minute, on average.
  static var load: Double {
    lines("/proc/loadavg").first?.split(separator: " ").first.flatMap { Double($0) } ?? 0
  }

  /// Seconds that the threads of this process have computed, all together.
  static var processorSeconds: Double {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }

  private static func lines(_ path: String) -> [String] {
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { return [] }
    return text.split(separator: "\n").map(String.init)
  }
}

/// This program.
public enum Engine {
  public static let name = "longtake"
  public static let version = "0.1.0"
}
