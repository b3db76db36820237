// encode and decode of one element, constexpr and exact: the meaning of formats.def. Kernels have faster decoders of
// their own; tests hold them to these.
#pragma once

#include <cstdint>
#include <limits>

#include "formats/format.h"

namespace lowbit {

constexpr float pow2(int e) {  // exact down to 2^-149
  float v = 1.0f;
  for (; e > 0; --e) v *= 2.0f;
  for (; e < 0; ++e) v *= 0.5f;
  return v;
}

// Round to the nearest integer, ties to even; exact for every finite float.
constexpr float round_half_even(float x) {
  const float a = x < 0 ? -x : x;
  if (!(a < 8388608.0f)) return x;  // 2^23: already an integer (or NaN, infinity)
  const auto floor = static_cast<int32_t>(a);
  const float rest = a - static_cast<float>(floor);
  const int32_t up = (rest > 0.5f || (rest == 0.5f && (floor & 1))) ? 1 : 0;
  const auto r = static_cast<float>(floor + up);
  return x < 0 ? -r : r;
}

// The integer value of code `c` (kInt formats but kComplex; code 2 of a ternary gives -2, which no encoder makes).
constexpr int decode_int(const ElementFormat& f, uint32_t c) {
  const int n = 1 << f.bits;
  const int v = static_cast<int>(c);
  switch (f.rule) {
    case kUnsigned: return v;
    case kBipolar: return 2 * v - (n - 1);
    default: return v >= n / 2 ? v - n : v;
  }
}

constexpr float decode_float(const ElementFormat& f, uint32_t c) {
  if (f.specials == kPower) {
    return c + 1u == 1u << f.bits ? std::numeric_limits<float>::quiet_NaN() : pow2(static_cast<int>(c) - f.bias);
  }
  const uint32_t magnitude_mask = (1u << (f.exponent + f.mantissa)) - 1u;
  const uint32_t magnitude = c & magnitude_mask;
  const uint32_t exponent = magnitude >> f.mantissa;
  const uint32_t mantissa = magnitude & ((1u << f.mantissa) - 1u);
  const float sign = (f.has_sign() && (c >> (f.bits - 1)) & 1u) ? -1.0f : 1.0f;
  const uint32_t top = (1u << f.exponent) - 1u;
  if (f.specials == kNanOnly && magnitude == magnitude_mask) return std::numeric_limits<float>::quiet_NaN();
  if (f.specials == kIeee && exponent == top) {
    return mantissa ? std::numeric_limits<float>::quiet_NaN() : sign * std::numeric_limits<float>::infinity();
  }
  const uint32_t significand = exponent ? mantissa | (1u << f.mantissa) : mantissa;
  const int e = (exponent ? static_cast<int>(exponent) : 1) - f.bias - f.mantissa;
  return sign * static_cast<float>(significand) * pow2(e);
}

struct Complex {
  int real;
  int imag;
};
constexpr Complex decode_complex(uint32_t c) { return {c == 0 ? 1 : c == 2 ? -1 : 0, c == 1 ? 1 : c == 3 ? -1 : 0}; }

// The value of code `c`; of a complex one the real part. `codebook` holds the values of a kCodebook.
constexpr float decode(const ElementFormat& f, uint32_t c, const float* codebook = nullptr) {
  switch (f.kind) {
    case Kind::kInt: return static_cast<float>(f.is_complex() ? decode_complex(c).real : decode_int(f, c));
    case Kind::kFloat: return decode_float(f, c);
    case Kind::kTable: return f.values[c];
    default: return codebook[c];
  }
}

// The largest finite magnitude code (sign bit clear).
constexpr uint32_t max_code(const ElementFormat& f) {
  switch (f.kind) {
    case Kind::kInt:
      if (f.rule == kTernary) return 1;
      return f.rule == kSigned ? (1u << (f.bits - 1)) - 1u : (1u << f.bits) - 1u;
    case Kind::kFloat:
      if (f.specials == kPower) return (1u << f.bits) - 2u;
      if (f.specials == kNanOnly) return (1u << (f.exponent + f.mantissa)) - 2u;
      if (f.specials == kIeee) return (((1u << f.exponent) - 1u) << f.mantissa) - 1u;
      return (1u << (f.exponent + f.mantissa)) - 1u;
    default: return (1u << f.bits) - 1u;
  }
}

// The magnitude that absmax scaling maps a block's largest magnitude to: the largest symmetric value of the format.
// int1 = {0, -1} has only -1; tables use the larger end.
constexpr float scale_max(const ElementFormat& f, const float* codebook = nullptr) {
  if (f.kind == Kind::kInt && f.rule == kSigned && f.bits == 1) return 1.0f;
  if (f.is_table()) {
    const float low = decode(f, 0, codebook);
    const float high = decode(f, max_code(f), codebook);
    return -low > high ? -low : high;
  }
  return decode(f, max_code(f));
}

// The NaN that encode makes, where the format has one: all ones but the sign.
constexpr uint32_t nan_code(const ElementFormat& f) { return (1u << (f.exponent + f.mantissa)) - 1u; }

namespace codec_detail {

constexpr uint32_t encode_int(const ElementFormat& f, float x) {
  const uint32_t mask = (1u << f.bits) - 1u;
  if (x != x) x = 0.0f;
  if (f.rule == kBipolar) {
    const int top = (1 << f.bits) - 1;
    const auto limit = static_cast<float>(top);
    const float clamped = x < -limit ? -limit : x > limit ? limit : x;
    int floor = static_cast<int>(clamped);
    if (static_cast<float>(floor) > clamped) --floor;
    // values are the odd integers: from an even floor up, unless x is even itself and between two of them
    const bool odd = (floor & 1) != 0;
    const bool tie = !odd && static_cast<float>(floor) == clamped;
    const auto code = static_cast<uint32_t>(((odd ? floor : floor + 1) + top) / 2);
    return tie ? code & ~1u : code;
  }
  const int low = f.rule == kUnsigned ? 0 : f.rule == kTernary ? -1 : -(1 << (f.bits - 1));
  const int high = static_cast<int>(max_code(f));
  const float r = round_half_even(x);
  const int v = r < static_cast<float>(low) ? low : r > static_cast<float>(high) ? high : static_cast<int>(r);
  return static_cast<uint32_t>(v) & mask;
}

// floor(log2 a) of a positive finite float, subnormals included.
constexpr int floor_log2(float a) {
  int e = 0;
  while (a >= 18446744073709551616.0f) a *= 5.421010862427522e-20f, e += 64;  // 2^64, 2^-64
  while (a >= 2.0f) a *= 0.5f, ++e;
  while (a < 5.421010862427522e-20f) a *= 18446744073709551616.0f, e -= 64;
  while (a < 1.0f) a *= 2.0f, --e;
  return e;
}

constexpr float scale_by_pow2(float a, int e) {           // exact when the result is representable
  for (; e > 100; e -= 100) a *= 1.2676506002282294e30f;  // 2^100
  for (; e < -100; e += 100) a *= 7.888609052210118e-31f;
  return a * pow2(e);
}

constexpr uint32_t encode_float(const ElementFormat& f, float x) {
  const bool negative = x < 0 || (x == 0 && 1.0f / x < 0);
  const float a = negative ? -x : x;
  if (x != x) return f.specials != kFinite ? nan_code(f) : 0u;
  if (f.specials == kPower) {
    if (x < 0) return nan_code(f);
    if (a <= pow2(-f.bias)) return 0u;
  }
  if (negative && !f.has_sign()) return 0u;
  const uint32_t sign = negative ? 1u << (f.bits - 1) : 0u;
  const uint32_t last = max_code(f);
  if (a > std::numeric_limits<float>::max()) return sign | (f.specials == kIeee ? last + 1u : last);
  if (a == 0) return sign;
  const int smallest = f.specials == kPower ? -f.bias : 1 - f.bias;
  int e = floor_log2(a);
  if (e < smallest) e = smallest;
  // a / quantum < 2^(mantissa + 1): at most 7 integer bits. kPower has no zero, so its codes count from 1.0 * 2^e.
  const float t = scale_by_pow2(a, f.mantissa - e);
  const auto whole = static_cast<uint32_t>(t);
  const float rest = t - static_cast<float>(whole);
  uint32_t code = (static_cast<uint32_t>(e - smallest) << f.mantissa) + whole - (f.specials == kPower ? 1u : 0u);
  if (rest > 0.5f || (rest == 0.5f && (code & 1u))) ++code;
  return sign | (code > last ? last : code);
}

// Whether `x` is nearer to `high` than to `low`, exactly: 2 x > low + high, with the rounding error of the sum.
constexpr bool above_midpoint(double low, double high, double x) {
  const double sum = low + high;
  if (sum != x + x) return sum < x + x;
  const double high_part = sum - low;
  return (low - (sum - high_part)) + (high - high_part) < 0;
}

constexpr uint32_t encode_table(const ElementFormat& f, float x, const float* values) {
  if (x != x) x = 0.0f;
  uint32_t best = 0;
  const auto last = static_cast<uint32_t>(f.codes()) - 1u;
  while (best < last && above_midpoint(values[best], values[best + 1], x)) ++best;
  return best;
}

}  // namespace codec_detail

// The phase class of a complex number, as iFairy (Wang et al. 2025) has it: +1 for a phase in [-pi/4, pi/4), -1 for
// |phase| >= 3 pi/4, else +-i. Zero and NaN are +1.
constexpr uint32_t encode_complex(float re, float im) {
  if (re != re || im != im) return 0u;
  const float abs_re = re < 0 ? -re : re;
  const float abs_im = im < 0 ? -im : im;
  const bool real = abs_re > abs_im || (abs_re == abs_im && !(re > 0 && im > 0));
  return real ? (re < 0 ? 2u : 0u) : (im < 0 ? 3u : 1u);
}

// The code nearest to `x` under the format's tie and overflow rules (formats.def).
constexpr uint32_t encode(const ElementFormat& f, float x, const float* codebook = nullptr) {
  switch (f.kind) {
    case Kind::kInt: return f.is_complex() ? encode_complex(x, 0.0f) : codec_detail::encode_int(f, x);
    case Kind::kFloat: return codec_detail::encode_float(f, x);
    case Kind::kTable: return codec_detail::encode_table(f, x, f.values);
    default: return codec_detail::encode_table(f, x, codebook);
  }
}

// Whether code `c` is a value of the format (only ternary has one that is not).
constexpr bool is_code(const ElementFormat& f, uint32_t c) {
  return c < (1u << f.bits) && !(f.is_int() && f.rule == kTernary && c == 2u);
}

// The least s with value * 2^s an integer of at most 8 bits (|v| <= 127, or 0..255 / +-255 for integers as they are)
// for every code: what "exact in int8" means. -1 where there is none. NaN and infinity make a format inexact.
constexpr int int8_shift(const ElementFormat& f) {
  if (f.is_int()) return f.is_complex() ? -1 : 0;
  if (!f.is_float() || f.specials != kFinite) return -1;
  const int shift = f.bias - 1 + f.mantissa;  // the smallest subnormal (or normal) step is 2^(1 - bias - mantissa)
  return decode(f, max_code(f)) * pow2(shift < 0 ? 0 : shift) <= 127.0f ? (shift < 0 ? 0 : shift) : -1;
}

// Whether every value is exact in bfloat16 (8 significant bits, exponent of float32). Only tables and the smallest
// E8M0 step are not; a codebook is unknown here and counts as not.
constexpr bool exact_in_bf16(const ElementFormat& f) {
  return (f.is_int() && !f.is_complex() && !(f.rule == kBipolar && f.bits > 8)) ||
         (f.is_float() && f.specials != kPower);
}

}  // namespace lowbit
