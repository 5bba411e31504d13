// swift-tools-version: 6.1
import Foundation
import PackageDescription

// oneDNN makes bf16 and int8 possible and is optional: looked for when the package is read. LONGTAKE_ONEDNN=off builds
// without it even where it is installed.
let hasOneDNN =
  Context.environment["LONGTAKE_ONEDNN"] != "off"
  && ["/usr/include", "/usr/local/include"].contains { folder in
    FileManager.default.fileExists(atPath: folder + "/oneapi/dnnl/dnnl.h")
  }

// The modules stand in the order of docs/architecture.md: each imports only what stands above it.
let package = Package(
  name: "longtake",
  products: [
    .library(name: "Longtake", targets: ["Tensors", "Compute", "SparseAttention", "WanModel", "Rollout"]),
    .executable(name: "generate-video", targets: ["generate-video"]),
    .executable(name: "dump-frames", targets: ["dump-frames"]),
    .executable(name: "score-video", targets: ["score-video"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
    .package(url: "https://github.com/jpsim/Yams", "5.0.1"..<"7.0.0"),
  ],
  targets: [
    .systemLibrary(
      name: "CBLAS", pkgConfig: "openblas", providers: [.apt(["libopenblas-dev"])]),
    .systemLibrary(name: "CPNG", pkgConfig: "libpng", providers: [.apt(["libpng-dev"])]),
    .systemLibrary(
      name: "CLibAV", pkgConfig: "libavformat",
      providers: [.apt(["libavcodec-dev", "libavformat-dev", "libswscale-dev", "libavutil-dev"])]),
    // A target in C, not a system library: one file hides what differs between oneDNN 2.x and 3.x.
    .target(
      name: "COneDNN",
      cSettings: [.define("_GNU_SOURCE"), .define("LT_HAVE_ONEDNN", to: hasOneDNN ? "1" : "0")],
      linkerSettings: hasOneDNN ? [.linkedLibrary("dnnl")] : []),
    .target(name: "CKernels", cSettings: [.define("_GNU_SOURCE")]),
    .target(name: "Tensors"),
    .target(name: "Compute", dependencies: ["CBLAS", "CKernels", "COneDNN", "Tensors"]),
    .target(name: "SparseAttention", dependencies: ["Compute", "Tensors"]),
    .target(name: "WanModel", dependencies: ["SparseAttention", "Compute", "Tensors"]),
    .target(name: "Rollout", dependencies: ["WanModel", "SparseAttention", "Compute", "Tensors"]),
    .target(name: "VideoIO", dependencies: ["CLibAV", "CPNG", "Tensors"]),
    .target(
      name: "Production",
      dependencies: [
        "VideoIO", "Rollout", "WanModel", "SparseAttention", "Compute", "Tensors",
        .product(name: "Yams", package: "Yams"),
      ]),
    .target(name: "VideoQuality", dependencies: ["VideoIO", "Tensors"]),
    .target(
      name: "Programs",
      dependencies: ["VideoIO", .product(name: "ArgumentParser", package: "swift-argument-parser")]),
    .executableTarget(
      name: "generate-video",
      dependencies: [
        "Programs", "Production", "Rollout",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ]),
    .executableTarget(
      name: "dump-frames",
      dependencies: [
        "Programs", "VideoIO", "SparseAttention", "Tensors",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ]),
    .executableTarget(
      name: "score-video",
      dependencies: [
        "Programs", "VideoQuality", "VideoIO", .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ]),

    .testTarget(name: "TensorsTests", dependencies: ["Tensors"]),
    .testTarget(name: "ComputeTests", dependencies: ["Compute", "Tensors"]),
    .testTarget(name: "SparseAttentionTests", dependencies: ["SparseAttention", "Compute", "Tensors"]),
    .testTarget(
      name: "WanModelTests", dependencies: ["WanModel", "SparseAttention", "Compute", "Tensors"]),
    .testTarget(name: "RolloutTests", dependencies: ["Rollout", "WanModel", "SparseAttention", "Compute", "Tensors"]),
    .testTarget(name: "VideoIOTests", dependencies: ["VideoIO", "Tensors"]),
    .testTarget(
      name: "ProductionTests",
      dependencies: ["Production", "SparseAttention", "VideoIO", "Rollout", "WanModel", "Tensors"]),
    .testTarget(name: "VideoQualityTests", dependencies: ["VideoQuality", "VideoIO", "Tensors"]),
    .testTarget(name: "CommandLineTests", dependencies: ["VideoIO", "SparseAttention", "Tensors"]),
  ],
  swiftLanguageModes: [.v6],
  cLanguageStandard: .c11
)
