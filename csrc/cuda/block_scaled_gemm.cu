// The instances of the block-scaled engines: MXFP8, MXFP6, MXFP4 and NVFP4 pairs by mma.sync with the scales of their
// blocks, fp32 sums of at most 128 columns. Serve scaled_gemm on sm_12x.
#include "cuda/tile/gemm_instances.cuh"

namespace lowbit::cuda {
namespace {

template <BlockScaled kKind, int kBits>
const GemmKernels* kernels(int bits) {
  using E = BlockScaledEngine<kKind>;
  static constexpr GemmKernels kTable[] = {gemm_kernels<E, 0>(), gemm_kernels<E, kBits>()};
  return &kTable[bits == kBits];
}

}  // namespace

const GemmKernels* block_scaled_gemm_kernels(int bits, BlockScaled kind) {
  switch (kind) {
    case BlockScaled::kNone: break;
    case BlockScaled::kE4M3E4M3: return kernels<BlockScaled::kE4M3E4M3, 8>(bits);
    case BlockScaled::kE4M3E5M2: return kernels<BlockScaled::kE4M3E5M2, 8>(bits);
    case BlockScaled::kE5M2E4M3: return kernels<BlockScaled::kE5M2E4M3, 8>(bits);
    case BlockScaled::kE5M2E5M2: return kernels<BlockScaled::kE5M2E5M2, 8>(bits);
    case BlockScaled::kE2M3: return kernels<BlockScaled::kE2M3, 6>(bits);
    case BlockScaled::kE3M2: return kernels<BlockScaled::kE3M2, 6>(bits);
    case BlockScaled::kMxFloat4: return kernels<BlockScaled::kMxFloat4, 4>(bits);
    case BlockScaled::kNvFloat4: return kernels<BlockScaled::kNvFloat4, 4>(bits);
  }
  return nullptr;
}

}  // namespace lowbit::cuda
