/// Memory that a backend owns. Only the backend that made it can look inside.
public protocol DeviceStorage: AnyObject, Sendable {}

/// A dense row-major float32 tensor in a backend's memory.
///
/// Operations return new tensors and never change their arguments, so a handle may be shared and kept; the storage goes
/// back to its backend with the last handle. How the numbers are kept there is the backend's secret.
public struct DeviceTensor: Sendable {
  /// Extents, last index fastest.
  public let shape: [Int]
  public let storage: any DeviceStorage

  public init(shape: [Int], storage: any DeviceStorage) {
    self.shape = shape
    self.storage = storage
  }

  /// Number of elements.
  public var count: Int { shape.reduce(1, *) }

  /// The same elements under another shape of the same count; nothing moves.
  public func reshaped(_ shape: [Int]) -> DeviceTensor {
    precondition(shape.reduce(1, *) == count, "\(self.shape) cannot be read as \(shape)")
    return DeviceTensor(shape: shape, storage: storage)
  }
}

/// Int32 indices in a backend's memory: row groups, gather lists, page slots. -1 stands for "none" and is never followed.
public struct DeviceIndices: Sendable {
  public let shape: [Int]
  public let storage: any DeviceStorage

  public init(shape: [Int], storage: any DeviceStorage) {
    self.shape = shape
    self.storage = storage
  }

  public var count: Int { shape.reduce(1, *) }
}

/// A linear layer's weight `[outputs, inputs]` and bias in the form that a backend reads fastest.
public struct LinearWeight: Sendable {
  public let inputs: Int
  public let outputs: Int
  public let storage: any DeviceStorage

  public init(inputs: Int, outputs: Int, storage: any DeviceStorage) {
    self.inputs = inputs
    self.outputs = outputs
    self.storage = storage
  }
}

/// A convolution's weight `[outputs, inputs, kernel.frames, kernel.rows, kernel.columns]` and bias, prepared by a backend.
public struct ConvolutionWeight: Sendable {
  public let inputs: Int
  public let outputs: Int
  /// Extent in time, height and width.
  public let kernel: (frames: Int, rows: Int, columns: Int)
  public let storage: any DeviceStorage

  public init(inputs: Int, outputs: Int, kernel: (frames: Int, rows: Int, columns: Int), storage: any DeviceStorage) {
    self.inputs = inputs
    self.outputs = outputs
    self.kernel = kernel
    self.storage = storage
  }
}
