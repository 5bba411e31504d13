import Compute
import Foundation
import SparseAttention
import Tensors
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// What is noted for inspection, against a recomputation from the inputs alone.
@Suite struct AttentionRecordTests {
  private typealias F = PassFixture

  @Test("The pages, lists and masses noted are those recomputed from queries and keys")
  func thePagesListsAndMassesNotedAre() throws {
    var random = RandomNumbers()
    let blocks = PersistentBlocks(capacityFrames: 3, localWindow: 6, sink: 1)
    let fixture = F(backend: CPUBackend(threads: 2))
    let memory = try fixture.memory(.sparseForcing(SparseForcing(blocks: blocks, density: 0.4)))
    memory.record(
      AttentionSelection(chunks: [1...1, 3...Int.max], layers: [0, 2], heads: [1], passes: [.step(1), .clean]))
    // Mean keys of the clean passes, `[layer][page]`, of head 1.
    var history = [[PageID: [Double]]](repeating: [:], count: F.layers)
    for chunk in 0..<6 {
      memory.begin(frames: 3)
      let ids = memory.geometry.pageIDs(firstFrame: 3 * chunk, frames: 3)
      let resident = (0..<F.layers).map { memory.table.resident(layer: $0, head: 1).map(\.id) }
      _ = fixture.pass(memory, F.Inputs(&random))
      memory.step = 1
      let noisy = fixture.pass(memory, F.Inputs(&random))
      let clean = fixture.pass(memory, F.Inputs(&random), clean: true)
      let record = memory.takeRecord()
      memory.seal()
      for layer in 0..<F.layers {
        for (p, id) in ids.enumerated() { history[layer][id] = F.mean(clean.keys[layer], tile: p, head: 1) }
      }
      guard chunk == 1 || chunk >= 3 else {
        #expect(record == nil, "chunk \(chunk) was not asked for")
        continue
      }
      let found = try #require(record)
      #expect(found.chunk == chunk && found.firstFrame == 3 * chunk && found.frames == 3)
      #expect(found.heads.map(\.layer) == [0, 2] && found.heads.allSatisfy { $0.head == 1 })
      for head in found.heads {
        let pages = resident[head.layer]
        #expect(head.pages == pages)
        let persistent = pages.count { $0.frame < 3 * chunk + 3 - 6 }
        #expect(head.persistent == persistent)
        #expect(Set(head.passes.keys) == [.step(1), .clean])
        for (pass, inputs) in [(AttentionSelection.Pass.step(1), noisy), (.clean, clean)] {
          let reading = try #require(head.passes[pass])
          // The chunk's own keys are those of the pass.
          var keys = history[head.layer]
          for (p, id) in ids.enumerated() { keys[id] = F.mean(inputs.keys[head.layer], tile: p, head: 1) }
          var mass = [Double](repeating: 0, count: pages.count)
          for tile in 0..<9 {
            let query = F.mean(inputs.queries[head.layer], tile: tile, head: 1)
            let scores = pages.map { id in F.dot(query, keys[id] ?? []) }
            let weights = scores.map { exp(0.6 * $0) }
            for (p, w) in weights.enumerated() { mass[p] += w / weights.reduce(0, +) }
            // All persistent pages, and the best 0.4 of the others.
            let local = scores.indices.dropFirst(persistent)
            let best = local.sorted { scores[$0] > scores[$1] }.prefix(Int((0.4 * Double(local.count)).rounded(.up)))
            if let reads = reading.reads {
              let read = Set(reads[tile].indices.filter { reads[tile][$0] })
              #expect(
                read == Set(best).union(0..<persistent), "chunk \(chunk), \(pass), tile \(tile), seed \(random.seed)")
            }
          }
          // The last layer of a clean pass computes no attention, and still has a mass.
          #expect((reading.reads == nil) == (pass == .clean && head.layer == 2))
          #expect(reading.mass.count == pages.count)
          for (a, b) in zip(reading.mass, mass) {
            #expect(abs(Double(a) - b) < 1e-4, "chunk \(chunk), \(pass): \(a), not \(b), seed \(random.seed)")
          }
          #expect(abs(reading.mass.reduce(0, +) - 9) < 1e-4)
        }
      }
    }
  }

  @Test("To be looked at changes nothing") func toBeLookedAtChangesNothing() throws {
    let random = RandomNumbers()
    let fixture = F(backend: CPUBackend(threads: 2))
    var light = SparsityRecipe.lightForcing(LightForcing(growth: ChunkAwareGrowth(target: 0.6, base: 0.8)))
    light.tail = .centroidTail
    for recipe in [SparsityRecipe.sparseForcing(positions: .window), light, .dense()] {
      func run(recorded: Bool) throws -> (outputs: [[Float]], records: Int) {
        var numbers = RandomNumbers(seed: random.seed)
        let memory = try fixture.memory(recipe, total: 15)
        if recorded {
          memory.record(AttentionSelection(layers: [0, 1, 2], heads: [0, 1], passes: [.step(0), .clean]))
        }
        var (outputs, records) = ([[Float]](), 0)
        for _ in 0..<5 {
          memory.begin(frames: 3)
          outputs += fixture.pass(memory, F.Inputs(&numbers)).outputs
          outputs += fixture.pass(memory, F.Inputs(&numbers), clean: true).outputs
          records += memory.takeRecord() == nil ? 0 : 1
          memory.seal()
        }
        return (outputs, records)
      }
      let (plain, seen) = (try run(recorded: false), try run(recorded: true))
      #expect(plain.outputs == seen.outputs && plain.records == 0 && seen.records == 5, "\(recipe.name)")
    }
  }

  @Test("A record comes back from its file as it was, whole or in part") func aRecordComesBackFromItsFile() throws {
    var random = RandomNumbers()
    let fixture = F(backend: CPUBackend(threads: 1))
    let memory = try fixture.memory(
      .sparseForcing(SparseForcing(blocks: PersistentBlocks(capacityFrames: 3, sink: 0))))
    memory.record(AttentionSelection(layers: [0, 1, 2], heads: [0, 1], passes: [.step(0), .clean]))
    let path = NSTemporaryDirectory() + "longtake-attention-\(UUID().uuidString).safetensors"
    defer { try? FileManager.default.removeItem(atPath: path) }
    for _ in 0..<5 {
      memory.begin(frames: 3)
      _ = fixture.pass(memory, F.Inputs(&random))
      _ = fixture.pass(memory, F.Inputs(&random), clean: true)
      let record = try #require(memory.takeRecord())
      memory.seal()
      try record.write(to: path)
      #expect(try AttentionRecord(path: path) == record, "seed \(random.seed)")
      let part = record.part(layers: [1], heads: [0], passes: [.clean])
      #expect(part.heads.count == 1 && part.passes == [.clean])
      try part.write(to: path)
      #expect(try AttentionRecord(path: path) == part)
    }
  }

  @Test("A file that is no record is refused by what it lacks") func aFileThatIsNoRecordIs() throws {
    let path = NSTemporaryDirectory() + "longtake-attention-\(UUID().uuidString).safetensors"
    defer { try? FileManager.default.removeItem(atPath: path) }
    try SafetensorsWriter.write([("latents", Tensor([Float](repeating: 0, count: 4), shape: [4]))], to: path)
    #expect(
      throws: TensorError(
        .malformedHeader, path: path, "no record of attention: 'chunk' is not in its metadata")
    ) { try AttentionRecord(path: path) }
    let metadata = [
      "chunk": "0", "first_frame": "0", "frames": "3", "grid": "2x3", "tile": "1x2x1", "recipe": "dense",
    ]
    func tensors(frame: Int32) -> [(String, Tensor)] {
      [
        ("layers", Tensor([Int32(0)], shape: [1])), ("heads", Tensor([Int32(0)], shape: [1])),
        ("persistent", Tensor([Int32(0)], shape: [1, 1])), ("pages", Tensor([frame, 0], shape: [1, 1, 1, 2])),
        ("mass.0", Tensor([Float(9)], shape: [1, 1, 1])),
      ]
    }
    try SafetensorsWriter.write(tensors(frame: 0), metadata: metadata, to: path)
    #expect(throws: TensorError.self) { try AttentionRecord(path: path) }
    let reads = ("reads.0", Tensor([UInt8](repeating: 1, count: 9), shape: [1, 1, 9, 1]))
    try SafetensorsWriter.write(tensors(frame: 0) + [reads], metadata: metadata, to: path)
    #expect(try AttentionRecord(path: path).heads[0].passes[.step(0)]?.readShare == [1])
    // A page of the future.
    try SafetensorsWriter.write(tensors(frame: 3) + [reads], metadata: metadata, to: path)
    #expect(throws: TensorError.self) { try AttentionRecord(path: path) }
  }
}
