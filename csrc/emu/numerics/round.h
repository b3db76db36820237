// From doubles that hold a sum exactly, or rounded to odd (so that a second rounding to fewer bits is the only one), to
// the bits of an accumulator: eight at a time, without branches. Called from functions marked EMU_VECTORIZE, hence
// always_inline and references (no ABI of wide vectors).
#pragma once

#include <cstdint>
#include <cstring>

namespace emu {

using V8d = double __attribute__((vector_size(64)));
using V8l = int64_t __attribute__((vector_size(64)));
using V8i = int32_t __attribute__((vector_size(32)));
using V8f = float __attribute__((vector_size(32)));

inline constexpr int64_t kFloatNan = 0x7fffffff, kHalfNan = 0x7fff;

#define EMU_INLINE inline __attribute__((always_inline))

// An exact zero becomes +0.
EMU_INLINE void round_float(const V8d& x, V8l& bits) {
  const V8f f = __builtin_convertvector(x + 0.0, V8f);
  const V8i u = (V8i)f;
  bits = __builtin_convertvector(u, V8l);
  bits = x != x ? V8l{} + kFloatNan : bits;
}

// From 2^128 on it is infinity: the adder is wider than the result, there is no largest finite value to stop at.
EMU_INLINE void truncate_float(const V8d& x, V8l& bits) {
  const V8l sign = (V8l)(x + 0.0) & INT64_MIN;
  const V8d magnitude = (V8d)((V8l)x & INT64_MAX);
  const V8d normal = (V8d)((V8l)magnitude & -(int64_t{1} << 29));
  // The ulp of 2^-97 is the least f32 subnormal, 2^-149.
  const V8d nearest = (magnitude + 0x1p-97) - 0x1p-97;
  const V8d subnormal = nearest > magnitude ? nearest - 0x1p-149 : nearest;
  const V8d kept = magnitude < 0x1p-126 ? subnormal : normal;
  const V8f f = __builtin_convertvector((V8d)((V8l)kept | sign), V8f);
  bits = __builtin_convertvector((V8i)f, V8l);
  bits = x != x ? V8l{} + kFloatNan : bits;
}

EMU_INLINE void round_half(const V8d& x, V8l& bits) {
  const V8l sign = ((V8l)(x + 0.0) >> 48) & 0x8000;
  const V8l m = (V8l)x & INT64_MAX;
  const V8l normal = ((m + ((int64_t{1} << 41) - 1) + ((m >> 42) & 1)) >> 42) - (int64_t{1008} << 10);
  // The ulp of 2^28 is the least f16 subnormal, 2^-24.
  const V8l subnormal = (V8l)((V8d)m + 0x1p28) - (V8l)(V8d{} + 0x1p28);
  V8l h = (V8d)m < 0x1p-14 ? subnormal : normal;
  h = h > 0x7c00 ? V8l{} + 0x7c00 : h;
  bits = x != x ? V8l{} + kHalfNan : (h | sign);
}

}  // namespace emu
