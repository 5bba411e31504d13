/// The layers of the Wan 2.1 autoencoder in order, with their names under both schemes: what is loaded, what is run.
///
/// Tables: `diffusers` `autoencoder_kl_wan.py` (`WanEncoder3d`, `WanDecoder3d`) and Wan 2.1 `wan/modules/vae.py`.
struct WanVAELayout {
  /// One layer between the first and the last convolution of a half.
  struct Layer {
    enum Kind: Equatable {
      /// norm, SiLU, 3x3x3 convolution, twice, plus the input (through a 1x1x1 convolution where the width changes).
      case residual(Int, Int)
      /// Attention within each frame, one head.
      case attention(Int)
      /// Halves space; with `time`, also time.
      case down(Int, time: Bool)
      /// Doubles space, after time if `time`.
      case up(Int, Int, time: Bool)
    }
    let kind: Kind
    /// Name in `Wan2.1_VAE.pth`.
    let name: String
    /// Name in diffusers.
    let converted: String
  }

  /// One half of the network: `first` convolution, `layers`, norm and `last` convolution.
  struct Half {
    /// `encoder` or `decoder`.
    let name: String
    /// Channels that come in, after the first convolution, before the last one, and that go out.
    let input, head, tail, output: Int
    let layers: [Layer]
  }

  let encoder: Half
  let decoder: Half
  let latentChannels: Int

  init(_ c: WanVAEConfiguration) {
    latentChannels = c.latentChannels
    encoder = Self.encoder(c)
    decoder = Self.decoder(c)
  }

  private static func encoder(_ c: WanVAEConfiguration) -> Half {
    var layers: [Layer] = []
    var width = c.encoderBase
    func add(_ kind: Layer.Kind) {
      let n = layers.count
      layers.append(Layer(kind: kind, name: "encoder.downsamples.\(n)", converted: "encoder.down_blocks.\(n)"))
    }
    for (level, multiplier) in c.multipliers.enumerated() {
      let wanted = c.encoderBase * multiplier
      for _ in 0..<c.blocksPerLevel {
        add(.residual(width, wanted))
        width = wanted
      }
      if level < c.halvesTime.count { add(.down(width, time: c.halvesTime[level])) }
    }
    return Half(
      name: "encoder", input: 3, head: c.encoderBase, tail: width, output: 2 * c.latentChannels,
      layers: layers + middle("encoder", width))
  }

  private static func decoder(_ c: WanVAEConfiguration) -> Half {
    let head = c.decoderBase * (c.multipliers.last ?? 1)
    var layers = middle("decoder", head)
    let middleCount = layers.count
    var width = head
    for (level, multiplier) in c.multipliers.reversed().enumerated() {
      let wanted = c.decoderBase * multiplier
      let block = "decoder.up_blocks.\(level)"
      func add(_ kind: Layer.Kind, _ converted: String) {
        let n = layers.count - middleCount
        layers.append(Layer(kind: kind, name: "decoder.upsamples.\(n)", converted: "\(block).\(converted)"))
      }
      for i in 0...c.blocksPerLevel {
        add(.residual(width, wanted), "resnets.\(i)")
        width = wanted
      }
      if level < c.halvesTime.count {
        add(.up(width, width / 2, time: c.halvesTime.reversed()[level]), "upsamplers.0")
        width /= 2
      }
    }
    return Half(name: "decoder", input: c.latentChannels, head: head, tail: width, output: 3, layers: layers)
  }

  private static func middle(_ half: String, _ width: Int) -> [Layer] {
    [
      Layer(kind: .residual(width, width), name: "\(half).middle.0", converted: "\(half).mid_block.resnets.0"),
      Layer(kind: .attention(width), name: "\(half).middle.1", converted: "\(half).mid_block.attentions.0"),
      Layer(kind: .residual(width, width), name: "\(half).middle.2", converted: "\(half).mid_block.resnets.1"),
    ]
  }

  /// All tensors.
  var weightTable: WeightTable {
    var table = WeightTable(module: "the Wan 2.1 autoencoder of \(latentChannels) channels")
    for half in [encoder, decoder] {
      table.addLayer("\(half.name).conv1", converted: "\(half.name).conv_in", [half.head, half.input, 3, 3, 3])
      for layer in half.layers { Self.add(layer, to: &table) }
      table.add("\(half.name).head.0.gamma", converted: "\(half.name).norm_out.gamma", [half.tail, 1, 1, 1])
      table.addLayer("\(half.name).head.2", converted: "\(half.name).conv_out", [half.output, half.tail, 3, 3, 3])
    }
    let z = latentChannels
    table.addLayer("conv1", converted: "quant_conv", [2 * z, 2 * z, 1, 1, 1])
    table.addLayer("conv2", converted: "post_quant_conv", [z, z, 1, 1, 1])
    return table
  }

  private static func add(_ layer: Layer, to table: inout WeightTable) {
    let (name, converted) = (layer.name, layer.converted)
    switch layer.kind {
    case .residual(let input, let output):
      table.add("\(name).residual.0.gamma", converted: "\(converted).norm1.gamma", [input, 1, 1, 1])
      table.addLayer("\(name).residual.2", converted: "\(converted).conv1", [output, input, 3, 3, 3])
      table.add("\(name).residual.3.gamma", converted: "\(converted).norm2.gamma", [output, 1, 1, 1])
      table.addLayer("\(name).residual.6", converted: "\(converted).conv2", [output, output, 3, 3, 3])
      if input != output {
        table.addLayer("\(name).shortcut", converted: "\(converted).conv_shortcut", [output, input, 1, 1, 1])
      }
    case .attention(let width):
      table.add("\(name).norm.gamma", converted: "\(converted).norm.gamma", [width, 1, 1])
      table.addLayer("\(name).to_qkv", converted: "\(converted).to_qkv", [3 * width, width, 1, 1])
      table.addLayer("\(name).proj", converted: "\(converted).proj", [width, width, 1, 1])
    case .down(let width, let time):
      table.addLayer("\(name).resample.1", converted: "\(converted).resample.1", [width, width, 3, 3])
      if time { table.addLayer("\(name).time_conv", converted: "\(converted).time_conv", [width, width, 3, 1, 1]) }
    case .up(let input, let output, let time):
      table.addLayer("\(name).resample.1", converted: "\(converted).resample.1", [output, input, 3, 3])
      if time { table.addLayer("\(name).time_conv", converted: "\(converted).time_conv", [2 * input, input, 3, 1, 1]) }
    }
  }
}
