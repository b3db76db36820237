// How the wide loop leaves a part or its results in a record (stripes.cuh).
#pragma once

#include "cuda/tile/stripes.cuh"
#include "cuda/tile/wide_shared.cuh"

namespace lowbit::cuda {

// Fragments as a thread of the wide loop has them, of rows of x that are there; `word`: of a value.
template <class T, class Word>
__device__ __forceinline__ void leave_words(StripeRecord* to, int32_t rows, int thread, const T (&values)[2][8][4],
                                            const Word& word) {
  const int fragments = StripeRecord::fragments(rows);
  uint4* words = to->words(0, thread);
#pragma unroll
  for (int q = 0; q < 8; ++q) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const T(&v)[4] = values[i][q];
      if (2 * q + i < fragments)
        words[(2 * q + i) * Wide::kThreads] = make_uint4(word(v[0]), word(v[1]), word(v[2]), word(v[3]));
    }
  }
}

// What the join takes beside sums: scales and zero points of the part.
template <class E>
__device__ __forceinline__ void leave_values(const GemmParams& p, StripeRecord* to, const WideScales& of, int thread) {
  to->w_scale[thread] = of.w[thread];
  if (p.x_scale_joins && thread < Wide::kRowsX) to->x_scale[thread] = of.x[thread];
  if constexpr (E::kInteger) {
    if (p.w.zero_is_float) {
      to->w_float_zero[thread] = of.w_zero[thread];
    } else if (p.w.has_zero) {
      to->w_zero[thread] = of.w_int[thread];
    }
    if (p.x.has_zero && thread < Wide::kRowsX) to->x_zero[thread] = of.x_int[thread];
  }
}

// Sums of bytes, those of w lifted, over the four lanes of a row; cleared.
__device__ __forceinline__ int32_t take_row_sum(int32_t& v) {
  int32_t sum = v + __shfl_xor_sync(0xffffffffu, v, 1);
  v = 0;
  return sum + __shfl_xor_sync(0xffffffffu, sum, 2);
}
__device__ __forceinline__ void leave_sums(StripeRecord* to, int lifted, int thread, int32_t (&w_sums)[2][2],
                                           int32_t (&x_sums)[2]) {
  const int warp = thread / 32, g = thread % 32 / 4;
  const bool first = thread % 4 == 0;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int32_t w_sum = take_row_sum(w_sums[i][h]) >> lifted;
      if (first) to->w_sum[32 * warp + 16 * i + 8 * h + g] = w_sum;
    }
    const int32_t x_sum = take_row_sum(x_sums[h]);
    if (first) to->x_sum[16 * warp + 8 * h + g] = x_sum;
  }
}

}  // namespace lowbit::cuda
