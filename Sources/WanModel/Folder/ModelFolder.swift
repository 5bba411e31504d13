import Compute
import Foundation
import Tensors

/// A model on disk in the diffusers layout: `transformer/ vae/ text_encoder/ tokenizer/`, with or without `longtake.json`.
///
/// Opening reads configurations only. Weights are read by the `load` functions, one part at a time, so that the text
/// encoder can leave before the transformer comes.
public struct ModelFolder: Sendable {
  /// The folder.
  public let path: String
  public let settings: ModelSettings
  /// Whether `longtake.json` was there.
  public let hasSettings: Bool
  public let transformer: TransformerConfiguration
  /// What the transformer's weights are read from: a folder, or the file given with `--checkpoint`.
  public let transformerPath: String
  /// Parts that are not there, with what is missing.
  public let missing: [String]

  /// Kinds of autoencoder, told apart by `_class_name`.
  public enum AutoencoderKind: String, Sendable {
    case wan = "AutoencoderKLWan"
    case tiny = "TAEHV"
  }
  /// nil if the folder has none that this engine knows.
  public let autoencoder: AutoencoderKind?

  public var textEncoderPath: String { path + "/text_encoder" }
  public var tokenizerPath: String { path + "/tokenizer/tokenizer.json" }
  public var autoencoderPath: String { path + "/" + settings.autoencoder }

  /// Opens a folder.
  ///
  /// - Parameter checkpoint: A safetensors file whose transformer takes the folder's place (Self-Forcing on Wan 2.1).
  /// - Throws: ``ModelError`` if there is no such folder, or no transformer in it.
  public init(path: String, checkpoint: String? = nil) throws {
    let path = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), isFolder.boolValue else {
      throw ModelError.folder(
        path: path, problem: "there is no such model folder; see weights/README.md for how to get one")
    }
    self.path = path
    let configuration = path + "/transformer/config.json"
    guard FileManager.default.fileExists(atPath: configuration) else {
      throw ModelError.folder(
        path: path,
        problem: "no transformer/config.json; a model folder has the diffusers layout "
          + "(transformer/ vae/ text_encoder/ tokenizer/), such as Wan-AI/Wan2.1-T2V-1.3B-Diffusers")
    }
    let settingsFile = path + "/longtake.json"
    if FileManager.default.fileExists(atPath: settingsFile) {
      settings = try ModelSettings(path: settingsFile)
      hasSettings = true
    } else {
      settings = ModelSettings()
      hasSettings = false
    }
    var transformer = try TransformerConfiguration(path: configuration)
    if let length = settings.textLength { transformer.textLength = length }
    self.transformer = transformer
    transformerPath = checkpoint ?? path + "/transformer"

    var missing: [String] = []
    func want(_ file: String, _ what: String) {
      if !FileManager.default.fileExists(atPath: file) { missing.append("\(what) (\(file))") }
    }
    want(transformerPath, "transformer weights")
    want(path + "/text_encoder/config.json", "text encoder")
    want(path + "/tokenizer/tokenizer.json", "tokenizer")
    let autoencoderFile = path + "/" + settings.autoencoder + "/config.json"
    var kind: AutoencoderKind?
    if FileManager.default.fileExists(atPath: autoencoderFile) {
      let name = try ConfigurationFile(path: autoencoderFile).value("_class_name") as? String ?? ""
      kind = AutoencoderKind(rawValue: name)
      if kind == nil {
        missing.append("autoencoder (\(autoencoderFile) has the class '\(name)'; known are AutoencoderKLWan and TAEHV)")
      }
    } else {
      missing.append("autoencoder (\(autoencoderFile))")
    }
    autoencoder = kind
    self.missing = missing
  }

  /// What a user should know before a run.
  public var warnings: [String] {
    hasSettings
      ? []
      : [
        "\(path) has no longtake.json: running it as a causal Self-Forcing model (480x832, 16 fps, chunks of 3); weights "
          + "do not show whether they are causal"
      ]
  }

  /// - Throws: ``ModelError/folder(path:problem:)`` naming all missing parts.
  public func requireComplete() throws {
    if !missing.isEmpty {
      throw ModelError.folder(path: path, problem: "the model lacks its \(missing.joined(separator: " and its "))")
    }
  }

  public func loadTokenizer() throws -> UnigramTokenizer { try UnigramTokenizer(path: tokenizerPath) }

  public func loadTextEncoder(on backend: any Backend) throws -> UMT5Encoder {
    let file = textEncoderPath + "/config.json"
    let configuration = try UMT5Configuration(path: file)
    guard configuration.width == transformer.textWidth else {
      throw ModelError.folder(
        path: path,
        problem: "the text encoder gives rows of \(configuration.width), the transformer wants \(transformer.textWidth)"
      )
    }
    // A run encodes one prompt: layers are prepared one by one and dropped, so that a large encoder needs little memory.
    return try UMT5Encoder(
      configuration, weights: try TensorArchive(path: textEncoderPath), on: backend, keepsWeights: false)
  }

  /// The file of a recipe's own weights, `lora/<recipe>.safetensors`; nil if the folder has none.
  public func additionPath(recipe: String) -> String? {
    let file = path + "/lora/\(recipe).safetensors"
    return FileManager.default.fileExists(atPath: file) ? file : nil
  }

  /// The transformer, with a recipe's own weights merged in if the folder has any.
  public func loadTransformer(recipe: String? = nil, on backend: any Backend) throws -> WanTransformer {
    let archive = try TensorArchive(path: transformerPath)
    guard let addition = recipe.flatMap({ additionPath(recipe: $0) }) else {
      return try WanTransformer(transformer, weights: archive, on: backend)
    }
    let merged = try LowRankWeights(archive, adding: TensorArchive(path: addition))
    return try WanTransformer(transformer, weights: merged, on: backend)
  }

  /// The decoder of the folder's autoencoder, at the start of a stream.
  public func loadDecoder(on backend: any Backend) throws -> any VideoDecoder {
    let file = autoencoderPath + "/config.json"
    let weights = try TensorArchive(path: autoencoderPath)
    let decoder: any VideoDecoder
    switch autoencoder {
    case .wan:
      decoder = try WanVAE(try WanVAEConfiguration(path: file), weights: weights, on: backend).makeDecoder()
    case .tiny:
      let configuration = try TinyVAEConfiguration(path: file, shapesOf: weights)
      decoder = try TinyVAE(configuration, weights: weights, on: backend).makeDecoder()
    case nil:
      throw ModelError.folder(path: path, problem: "no autoencoder in \(settings.autoencoder)/")
    }
    guard decoder.latentChannels == transformer.outputChannels else {
      throw ModelError.folder(
        path: path,
        problem: "the autoencoder has \(decoder.latentChannels) latent channels, the transformer "
          + "\(transformer.outputChannels)")
    }
    guard decoder.framesPerLatent == 4, decoder.pixelsPerLatent == 8 else {
      throw ModelError.folder(
        path: path,
        problem: "the autoencoder makes \(decoder.framesPerLatent) frames of \(decoder.pixelsPerLatent)x"
          + "\(decoder.pixelsPerLatent) pixels of a latent position; only 4 of 8x8 are supported")
    }
    return decoder
  }

  /// Latent frames that the folder's autoencoder makes of a clip; see ``VideoEncoder/latentFrames(of:)``.
  public func latentFrames(ofVideoFrames frames: Int) -> Int {
    autoencoder == .tiny ? TinyVAEEncoder.latentFrames(of: frames) : (frames - 1) / 4 + 1
  }

  /// The encoder of the folder's autoencoder, at the start of a stream.
  /// - Throws: ``ModelError``, for an autoencoder without an encoder too.
  public func loadEncoder(on backend: any Backend) throws -> any VideoEncoder {
    let file = autoencoderPath + "/config.json"
    let weights = try TensorArchive(path: autoencoderPath)
    switch autoencoder {
    case .wan: return try WanVAE(try WanVAEConfiguration(path: file), weights: weights, on: backend).makeEncoder()
    case .tiny:
      let configuration = try TinyVAEConfiguration(path: file, shapesOf: weights)
      return try TinyVAE(configuration, weights: weights, on: backend).makeEncoder()
    case nil: throw ModelError.folder(path: path, problem: "no autoencoder in \(settings.autoencoder)/")
    }
  }

  /// Compares weights with what the configurations ask for; headers are enough. Each throws
  /// ``ModelError/weights(module:label:missing:extra:misshapen:)``.
  public func checkTransformer(_ source: any WeightSource) throws { _ = try transformer.weightTable.check(source) }

  public func checkTextEncoder(_ source: any WeightSource) throws {
    _ = try UMT5Configuration(path: textEncoderPath + "/config.json").weightTable.check(source)
  }

  public func checkAutoencoder(_ source: any WeightSource) throws {
    let file = autoencoderPath + "/config.json"
    switch autoencoder {
    case .wan: _ = try WanVAEConfiguration(path: file).weightTable.check(source)
    case .tiny: _ = try TinyVAEConfiguration(path: file, shapesOf: source).weightTable.check(source)
    case nil: break
    }
  }

  /// The folder of the shipped model: `weights/default` in the working folder or above the program, or what
  /// `LONGTAKE_MODEL` says; nil if there is none.
  public static func shipped(program: String = CommandLine.arguments.first ?? "") -> String? {
    if let path = ProcessInfo.processInfo.environment["LONGTAKE_MODEL"], !path.isEmpty { return path }
    let executable = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? program
    var candidates = ["weights/default"]
    var folder = URL(fileURLWithPath: executable).deletingLastPathComponent()
    while folder.path != "/" {
      candidates.append(folder.appendingPathComponent("weights/default").path)
      folder.deleteLastPathComponent()
    }
    return candidates.first { FileManager.default.fileExists(atPath: $0 + "/transformer/config.json") }
  }
}
