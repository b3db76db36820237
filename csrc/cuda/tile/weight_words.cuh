// A lane's part of an mma64 tile (formats/layout.h) from shared memory to operands: 32 codes in kBits words, unpacked
// by a shift and a mask a field, then turned into the bytes or 16-bit floats that are multiplied.
#pragma once

#include <cstdint>

#include "cuda/ptx/bits.cuh"
#include "cuda/ptx/convert.cuh"
#include "cuda/ptx/half.cuh"

namespace lowbit::cuda {

// The words of lane `lane` of the tile that begins at `tile` (128 * kBits bytes, 16-byte aligned).
template <int kBits>
__device__ __forceinline__ void load_words(const uint32_t* tile, int lane, uint32_t (&w)[kBits]) {
  if constexpr (kBits == 8) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const uint4 v = reinterpret_cast<const uint4*>(tile)[32 * h + lane];
      w[4 * h] = v.x, w[4 * h + 1] = v.y, w[4 * h + 2] = v.z, w[4 * h + 3] = v.w;
    }
  } else {
    int low = 0;
    if constexpr ((kBits & 4) != 0) {
      const uint4 v = reinterpret_cast<const uint4*>(tile)[lane];
      w[0] = v.x, w[1] = v.y, w[2] = v.z, w[3] = v.w;
      low = 4;
    }
    if constexpr ((kBits & 2) != 0) {
      const uint2 v = reinterpret_cast<const uint2*>(tile + 32 * low)[lane];
      w[low] = v.x, w[low + 1] = v.y;
      low += 2;
    }
    if constexpr ((kBits & 1) != 0) w[low] = tile[32 * low + lane];
  }
}

// Codes 4 i .. 4 i + 3, a byte each. `i` is a constant once the caller's loop is unrolled.
template <int kBits>
__device__ __forceinline__ uint32_t code_bytes(const uint32_t (&w)[kBits], int i) {
  if constexpr (kBits == 8) {
    return w[i];
  } else {
    uint32_t codes = 0;
    int low = 0;
    if constexpr ((kBits & 4) != 0) {
      codes = w[i / 2] >> (4 * (i % 2)) & 0x0f0f0f0fu;
      low = 4;
    }
    if constexpr ((kBits & 2) != 0) {
      codes |= (w[low + i / 4] >> (2 * (i % 4)) & 0x03030303u) << low;
      low += 2;
    }
    if constexpr ((kBits & 1) != 0) codes |= (w[low] >> i & 0x01010101u) << low;
    return codes;
  }
}

// Moves the codes of the next 16 columns to the place of the first: a loop over them then has constant indices.
template <int kBits>
__device__ __forceinline__ void advance_words(uint32_t (&w)[kBits]) {
  if constexpr (kBits == 8) {
#pragma unroll
    for (int i = 0; i < 6; ++i) w[i] = w[i + 2];
  } else {
    int low = 0;
    if constexpr ((kBits & 4) != 0) {
      w[0] = w[1], w[1] = w[2], w[2] = w[3];
      low = 4;
    }
    if constexpr ((kBits & 2) != 0) {
      w[low] = (w[low] >> 4 & 0x0f0f0f0fu) | (w[low + 1] << 4 & 0xf0f0f0f0u);
      w[low + 1] >>= 4;
      low += 2;
    }
    if constexpr ((kBits & 1) != 0) w[low] >>= 2;
  }
}

// ---- bytes to multiply

// Integer codes 4 i .. 4 i + 3 in the top bits of signed bytes: byte = 2^(8 - kBits) s, where s is the code in two's
// complement, or with `flip` 0x80808080 the code less 2^(kBits - 1). Two instructions a field, where a sign extension
// would take three more.
template <int kBits>
__device__ __forceinline__ uint32_t integer_bytes(const uint32_t (&w)[kBits], int i, uint32_t flip) {
  if constexpr (kBits == 8) return w[i] ^ flip;
  uint32_t bytes = 0;
  int low = 0;  // words and bits before the field
#pragma unroll
  for (int f = 4; f > 0; f /= 2) {
    if ((kBits & f) == 0) continue;
    const int from = f * (i % (8 / f)), to = 8 - kBits + low;
    const uint32_t word = w[(low + i / (8 / f)) % kBits];
    bytes |= (from < to ? word << (to - from) : word >> (from - to)) & ((((1u << f) - 1u) << to) * 0x01010101u);
    low += f;
  }
  return bytes ^ flip;
}

// The eight E2M1 codes of a word as 2 * value: the low nibbles of its bytes to `low`, the high ones to `high`. The
// magnitudes are looked up, four nibbles at a time.
__device__ __forceinline__ void e2m1_bytes(uint32_t word, uint32_t& low, uint32_t& high) {
  constexpr uint32_t kFrom0 = 0x03020100u, kFrom4 = 0x0c080604u;  // 2 * {0, 0.5, 1, 1.5}, {2, 3, 4, 6}
  constexpr uint32_t kMinusFrom0 = 0xfdfeff00u, kMinusFrom4 = 0xf4f8fafcu;
  const uint32_t near = word & 0x77777777u, far = near >> 16;
  const uint32_t p0 = ptx::prmt(kFrom0, kFrom4, near), p1 = ptx::prmt(kFrom0, kFrom4, far);
  const uint32_t m0 = ptx::prmt(kMinusFrom0, kMinusFrom4, near), m1 = ptx::prmt(kMinusFrom0, kMinusFrom4, far);
  // 0xff in the bytes of negative codes
  const uint32_t low_sign = ptx::prmt(word << 4, 0u, 0xba98u), high_sign = ptx::prmt(word, 0u, 0xba98u);
  low = ptx::lop3<0xca>(low_sign, ptx::prmt(m0, m1, 0x6420u), ptx::prmt(p0, p1, 0x6420u));
  high = ptx::lop3<0xca>(high_sign, ptx::prmt(m0, m1, 0x7531u), ptx::prmt(p0, p1, 0x7531u));
}

// ---- 16-bit floats: codes c0 c1 c2 c3 (bytes) to (c0, c1) and (c2, c3)

// Integers: 0x6400 | c is the half 1024 + c, and 0x4300 | c the bfloat16 128 + c for c < 128; `bias` is that constant
// plus the zero point (and 2^(kBits - 1) where signed codes had their top bit flipped by `flip`), two halves. Exact.
__device__ __forceinline__ void integer_halves(uint32_t codes, uint32_t flip, uint32_t bias, uint32_t (&out)[2]) {
  codes ^= flip;
  out[0] = ptx::sub_f16x2(ptx::prmt(codes, 0x64646464u, 0x4140u), bias);
  out[1] = ptx::sub_f16x2(ptx::prmt(codes, 0x64646464u, 0x4342u), bias);
}
// kBits <= 7: as above; 8 bits: through fp32, 2^23 + c; then `bias` is a float.
template <int kBits>
__device__ __forceinline__ void integer_bfloats(uint32_t codes, uint32_t flip, uint32_t bias, uint32_t (&out)[2]) {
  codes ^= flip;
  if constexpr (kBits < 8) {
    out[0] = ptx::fma_bf16x2(ptx::prmt(codes, 0x43434343u, 0x4140u), 0x3f803f80u, bias ^ 0x80008000u);
    out[1] = ptx::fma_bf16x2(ptx::prmt(codes, 0x43434343u, 0x4342u), 0x3f803f80u, bias ^ 0x80008000u);
  } else {
    const float b = __uint_as_float(bias);
    const float v0 = __uint_as_float(ptx::prmt(codes, 0x4b000000u, 0x7650u)) - b;
    const float v1 = __uint_as_float(ptx::prmt(codes, 0x4b000000u, 0x7651u)) - b;
    const float v2 = __uint_as_float(ptx::prmt(codes, 0x4b000000u, 0x7652u)) - b;
    const float v3 = __uint_as_float(ptx::prmt(codes, 0x4b000000u, 0x7653u)) - b;
    out[0] = ptx::cvt_rn_bf16x2_f32(v1, v0);
    out[1] = ptx::cvt_rn_bf16x2_f32(v3, v2);
  }
}

// Minifloats with a sign: the magnitude bits in the place of the wide format's (`shift` up), times the power of two
// `scale` (both halves), which is exact and gives subnormals right. kHalf: to halves, else to bfloat16. 8 bits: a
// magnitude that reaches 128 when `special` is added is NaN or infinite and gets the wide format's exponent; what is
// below it stays.
template <int kBits, bool kHalf>
__device__ __forceinline__ void float_pairs(uint32_t codes, int shift, uint32_t scale, uint32_t special,
                                            uint32_t (&out)[2]) {
  constexpr uint32_t magnitude = ((1u << (kBits - 1)) - 1u) * 0x00010001u;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t c = ptx::prmt(codes, 0u, i == 0 ? 0x4140u : 0x4342u);
    const uint32_t v = (c & magnitude) << shift | (c >> (kBits - 1) & 0x00010001u) << 15;
    out[i] = kHalf ? ptx::mul_f16x2(v, scale) : ptx::fma_bf16x2(v, scale, 0x80008000u);
    if constexpr (kBits == 8) out[i] |= ((c & magnitude) + special & 0x00800080u) * (kHalf ? 0xf8u : 0xffu);
  }
}

}  // namespace lowbit::cuda
