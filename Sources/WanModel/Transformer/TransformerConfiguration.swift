import Foundation

/// The sizes of a Wan transformer.
public struct TransformerConfiguration: Sendable, Equatable {
  public var layers: Int
  public var heads: Int
  /// Width of one head: 128 in every published model.
  public var headDim: Int
  /// Hidden width of the feed-forward layers.
  public var feedForward: Int
  public var inputChannels = 16
  public var outputChannels = 16
  /// Width of the text encoder's rows.
  public var textWidth = 4096
  /// Rows of the text context; shorter prompts are padded with zero rows, which are attended.
  public var textLength = 512
  /// Numbers of the time sinusoid.
  public var frequencies = 256
  /// Of all norms.
  public var epsilon: Float = 1e-6

  public init(layers: Int, heads: Int, headDim: Int = 128, feedForward: Int) {
    self.layers = layers
    self.heads = heads
    self.headDim = headDim
    self.feedForward = feedForward
  }

  /// Model width.
  public var width: Int { heads * headDim }

  /// Wan 2.1 T2V 1.3B: also Self-Forcing, Causal Forcing, LongLive 1.
  public static let wan1B = TransformerConfiguration(layers: 30, heads: 12, feedForward: 8960)
  /// Wan 2.1 T2V 14B: also Krea realtime.
  public static let wan14B = TransformerConfiguration(layers: 40, heads: 40, feedForward: 13824)

  /// Reads `config.json` of diffusers or of the original repositories.
  /// - Throws: ``ModelError/configuration(path:problem:)``.
  public init(path: String) throws {
    let json = try ConfigurationFile(path: path)
    if json.value("num_attention_heads") != nil {
      self.init(
        layers: try json.positive("num_layers"), heads: try json.positive("num_attention_heads"),
        headDim: try json.positive("attention_head_dim"), feedForward: try json.positive("ffn_dim"))
      textWidth = try json.positive("text_dim")
      inputChannels = try json.positive("in_channels")
      outputChannels = try json.positive("out_channels", default: inputChannels)
      if json.value("image_dim") != nil || json.value("added_kv_proj_dim") != nil {
        throw json.problem("image-to-video models with a CLIP branch are not supported; use a text-to-video model")
      }
      if let patch = json.value("patch_size") as? [Int], patch != [1, 2, 2] {
        throw json.problem("patch_size is \(patch), wanted [1, 2, 2]")
      }
      if let norm = json.value("qk_norm") as? String, norm != "rms_norm_across_heads" {
        throw json.problem("qk_norm is '\(norm)', wanted 'rms_norm_across_heads'")
      }
    } else {
      let width = try json.positive("dim")
      let heads = try json.positive("num_heads")
      guard width % heads == 0 else { throw json.problem("dim \(width) is not a multiple of num_heads \(heads)") }
      self.init(
        layers: try json.positive("num_layers"), heads: heads, headDim: width / heads,
        feedForward: try json.positive("ffn_dim"))
      inputChannels = try json.positive("in_dim", default: 16)
      outputChannels = try json.positive("out_dim", default: 16)
      textLength = try json.positive("text_len", default: 512)
    }
    frequencies = try json.positive("freq_dim", default: 256)
    if let value = json.value("eps") as? Double { epsilon = Float(value) }
    guard headDim % 2 == 0, headDim >= 6, headDim <= 4096, layers <= 4096, heads <= 4096, heads * headDim <= 1 << 17,
      feedForward <= 1 << 20
    else {
      throw json.problem("absurd sizes: \(layers) layers, \(heads) heads of \(headDim), ffn \(feedForward)")
    }
  }
}

/// A JSON object in a file, read key by key with errors that name the file.
struct ConfigurationFile {
  let path: String
  private let object: [String: Any]

  init(path: String) throws {
    self.path = path
    guard let data = FileManager.default.contents(atPath: path) else {
      throw ModelError.configuration(path: path, problem: "cannot be read")
    }
    guard let object = (try? JSONSerialization.jsonObject(with: data)) as? [String: Any] else {
      throw ModelError.configuration(path: path, problem: "is not a JSON object")
    }
    self.object = object
  }

  func problem(_ text: String) -> ModelError { .configuration(path: path, problem: text) }

  /// The value of a key; nil for none and for null.
  func value(_ key: String) -> Any? {
    let value = object[key]
    return value is NSNull ? nil : value
  }

  /// A whole number of at least 1.
  func positive(_ key: String, default standard: Int? = nil) throws -> Int {
    guard let value = value(key) else {
      if let standard { return standard }
      throw problem("'\(key)' is missing")
    }
    guard let number = value as? Int, number >= 1, number < 1 << 31 else {
      throw problem("'\(key)' is \(value), wanted a whole number from 1")
    }
    return number
  }
}
