// The instances of the s4 engine: 4-bit codes by mma m16n8k64, exact. Serve 4-bit integer pairs without zero points, on
// sm_80 to sm_89.
#include "cuda/tile/gemm_instances.cuh"

namespace lowbit::cuda {
namespace {

template <bool kWeightSigned, bool kInputSigned>
const GemmKernels* kernels(int bits) {
  using E = Int4Engine<kWeightSigned, kInputSigned>;
  static constexpr GemmKernels kTable[] = {gemm_kernels<E, 0>(), gemm_kernels<E, 4>()};
  return &kTable[bits == 4];
}

}  // namespace

const GemmKernels* int4_gemm_kernels(int bits, bool w_signed, bool x_signed) {
  if (w_signed) return x_signed ? kernels<true, true>(bits) : kernels<true, false>(bits);
  return x_signed ? kernels<false, true>(bits) : kernels<false, false>(bits);
}

}  // namespace lowbit::cuda
