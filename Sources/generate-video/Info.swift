import ArgumentParser
import Production
import WanModel

struct Info: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Say what a model folder holds and what it lacks. Reads headers only.")

  @Argument(help: "A model folder (default: the shipped model).")
  var folder: String?

  @Option(help: "A .safetensors file whose transformer replaces the folder's.")
  var checkpoint: String?

  @Flag(help: "One JSON object on standard output.")
  var json = false

  func run() throws {
    guard let path = folder ?? ModelFolder.shipped() else {
      throw UsageError("no model folder given, and the shipped model (weights/default) was not found")
    }
    let info = try ModelInfo(ModelFolder(path: path, checkpoint: checkpoint))
    print(json ? try Terminal.json(info, pretty: true) : info.text)
    if !info.isComplete { throw RunError("\(path): the model cannot be run as it is") }
  }
}
