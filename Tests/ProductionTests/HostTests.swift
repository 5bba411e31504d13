import Production
import Testing

@Suite struct HostTests {
  @Test("The process knows its cores, its memory and its age") func theProcessKnowsItsCoresItsMemory() {
    #expect(Host.physicalCores >= 1)
    #expect(Host.processSeconds > 0)
    let memory = Host.memory
    #expect(memory.peak >= memory.resident && memory.resident > 1 << 20, "\(memory)")
    #expect(["avx512-bf16", "avx512", "avx2", "baseline"].contains(Host.simd))
  }

  @Test(
    "Two threads of a core count once, and a machine that numbers all of its processors alike is not believed",
    arguments: [(8, 4, 8, 4), (8, 8, 8, 8), (8, 4, 3, 3), (32, 2, 32, 32), (2, 1, 2, 1), (4, 0, 4, 4), (0, 0, 0, 1)])
  func twoThreadsOfACoreCountOnce(processors: Int, cores: Int, allowed: Int, counted: Int) {
    let lines = (0..<processors).flatMap { i in
      ["processor\t: \(i)", "physical id\t: 0"] + (cores > 0 ? ["core id\t\t: \(i % cores)", "flags\t\t: fpu"] : [])
    }
    #expect(Host.physicalCores(in: lines, allowed: allowed) == counted)
  }

  @Test(
    "Times read naturally",
    arguments: [(0.4, "0.4 s"), (41.2, "41 s"), (185.0, "3 min 05 s"), (7800.0, "2 h 10 min"), (.nan, "?")])
  func timesReadNaturally(seconds: Double, text: String) { #expect(Format.time(seconds) == text) }

  @Test("Sizes read naturally", arguments: [(512, "512 B"), (293_000_000, "293 MB"), (5_800_000_000, "5.8 GB")])
  func sizesReadNaturally(bytes: Int, text: String) { #expect(Format.bytes(bytes) == text) }
}
