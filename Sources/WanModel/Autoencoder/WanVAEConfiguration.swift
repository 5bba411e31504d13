/// Sizes of the Wan 2.1 autoencoder; names as in the `config.json` of diffusers' `AutoencoderKLWan`.
public struct WanVAEConfiguration: Sendable, Equatable {
  /// Channels of the encoder at full resolution, before multipliers.
  public var encoderBase = 96
  /// The same of the decoder.
  public var decoderBase = 96
  /// Channels of a latent frame.
  public var latentChannels = 16
  /// Channels of each level as multiples of the base, from full resolution down.
  public var multipliers = [1, 2, 4, 4]
  /// Residual blocks of an encoder level; a decoder level has one more.
  public var blocksPerLevel = 2
  /// Whether the step from level i to i + 1 also halves time; all halve space.
  public var halvesTime = [false, true, true]
  /// Per latent channel: what the transformer calls 0.
  public var mean: [Float] = [
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517, -0.3632, -0.1922,
    -0.9497, 0.2503, -0.2921,
  ]
  /// Per latent channel: what the transformer calls 1.
  public var deviation: [Float] = [
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253,
    2.8251, 1.9160,
  ]

  /// The autoencoder of Wan 2.1 (`Wan2.1_VAE.pth`).
  public init() {}

  /// Video frames of every latent frame but the first.
  public var framesPerLatent: Int { halvesTime.reduce(1) { $1 ? 2 * $0 : $0 } }
  /// Pixels per latent position in height and width.
  public var pixelsPerLatent: Int { 1 << halvesTime.count }

  /// The tensors of `vae/` and of `Wan2.1_VAE.pth`: 194 for Wan 2.1.
  public var weightTable: WeightTable { WanVAELayout(self).weightTable }

  /// Reads the `config.json` of diffusers; what it does not say keeps the value of Wan 2.1.
  ///
  /// - Throws: ``ModelError/configuration(path:problem:)`` for sizes that do not fit each other, and for the variants of
  ///   the class that are other networks (Wan 2.2's residual one, attention at other levels).
  public init(path: String) throws {
    let json = try ConfigurationFile(path: path)
    self.init()
    try json.requireClass("AutoencoderKLWan")
    if json.value("is_residual") as? Bool == true || (json.value("patch_size") as? Int ?? 1) != 1 {
      throw json.problem("this is the autoencoder of Wan 2.2, another network; only that of Wan 2.1 is supported")
    }
    if try json.numbers("attn_scales")?.isEmpty == false {
      throw json.problem("attn_scales is not empty; attention outside the middle block is not supported")
    }
    for key in ["in_channels", "out_channels"] where try json.positive(key, default: 3) != 3 {
      throw json.problem("\(key) is not 3")
    }
    encoderBase = try json.positive("base_dim", default: encoderBase)
    decoderBase = try json.positive("decoder_base_dim", default: encoderBase)
    latentChannels = try json.positive("z_dim", default: latentChannels)
    multipliers = try json.positives("dim_mult") ?? multipliers
    blocksPerLevel = try json.positive("num_res_blocks", default: blocksPerLevel)
    halvesTime = try json.truths("temperal_downsample") ?? halvesTime
    mean = try json.numbers("latents_mean")?.map { Float($0) } ?? mean
    deviation = try json.numbers("latents_std")?.map { Float($0) } ?? deviation
    guard multipliers.count == halvesTime.count + 1 else {
      throw json.problem("dim_mult \(multipliers) and temperal_downsample \(halvesTime) do not fit each other")
    }
    guard decoderBase >= 2, max(encoderBase, decoderBase, latentChannels) <= 1 << 16, blocksPerLevel <= 64,
      halvesTime.count <= 8, multipliers.allSatisfy({ $0 <= 64 })
    else {
      throw json.problem(
        "absurd sizes: \(encoderBase) and \(decoderBase) channels by \(multipliers), \(blocksPerLevel) blocks a level")
    }
    guard mean.count == latentChannels, deviation.count == latentChannels, deviation.allSatisfy({ $0 > 0 }) else {
      throw json.problem("latents_mean and latents_std want \(latentChannels) numbers each, the latter positive")
    }
  }
}
