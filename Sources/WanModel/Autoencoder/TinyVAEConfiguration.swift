import Tensors

/// Sizes of a tiny autoencoder of the TAEHV architecture (`taew2_1` and models trained like it).
public struct TinyVAEConfiguration: Sendable, Equatable {
  /// Channels of the three decoder stages and of the last convolution's input, from latent resolution up.
  public var decoderWidths = [256, 128, 64, 64]
  /// Channels of the encoder, the same throughout.
  public var encoderWidth = 64
  /// Channels of a latent frame.
  public var latentChannels = 16
  /// Per latent channel, what the transformer calls 0; nil where the network works on the transformer's latents as they
  /// are (the published one does).
  public var mean: [Float]?
  /// Per latent channel, what the transformer calls 1.
  public var deviation: [Float]?

  /// `taew2_1`.
  public init() {}

  /// Reads the sizes off a checkpoint that comes without a `config.json`. Tensors that are missing leave the size of
  /// `taew2_1`, and are found missing when the weights are checked.
  public init(shapesOf weights: any WeightSource) {
    func extent(_ name: String, _ axis: Int, _ fallback: Int) -> Int {
      guard let shape = weights.shape(of: name), shape.count == 4, (1...1 << 16).contains(shape[axis]) else {
        return fallback
      }
      return shape[axis]
    }
    let stages = ["decoder.1.weight", "decoder.8.weight", "decoder.14.weight", "decoder.20.weight"]
    decoderWidths = zip(stages, decoderWidths).map { extent($0, 0, $1) }
    encoderWidth = extent("encoder.0.weight", 0, encoderWidth)
    latentChannels = extent("decoder.1.weight", 1, latentChannels)
  }

  /// Reads a `config.json`; sizes that it does not say are read off the checkpoint.
  ///
  /// - Throws: ``ModelError/configuration(path:problem:)``
  public init(path: String, shapesOf weights: any WeightSource) throws {
    let json = try ConfigurationFile(path: path)
    self.init(shapesOf: weights)
    try json.requireClass("TAEHV")
    guard try json.positive("patch_size", default: 1) == 1 else { throw json.problem("patch_size is not 1") }
    if let growth = try json.positives("temporal_grow"), growth != TinyVAE.growth {
      throw json.problem("temporal_grow is \(growth), only \(TinyVAE.growth) is supported")
    }
    decoderWidths = try json.positives("decoder_widths") ?? decoderWidths
    encoderWidth = try json.positive("encoder_width", default: encoderWidth)
    latentChannels = try json.positive("latent_channels", default: latentChannels)
    let sizes = decoderWidths + [encoderWidth, latentChannels]
    guard decoderWidths.count == 4, sizes.allSatisfy({ $0 <= 1 << 16 }) else {
      throw json.problem("decoder_widths are \(decoderWidths), wanted 4 numbers of channels")
    }
    guard let mean = try json.numbers("latents_mean"), let deviation = try json.numbers("latents_std") else { return }
    guard mean.count == latentChannels, deviation.count == latentChannels, deviation.allSatisfy({ $0 > 0 }) else {
      throw json.problem("latents_mean and latents_std want \(latentChannels) numbers each, the latter positive")
    }
    if mean.contains(where: { $0 != 0 }) || deviation.contains(where: { $0 != 1 }) {
      self.mean = mean.map { Float($0) }
      self.deviation = deviation.map { Float($0) }
    }
  }

  /// All tensors, under the one naming scheme that there is (`decoder.<place in the sequence>`).
  public var weightTable: WeightTable {
    var table = WeightTable(module: "a tiny autoencoder of widths \(decoderWidths)")
    func memory(_ name: String, _ n: Int) {
      table.addLayer("\(name).conv.0", [n, 2 * n, 3, 3])
      table.addLayer("\(name).conv.2", [n, n, 3, 3])
      table.addLayer("\(name).conv.4", [n, n, 3, 3])
    }
    let n = decoderWidths
    table.addLayer("decoder.1", [n[0], latentChannels, 3, 3])
    for (stage, growth) in TinyVAE.growth.enumerated() {
      let first = 3 + 6 * stage
      for i in 0..<3 { memory("decoder.\(first + i)", n[stage]) }
      table.add("decoder.\(first + 4).conv.weight", [n[stage] * growth, n[stage], 1, 1], keepsLastRows: true)
      table.addLayer("decoder.\(first + 5)", [n[stage + 1], n[stage], 3, 3], bias: false)
    }
    table.addLayer("decoder.22", [3, n[3], 3, 3])
    let w = encoderWidth
    table.addLayer("encoder.0", [w, 3, 3, 3])
    for (stage, pool) in TinyVAE.pooling.enumerated() {
      let first = 2 + 5 * stage
      table.add("encoder.\(first).conv.weight", [w, w * pool, 1, 1])
      table.addLayer("encoder.\(first + 1)", [w, w, 3, 3], bias: false)
      for i in 0..<3 { memory("encoder.\(first + 2 + i)", w) }
    }
    table.addLayer("encoder.17", [latentChannels, w, 3, 3])
    return table
  }
}
