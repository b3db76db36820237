// The instances of the int8 engine: bytes by mma m16n8k32, exact. Serves every integer pair of bitplane_gemm and
// scaled_gemm.
#include "cuda/tile/gemm_instances.cuh"

namespace lowbit::cuda {

const GemmKernels* int8_gemm_kernels(int bits, bool float_weights) {
  static constexpr GemmKernels kE2M1 = gemm_kernels<FloatWeights<Int8Engine>, 4>();
  return float_weights ? &kE2M1 : integer_kernels<Int8Engine>(bits);
}

}  // namespace lowbit::cuda
