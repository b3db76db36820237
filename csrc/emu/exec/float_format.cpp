#include "emu/exec/float_format.h"

#include <algorithm>
#include <cstring>

namespace emu {
namespace {

using ptx::Type;

constexpr FloatFormat kF16 = {5, 10, 15, true, 0x7fff, 0x7bff};
constexpr FloatFormat kBF16 = {8, 7, 127, true, 0x7fff, 0x7f7f};
constexpr FloatFormat kTF32 = {8, 10, 127, true, 0x3ffff, 0x3fbff};
constexpr FloatFormat kF32 = {8, 23, 127, true, 0x7fffffff, 0x7f7fffff};
constexpr FloatFormat kF64 = {11, 52, 1023, true, 0x7fffffffffffffff, 0x7fefffffffffffff};
constexpr FloatFormat kE4M3 = {4, 3, 7, false, 0x7f, 0x7e};
constexpr FloatFormat kE5M2 = {5, 2, 15, true, 0x7f, 0x7b};
constexpr FloatFormat kE3M2 = {3, 2, 3, false, 0, 0x1f};
constexpr FloatFormat kE2M3 = {2, 3, 1, false, 0, 0x1f};
constexpr FloatFormat kE2M1 = {2, 1, 1, false, 0, 0x7};

// mantissa / 2^shift, rounded.
uint64_t shift_and_round(uint64_t mantissa, int shift, bool negative, const Rounding& r) {
  if (shift <= 0) return mantissa << -shift;
  if (shift > 63) {  // less than half of the last place, never zero
    shift = 63;
    mantissa = 1;
  }
  const uint64_t kept = mantissa >> shift, rest = mantissa & ((uint64_t{1} << shift) - 1);
  const uint64_t half = uint64_t{1} << (shift - 1);
  bool up = false;
  switch (r.mode) {
    case Round::kNearestEven: up = rest > half || (rest == half && (kept & 1) != 0); break;
    case Round::kNearestAway: up = rest >= half; break;
    case Round::kZero: break;
    case Round::kDown: up = negative && rest != 0; break;
    case Round::kUp: up = !negative && rest != 0; break;
    case Round::kStochastic: {
      const int align = shift - r.random_bits;
      const uint64_t addend = align >= 0 ? uint64_t{r.random} << align : uint64_t{r.random} >> -align;
      up = (rest + addend) >> shift != 0;
      break;
    }
  }
  return kept + (up ? 1 : 0);
}

}  // namespace

const FloatFormat* float_format(Type t) {
  switch (t) {
    case Type::kF16:
    case Type::kF16x2: return &kF16;
    case Type::kBF16:
    case Type::kBF16x2: return &kBF16;
    case Type::kTF32: return &kTF32;
    case Type::kF32: return &kF32;
    case Type::kF64: return &kF64;
    case Type::kE4M3:
    case Type::kE4M3x2:
    case Type::kE4M3x4: return &kE4M3;
    case Type::kE5M2:
    case Type::kE5M2x2:
    case Type::kE5M2x4: return &kE5M2;
    case Type::kE3M2:
    case Type::kE3M2x2:
    case Type::kE3M2x4: return &kE3M2;
    case Type::kE2M3:
    case Type::kE2M3x2:
    case Type::kE2M3x4: return &kE2M3;
    case Type::kE2M1:
    case Type::kE2M1x2:
    case Type::kE2M1x4: return &kE2M1;
    default: return nullptr;
  }
}

Number number_of(uint64_t bits, const FloatFormat& f) {
  Number n;
  const uint64_t magnitude = bits & ((uint64_t{1} << (f.bits() - 1)) - 1);
  n.negative = (bits >> (f.bits() - 1) & 1) != 0;
  if (f.has_infinity) {
    n.infinite = magnitude == f.infinity();
    n.nan = magnitude > f.infinity();
  } else {
    n.nan = f.nan != 0 && magnitude == f.nan;
  }
  const int field = static_cast<int>(magnitude >> f.mantissa);
  n.mantissa = magnitude & ((uint64_t{1} << f.mantissa) - 1);
  if (field != 0) n.mantissa |= uint64_t{1} << f.mantissa;
  n.exponent = std::max(field, 1) - f.bias - f.mantissa;
  return n;
}

Number number_of(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return number_of(bits, kF64);
}

uint64_t round_to(const Number& n, const FloatFormat& f, const Rounding& r) {
  const uint64_t sign = uint64_t{n.negative} << (f.bits() - 1);
  if (n.nan) return f.nan != 0 ? f.nan : f.largest;
  const bool finite_only = r.satfinite || !f.has_infinity;
  if (n.infinite) return sign | (finite_only ? f.largest : f.infinity());
  if (n.mantissa == 0) return sign;
  const int top = 63 - __builtin_clzll(n.mantissa) + n.exponent;  // of the leading bit
  const int least = 1 - f.bias;                                   // of the smallest normal number
  const uint64_t kept = shift_and_round(n.mantissa, std::max(top, least) - f.mantissa - n.exponent, n.negative, r);
  // A carry out of the mantissa moves on into the exponent. Beyond any exponent the code is not needed.
  const int field = std::min(std::max(top - least, 0), 1 << f.exponent);
  const uint64_t code = (static_cast<uint64_t>(field) << f.mantissa) + kept;
  if (code <= f.largest) return sign | code;
  const bool inward =
      r.mode == Round::kZero || (r.mode == Round::kDown && !n.negative) || (r.mode == Round::kUp && n.negative);
  return sign | (finite_only || inward ? f.largest : f.infinity());
}

uint32_t round_to_ue8m0(const Number& n, const Rounding& r) {
  constexpr uint32_t kNan = 255, kLargest = 254;
  if (n.nan) return kNan;
  if (n.infinite) return r.satfinite ? kLargest : kNan;
  if (n.mantissa == 0) return 0;
  const int top = 63 - __builtin_clzll(n.mantissa);
  const bool is_power = n.mantissa == uint64_t{1} << top;
  int code = top + n.exponent + 127;
  if (code < 0) return 0;
  if (r.mode == Round::kUp && !is_power) ++code;
  return code <= static_cast<int>(kLargest) ? static_cast<uint32_t>(code) : r.satfinite ? kLargest : kNan;
}

}  // namespace emu
