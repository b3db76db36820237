// What multiplies: the tensor-core instructions as engines of the GEMM loops. A step of 64 slots of one row is
// kRowBytes bytes: 64 signed bytes or FP8 codes, or 64 16-bit floats.
#pragma once

#include <cstdint>

#include "cuda/ptx/convert.cuh"
#include "cuda/ptx/mma.cuh"
#include "cuda/tile/values.cuh"

namespace lowbit::cuda {

// Signed bytes, exact.
struct Int8Engine {
  using Sum = int32_t;
  static constexpr bool kInteger = true, kBytes = true, kHalf = false;
  static constexpr int kRowBytes = 64;
  static __device__ __forceinline__ void multiply(Sum (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    ptx::mma_m16n8k32_s8s8(d, a, b);
  }
};

// 16-bit floats, fp32 sums.
template <bool kIsHalf>
struct FloatEngine {
  using Sum = float;
  static constexpr bool kInteger = false, kBytes = false, kHalf = kIsHalf;
  static constexpr int kRowBytes = 128;
  static __device__ __forceinline__ void multiply(Sum (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    if constexpr (kHalf) {
      ptx::mma_m16n8k16_f16(d, a, b);
    } else {
      ptx::mma_m16n8k16_bf16(d, a, b);
    }
  }
  // The leading part of v as 16 bits, and v less it. Halves are only used where v is one. bfloat16: the top 16 bits, so
  // that nothing overflows and three parts are all 24 bits of a float; infinities and NaN have no rest.
  static __device__ __forceinline__ uint32_t take(float& v) {
    if constexpr (kHalf) {
      return f16_of(v);
    } else {
      uint32_t top = to_bits(v) >> 16;
      if (v != v) top |= 0x40u;
      const float rest = v - bf16_value(top);
      v = is_finite(v) ? rest : 0.0f;
      return top;
    }
  }
};
// FP8 codes, fp32 sums. Where an architecture has no such instruction its kernels are empty and are not chosen.
template <bool kWeightE5M2, bool kInputE5M2>
struct Float8Engine {
  using Sum = float;
  static constexpr bool kInteger = false, kBytes = true, kHalf = false;
  static constexpr int kRowBytes = 64;
  static __device__ __forceinline__ void multiply(Sum (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if LOWBIT_HAS_FP8_MMA
    if constexpr (kWeightE5M2 && kInputE5M2) {
      ptx::mma_m16n8k32_e5m2e5m2(d, a, b);
    } else if constexpr (kWeightE5M2) {
      ptx::mma_m16n8k32_e5m2e4m3(d, a, b);
    } else if constexpr (kInputE5M2) {
      ptx::mma_m16n8k32_e4m3e5m2(d, a, b);
    } else {
      ptx::mma_m16n8k32_e4m3e4m3(d, a, b);
    }
#endif
  }
};

// Whether the architecture being compiled for has the engine's instruction.
template <class E>
constexpr bool is_native() {
  return true;
}
#if !LOWBIT_HAS_FP8_MMA
template <>
constexpr bool is_native<Float8Engine<false, false>>() {
  return false;
}
template <>
constexpr bool is_native<Float8Engine<false, true>>() {
  return false;
}
template <>
constexpr bool is_native<Float8Engine<true, false>>() {
  return false;
}
template <>
constexpr bool is_native<Float8Engine<true, true>>() {
  return false;
}
#endif

using BFloat16Engine = FloatEngine<false>;
using HalfEngine = FloatEngine<true>;

}  // namespace lowbit::cuda
