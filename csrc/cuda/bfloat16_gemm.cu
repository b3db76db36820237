// The instances of the bfloat16 engine: m16n8k16, fp32 sums. Serves dequant_gemm and the float pairs of scaled_gemm.
#include "cuda/tile/gemm_instances.cuh"

namespace lowbit::cuda {

const GemmKernels* bfloat16_gemm_kernels(int bits, bool float_weights) {
  return float_weights ? float_kernels<BFloat16Engine>(bits) : integer_kernels<BFloat16Engine>(bits);
}

}  // namespace lowbit::cuda
