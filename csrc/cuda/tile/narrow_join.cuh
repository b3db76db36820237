// How the parts of an output join in the narrow loop: in the order of K, one output a thread (ref/gemm_args.h).
// Integers are summed modulo 2^64, as the reference does: any K, any bytes and any zero points give its bits.
#pragma once

#include <cstdint>

#include "cuda/tile/gemm_params.h"

namespace lowbit::cuda {

// What an output needs of a part of an integer product beside its sum of products of bytes.
struct PartSums {
  int32_t w_zero, x_zero;  // in the unit of the codes
  int32_t w_sum, x_sum;    // of bytes
  int32_t length;
};

struct NarrowJoin {
  float y = 0.0f;
  // of the segment that is not over: sum (cw - zw)(cx - zx), and sum (cx - zx) where zeros of w are floats
  uint64_t total = 0, x_total = 0;

  static __device__ __forceinline__ uint64_t wide(int64_t v) { return static_cast<uint64_t>(v); }

  __device__ __forceinline__ void add(const GemmParams& p, int32_t dot, const PartSums& v) {
    const uint64_t fw = wide(p.w.bytes.factor), fx = wide(p.x.bytes.factor);
    total += wide(dot) * (fw * fx);
    if (!p.w_sums && !p.x_sums) return;
    const uint64_t ow = wide(p.w.bytes.offset) + (wide(v.w_zero) << p.w.bytes.shift);
    const uint64_t ox = wide(p.x.bytes.offset) + (wide(v.x_zero) << p.x.bytes.shift);
    const uint64_t x_sum = fx * wide(v.x_sum) - wide(v.length) * ox;
    total -= ow * x_sum + fw * ox * wide(v.w_sum);
    if (p.w.zero_is_float) x_total += x_sum;
  }
  // The segment is over. Raw sums are words: they may be closed after any part.
  __device__ __forceinline__ void close(const GemmParams& p, float scale, float w_float_zero) {
    if (p.raw) {
      y = from_bits(to_bits(y) + static_cast<uint32_t>(total));
    } else {
      y = __fmaf_rn(__ll2float_rn(static_cast<int64_t>(total)), scale, y);
      if (p.w.zero_is_float) {
        y = __fmaf_rn(__ll2float_rn(static_cast<int64_t>(x_total)), -(scale * w_float_zero), y);
      }
    }
    total = x_total = 0;
  }
};

}  // namespace lowbit::cuda
