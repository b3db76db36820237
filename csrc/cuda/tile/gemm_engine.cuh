// What multiplies: the tensor-core instructions as engines of the GEMM loops. A step of 64 slots of one row is
// kRowBytes bytes: 64 signed bytes or codes, 32 bytes of two codes, or 64 16-bit floats.
//
// Two codes a byte: lane t of a row has eight columns in a register of an operand, which are those of two 16-column
// groups that lane t has in mma64: byte j is column 4 t + j of the first (low half) and of the second group. That is
// another order of K than the instruction's, the same one in both operands, and a register is one group pair = one
// block of 32. Where blocks have 16 columns, a register must not mix groups: lanes t and t ^ 2 change halves, after
// which lanes 0 and 1 have the first group alone (byte j: columns 4 t + j and 4 t + 8 + j), lanes 2 and 3 the second (4
// t + j and 4 t - 8 + j).
#pragma once

#include <cstdint>

#include "cuda/ptx/convert.cuh"
#include "cuda/ptx/mma.cuh"
#include "cuda/tile/gemm_shape.h"
#include "cuda/tile/values.cuh"

namespace lowbit::cuda {

struct Engine {
  static constexpr bool kInteger = false, kBytes = false, kHalf = false;
  static constexpr bool kFloatWeights = false;
  static constexpr bool kNibbles = false;  // of the kBytes engines: two codes a byte
  static constexpr int kBlocks = 0;        // block scales that a multiply takes of each row
};

// Signed bytes, exact.
struct Int8Engine : Engine {
  using Sum = int32_t;
  static constexpr bool kInteger = true, kBytes = true;
  static constexpr int kRowBytes = 64;
  static __device__ __forceinline__ void multiply(Sum (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    ptx::mma_m16n8k32_s8s8(d, a, b);
  }
};

// 16-bit floats, fp32 sums.
template <bool kIsHalf>
struct FloatEngine : Engine {
  using Sum = float;
  static constexpr bool kHalf = kIsHalf;
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
// FP8 codes, fp32 sums.
template <bool kWeightE5M2, bool kInputE5M2>
struct Float8Engine : Engine {
  using Sum = float;
  static constexpr bool kBytes = true;
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

// Codes of 4 bits, signed or not, exact.
template <bool kWeightSigned, bool kInputSigned>
struct Int4Engine : Engine {
  using Sum = int32_t;
  static constexpr bool kInteger = true, kBytes = true, kNibbles = true;
  static constexpr int kRowBytes = 32;
  static __device__ __forceinline__ void multiply(Sum (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if LOWBIT_HAS_S4_MMA
    if constexpr (kWeightSigned && kInputSigned) {
      ptx::mma_m16n8k64_s4s4(d, a, b);
    } else if constexpr (kWeightSigned) {
      ptx::mma_m16n8k64_s4u4(d, a, b);
    } else if constexpr (kInputSigned) {
      ptx::mma_m16n8k64_u4s4(d, a, b);
    } else {
      ptx::mma_m16n8k64_u4u4(d, a, b);
    }
#endif
  }
};

// Codes with the scales of their blocks, fp32 sums.
template <BlockScaled kKind>
struct BlockScaledEngine : Engine {
  using Sum = float;
  static constexpr bool kBytes = true, kNibbles = kKind == BlockScaled::kMxFloat4 || kKind == BlockScaled::kNvFloat4;
  static constexpr int kBlocks = kKind == BlockScaled::kNvFloat4 ? 4 : kNibbles ? 2 : 1;
  static constexpr int kRowBytes = kNibbles ? 32 : 64;
  static __device__ __forceinline__ void multiply(Sum (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                                  uint32_t a_scale, uint32_t b_scale) {
#if LOWBIT_HAS_BLOCK_SCALED_MMA
    if constexpr (kKind == BlockScaled::kE4M3E4M3) ptx::mma_m16n8k32_mxf8f6f4_e4m3_e4m3(d, a, b, a_scale, b_scale);
    if constexpr (kKind == BlockScaled::kE4M3E5M2) ptx::mma_m16n8k32_mxf8f6f4_e4m3_e5m2(d, a, b, a_scale, b_scale);
    if constexpr (kKind == BlockScaled::kE5M2E4M3) ptx::mma_m16n8k32_mxf8f6f4_e5m2_e4m3(d, a, b, a_scale, b_scale);
    if constexpr (kKind == BlockScaled::kE5M2E5M2) ptx::mma_m16n8k32_mxf8f6f4_e5m2_e5m2(d, a, b, a_scale, b_scale);
    if constexpr (kKind == BlockScaled::kE2M3) ptx::mma_m16n8k32_mxf8f6f4_e2m3_e2m3(d, a, b, a_scale, b_scale);
    if constexpr (kKind == BlockScaled::kE3M2) ptx::mma_m16n8k32_mxf8f6f4_e3m2_e3m2(d, a, b, a_scale, b_scale);
    if constexpr (kKind == BlockScaled::kMxFloat4) ptx::mma_m16n8k64_mxf4(d, a, b, a_scale, b_scale);
    if constexpr (kKind == BlockScaled::kNvFloat4) ptx::mma_m16n8k64_nvf4(d, a, b, a_scale, b_scale);
#endif
  }
};

// Engines that are chosen where all parts of K are even (GemmParams::even) alone.
template <class E>
inline constexpr bool kEvenOnly = E::kNibbles || E::kBlocks > 0;
// Columns of a multiply.
template <class E>
inline constexpr int kMultiplied = E::kNibbles ? 64
                                   : E::kBytes ? 32
                                               : 16;

// The same where mma64 weights are minifloats that are decoded in registers.
template <class E>
struct FloatWeights : E {
  static constexpr bool kFloatWeights = true;
};

// By how many bits the bytes of mma64 weights are shifted up (weight_words.cuh), and so every sum of products.
template <class E, int kBits>
inline constexpr int kLift = E::kInteger && !E::kFloatWeights && !E::kNibbles && kBits > 0 ? 8 - kBits : 0;

// Whether the PTX being compiled has the engine's instruction: else its kernels are empty.
template <class E>
struct IsNative {
  static constexpr bool value = true;
};
template <bool kWeightE5M2, bool kInputE5M2>
struct IsNative<Float8Engine<kWeightE5M2, kInputE5M2>> {
  static constexpr bool value = LOWBIT_HAS_FP8_MMA;
};
template <bool kWeightSigned, bool kInputSigned>
struct IsNative<Int4Engine<kWeightSigned, kInputSigned>> {
  static constexpr bool value = LOWBIT_HAS_S4_MMA;
};
template <BlockScaled kKind>
struct IsNative<BlockScaledEngine<kKind>> {
  static constexpr bool value = LOWBIT_HAS_BLOCK_SCALED_MMA;
};

using BFloat16Engine = FloatEngine<false>;
using HalfEngine = FloatEngine<true>;

}  // namespace lowbit::cuda
