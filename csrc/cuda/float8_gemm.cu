// The instances of the FP8 engines: codes by mma m16n8k32, fp32 sums of at most 128 products. Serve scaled_gemm where
// both operands are FP8, on sm_89 and sm_12x.
#include "cuda/tile/gemm_instances.cuh"

namespace lowbit::cuda {
namespace {

template <bool kWeightE5M2, bool kInputE5M2>
const GemmKernels* kernels(int bits) {
  using E = Float8Engine<kWeightE5M2, kInputE5M2>;
  static constexpr GemmKernels kTable[] = {gemm_kernels<E, 0>(), gemm_kernels<E, 8>()};
  return &kTable[bits == 8];
}

}  // namespace

const GemmKernels* float8_gemm_kernels(int bits, bool w_e5m2, bool x_e5m2) {
  if (w_e5m2) return x_e5m2 ? kernels<true, true>(bits) : kernels<true, false>(bits);
  return x_e5m2 ? kernels<false, true>(bits) : kernels<false, false>(bits);
}

}  // namespace lowbit::cuda
