// Sizes of the GEMM loops that the host plans with.
#pragma once

#include <cstdint>

namespace lowbit::cuda {

// tile/gemm_wide.cuh: rows of w and of x under a block
inline constexpr int kWideThreads = 128, kWideTile = 128, kWideColumns = 64;
// tile/gemm_narrow.cuh; rows of x up to which it is taken: it reads w once for each eight, from L2 after the first
inline constexpr int kNarrowWarps = 4, kNarrowTile = 16, kNarrowColumns = 8, kNarrowRows = 16;
// tile/binary_gemm.cuh: planes of rows of x under a block
inline constexpr int kBinaryColumns = 64;
inline constexpr int64_t kPartBytes = 880;  // of a record in the workspace

}  // namespace lowbit::cuda
