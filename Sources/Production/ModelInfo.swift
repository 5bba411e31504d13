import Compute
import Foundation
import Tensors
import WanModel

/// What a model folder holds, from configurations and headers alone: the answer of `info`.
public struct ModelInfo: Encodable, Sendable {
  public struct Part: Encodable, Sendable {
    public let part: String
    public let path: String
    public let tensors: Int
    public let parameters: Int
    public let bytes: Int
    /// Element types and how many tensors have each.
    public let dtypes: [String: Int]
    /// What is wrong with it; nil if it fits.
    public let problem: String?
  }

  public let name: String
  public let path: String
  public let hasSettings: Bool
  public let height: Int
  public let width: Int
  public let fps: Int
  public let layers: Int
  public let heads: Int
  public let headDim: Int
  public let feedForward: Int
  public let textWidth: Int
  public let chunkFrames: Int
  public let windowFrames: Int
  public let sinkFrames: Int
  public let trainedFrames: Int
  public let distilled: Bool
  /// Timesteps that a run takes by default.
  public let steps: [Double]
  public let autoencoder: String?
  public let parts: [Part]
  /// Recipes with weights of their own.
  public let lora: [String]
  public let missing: [String]
  public let warnings: [String]
  public let simd: String
  /// The precision of a run by default.
  public let precision: String
  /// What multiplies in each precision that this machine has, such as `oneDNN 2.6.3 brgemm:avx512_core_bf16`.
  public let kernels: [String: String]
  /// How a run keeps keys and values by default.
  public let kvFormat: String
  public let threads: Int

  public init(_ model: ModelFolder) throws {
    let (s, c) = (model.settings, model.transformer)
    name = s.name
    path = model.path
    hasSettings = model.hasSettings
    (height, width, fps) = (s.height, s.width, s.framesPerSecond)
    (layers, heads, headDim, feedForward, textWidth) = (c.layers, c.heads, c.headDim, c.feedForward, c.textWidth)
    (chunkFrames, windowFrames, sinkFrames, trainedFrames) = (
      s.chunkFrames, s.windowFrames, s.sinkFrames, s.trainedFrames
    )
    distilled = s.distilled
    let settings = try RunSettings(RunRequest(), model: model)
    steps = settings.rollout.schedule.timesteps
    kvFormat = settings.pages.rawValue
    autoencoder = model.autoencoder?.rawValue
    parts = [
      ModelInfo.part("transformer", model.transformerPath) { try model.checkTransformer($0) },
      ModelInfo.part("text_encoder", model.textEncoderPath) { try model.checkTextEncoder($0) },
      ModelInfo.part(s.autoencoder, model.autoencoderPath) { try model.checkAutoencoder($0) },
    ].compactMap { $0 }
    let recipes = (try? FileManager.default.contentsOfDirectory(atPath: model.path + "/lora")) ?? []
    lora = recipes.filter { $0.hasSuffix(".safetensors") }.map { String($0.dropLast(12)) }.sorted()
    missing = model.missing
    warnings = model.warnings
    simd = Host.simd
    precision = settings.precision.rawValue
    var kernels: [String: String] = [:]
    for precision in Precision.allCases where precision.isSupported {
      kernels[precision.rawValue] =
        precision.implementation.map { "\(Precision.library ?? "") \($0)" } ?? "OpenBLAS"
    }
    self.kernels = kernels
    threads = Host.physicalCores
  }

  /// Whether a run can use the folder.
  public var isComplete: Bool { missing.isEmpty && parts.allSatisfy { $0.problem == nil } }

  private static func part(_ name: String, _ path: String, check: (TensorArchive) throws -> Void) -> Part? {
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    do {
      let archive = try TensorArchive(path: path)
      var (parameters, bytes, dtypes) = (0, 0, [String: Int]())
      for tensor in archive.names {
        let (shape, dtype) = (archive.shape(of: tensor) ?? [], archive.dtype(of: tensor))
        let count = shape.reduce(1, *)
        parameters += count
        bytes += count * (dtype?.size ?? 0)
        dtypes[dtype?.rawValue ?? "?", default: 0] += 1
      }
      var problem: String?
      do { try check(archive) } catch { problem = "\(error)" }
      return Part(
        part: name, path: path, tensors: archive.names.count, parameters: parameters, bytes: bytes, dtypes: dtypes,
        problem: problem)
    } catch {
      return Part(part: name, path: path, tensors: 0, parameters: 0, bytes: 0, dtypes: [:], problem: "\(error)")
    }
  }
}
