// Values of f16 and bf16, and rounding to them, in a form that vectorizes. A NaN becomes the canonical one, 0x7fff.
#pragma once

#include <cstdint>

#include "emu/exec/lanes.h"

namespace emu {

inline constexpr uint32_t kNanHalf = 0x7fff;

inline float f16_value(uint32_t h) {
  // The exponent is rebased by a multiplication, which also normalizes subnormals.
  const float magnitude = bits_as<float>((h & 0x7fff) << 13) * 0x1p112f;
  uint32_t u = bits_as<uint32_t>(magnitude);
  u |= (h & 0x7c00) == 0x7c00 ? 0x7f800000u : 0u;
  return bits_as<float>(u | (h & 0x8000) << 16);
}

// Round to nearest even.
inline uint32_t f16_bits(float f) {
  const uint32_t u = bits_as<uint32_t>(f), x = u & 0x7fffffff;
  const uint32_t rounded = (x + 0xfff + (x >> 13 & 1)) - 0x38000000;  // normal results
  const uint32_t normal = (rounded > 0x0f800000 ? 0x0f800000u : rounded) >> 13;
  // Below 2^-14: the spacing of floats from 0.5 on is that of subnormal halves, so the addition rounds.
  const uint32_t subnormal = bits_as<uint32_t>(bits_as<float>(x < 0x38800000 ? x : 0u) + 0.5f) - 0x3f000000;
  const uint32_t h = x < 0x38800000 ? subnormal : normal;
  return x > 0x7f800000 ? kNanHalf : h | (u >> 16 & 0x8000);
}

inline float bf16_value(uint32_t h) { return bits_as<float>(h << 16); }

inline uint32_t bf16_bits(float f) {
  const uint32_t u = bits_as<uint32_t>(f);
  return (u & 0x7fffffff) > 0x7f800000 ? kNanHalf : (u + 0x7fff + (u >> 16 & 1)) >> 16;
}

// a + b rounded to odd: one more rounding of the result, to a format at least two bits narrower, is as if it were the
// only one. The error of the sum is exact (Knuth), its sign tells which neighbor is meant.
template <class F, class U>
inline F sum_to_odd(F a, F b) {
  const F s = a + b;
  const F t = s - a;
  const F error = (a - (s - t)) + (b - t);
  const U u = bits_as<U>(s);
  const bool inexact = error > 0 || error < 0;
  const bool outward = (error > 0) == (s > 0);
  const U step = inexact && (u & 1) == 0 ? (outward ? U{1} : ~U{0}) : U{0};
  return bits_as<F>(u + step);
}

inline float narrow_to_odd(double v) {
  const float f = static_cast<float>(v);
  const double back = f;
  // As a float before it meets 32-bit words: loops that change the width of a condition do not vectorize.
  const float rest = static_cast<float>(v > back ? 1.0 : v < back ? -1.0 : 0.0);
  const uint32_t u = bits_as<uint32_t>(f);
  const bool outward = (rest > 0) == ((u >> 31) == 0);
  const uint32_t step = rest != 0 && (u & 1) == 0 ? (outward ? 1u : ~0u) : 0u;
  return bits_as<float>(u + step);
}

}  // namespace emu
