import Compute
import Tensors

/// The autoencoder of Wan 2.1 (`AutoencoderKLWan`): causal in time, 4 x 8 x 8 pixels per latent position.
///
/// Only names and shapes are checked here; a half is taken over by the backend when it is made.
public struct WanVAE {
  public let configuration: WanVAEConfiguration
  private let layout: WanVAELayout
  private let source: WanVAESource

  /// Checks the weights; headers are enough.
  ///
  /// - Throws: ``ModelError/weights(module:label:missing:extra:misshapen:)``
  public init(_ configuration: WanVAEConfiguration, weights source: any WeightSource, on backend: any Backend) throws {
    self.configuration = configuration
    layout = WanVAELayout(configuration)
    self.source = WanVAESource(weights: try layout.weightTable.check(source), backend: backend)
  }

  /// A decoder at the start of a stream.
  public func makeDecoder() throws -> WanVAEDecoder {
    // Copies that were made to pack the weights are not needed again.
    defer { source.backend.releaseUnusedMemory() }
    return try WanVAEDecoder(configuration, layout.decoder, source)
  }

  /// An encoder.
  public func makeEncoder() throws -> WanVAEEncoder { try WanVAEEncoder(configuration, layout.encoder, source) }
}
