// The table of one engine's kernels, by width of mma64 weights; 0: weights through registers.
#pragma once

#include "cuda/gemm.h"
#include "cuda/tile/gemm_narrow.cuh"
#include "cuda/tile/gemm_wide.cuh"

namespace lowbit::cuda {

template <class E, int kBits>
constexpr GemmKernels gemm_kernels() {
  return {gemm_wide<E, kBits>, gemm_narrow<E, kBits>, &WideShared<E, kBits>::bytes, &NarrowShared<E, kBits>::bytes};
}

template <class E>
const GemmKernels* integer_kernels(int bits) {
  static constexpr GemmKernels kTable[] = {gemm_kernels<E, 0>(), gemm_kernels<E, 1>(), gemm_kernels<E, 2>(),
                                           gemm_kernels<E, 3>(), gemm_kernels<E, 4>(), gemm_kernels<E, 5>(),
                                           gemm_kernels<E, 6>(), gemm_kernels<E, 7>(), gemm_kernels<E, 8>()};
  return &kTable[bits];
}

// Minifloats of 4, 6 and 8 bits.
template <class E>
const GemmKernels* float_kernels(int bits) {
  using F = FloatWeights<E>;
  static constexpr GemmKernels kTable[] = {gemm_kernels<F, 4>(), gemm_kernels<F, 6>(), gemm_kernels<F, 8>()};
  return &kTable[bits / 2 - 2];
}

}  // namespace lowbit::cuda
