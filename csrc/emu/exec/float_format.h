// Floating-point formats of any size up to f64, described by their fields, and exact rounding of a number to one of
// them. For conversions, where speed matters less than that there is one way for all formats and rounding modes.
#pragma once

#include <cstdint>

#include "emu/ptx/module.h"

namespace emu {

struct FloatFormat {
  int exponent, mantissa, bias;
  bool has_infinity;  // then the codes above it are NaN
  uint64_t nan;       // the canonical one; 0: the format has none
  uint64_t largest;   // finite magnitude
  uint64_t infinity() const { return ((uint64_t{1} << exponent) - 1) << mantissa; }
  int bits() const { return 1 + exponent + mantissa; }
};
// The format of one element of `t` (kE4M3x2 and kE4M3 give the same); null for ue8m0 and for what is no float.
// tf32 has the layout of f32: its 10 mantissa bits are followed by 13 zeros.
const FloatFormat* float_format(ptx::Type t);

enum class Round : uint8_t { kNearestEven, kZero, kDown, kUp, kNearestAway, kStochastic };

// A number sign * mantissa * 2^exponent, or an infinity or NaN.
struct Number {
  bool negative = false, infinite = false, nan = false;
  int exponent = 0;
  uint64_t mantissa = 0;
};
Number number_of(uint64_t bits, const FloatFormat& format);
Number number_of(double value);

struct Rounding {
  Round mode = Round::kNearestEven;
  bool satfinite = false;  // overflow gives the largest finite value
  uint32_t random = 0;     // kStochastic: added below the last bit that is kept, its own highest bit first
  int random_bits = 0;
};
// Sign and magnitude in the low bits().
uint64_t round_to(const Number& n, const FloatFormat& format, const Rounding& rounding);

// A power of two, rounded to zero or up in magnitude: 2^(code - 127). Code 255 is NaN.
uint32_t round_to_ue8m0(const Number& n, const Rounding& rounding);

}  // namespace emu
