// The instances of the half engine: m16n8k16, fp32 sums. Serves dequant_gemm of fp16 activations by weights that are
// exact in fp16.
#include "cuda/tile/gemm_instances.cuh"

namespace lowbit::cuda {

const GemmKernels* half_gemm_kernels(int bits, bool float_weights) {
  return float_weights ? float_kernels<HalfEngine>(bits) : integer_kernels<HalfEngine>(bits);
}

}  // namespace lowbit::cuda
