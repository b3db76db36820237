// What the host plans with: sizes of the GEMM loops, kinds of instructions.
#pragma once

#include <cstdint>

namespace lowbit::cuda {

// tile/gemm_wide.cuh: rows of w and of x under a block
inline constexpr int kWideThreads = 128, kWideTile = 128, kWideColumns = 64;
// tile/gemm_narrow.cuh; kNarrowRows: rows of x up to which it is taken
inline constexpr int kNarrowWarps = 4, kNarrowTile = 16, kNarrowColumns = 16, kNarrowRows = 16;
// tile/binary_gemm.cuh: planes of rows of x under a block
inline constexpr int kBinaryColumns = 64;
inline constexpr int64_t kPartBytes = 2 * 896;  // of the sums of a part in the workspace, at most

// Block-scaled multiplies (mma.sync kind::mxf8f6f4, mxf4, mxf4nvf4) by the formats of w and x: scales are E8M0 of 32
// columns, of kNvFloat4 E4M3 of 16.
enum class BlockScaled : uint8_t {
  kNone,
  kE4M3E4M3,
  kE4M3E5M2,
  kE5M2E4M3,
  kE5M2E5M2,
  kE2M3,
  kE3M2,
  kMxFloat4,
  kNvFloat4
};

}  // namespace lowbit::cuda
