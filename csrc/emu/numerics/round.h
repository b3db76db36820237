// From a double that holds a sum exactly, or rounded to odd (so that a second rounding to fewer bits is the only one), to
// the bits of an accumulator. Branchless, for loops that the compiler turns into vectors.
#pragma once

#include <cstdint>
#include <cstring>

namespace emu {

inline uint64_t bits_of(double x) {
  uint64_t u;
  std::memcpy(&u, &x, sizeof u);
  return u;
}
inline double double_of(uint64_t u) {
  double x;
  std::memcpy(&x, &u, sizeof x);
  return x;
}
inline uint32_t bits_of(float x) {
  uint32_t u;
  std::memcpy(&u, &x, sizeof u);
  return u;
}
inline float float_of(uint32_t u) {
  float x;
  std::memcpy(&x, &u, sizeof x);
  return x;
}

inline constexpr uint32_t kFloatNan = 0x7fffffff, kHalfNan = 0x7fff;

// f32 toward zero. From 2^128 on it is infinity: the adder is wider than the result, there is no largest finite value to
// stop at.
inline uint32_t float_toward_zero(double x) {
  const float f = static_cast<float>(x);
  const uint32_t u = bits_of(f);
  const double magnitude = __builtin_fabs(x);
  const uint32_t above = (__builtin_fabs(static_cast<double>(f)) > magnitude) & (magnitude < 0x1p128);
  return x != x ? kFloatNan : u - above;
}
inline uint32_t float_nearest(double x) { return x != x ? kFloatNan : bits_of(static_cast<float>(x)); }

// f16 to nearest even. |x| < 2^128 or infinite.
inline uint32_t half_nearest(double x) {
  uint32_t u = float_toward_zero(x);
  u |= static_cast<double>(float_of(u)) != x;  // sticky
  const uint32_t sign = u >> 31 << 15;
  u &= 0x7fffffff;
  const uint32_t large = u >= 0x47800000 ? 0x7c00 : 0;  // from 2^16 on
  // Below 2^-14 the bits to keep are those of the sum with 2^-1, whose ulp is the smallest subnormal.
  const uint32_t subnormal = bits_of(float_of(u) + 0.5f) - 0x3f000000;
  const uint32_t normal = (u - 0x38000000 + 0xfff + ((u >> 13) & 1)) >> 13;
  const uint32_t h = large ? large : (u < 0x38800000 ? subnormal : normal);
  return x != x ? kHalfNan : (sign | h);
}

}  // namespace emu
