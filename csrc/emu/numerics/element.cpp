#include "emu/numerics/element.h"

#include <cstring>
#include <limits>

#include "emu/exec/vectorize.h"

namespace emu {
namespace {

using ptx::Type;

constexpr Element kF16{0x7fff, 0x8000, 13, 15, 10, 0x7c00, 0x7c01, 16};
constexpr Element kBF16{0x7fff, 0x8000, 16, 127, 7, 0x7f80, 0x7f81, 16};
// The low 13 bits are not looked at (PTX leaves them undefined, the hardware drops them).
constexpr Element kTF32{0x7fffe000, 0x80000000, 0, 127, 10, 0x7f800000, 0x7f802000, 32};
constexpr Element kF32{0x7fffffff, 0x80000000, 0, 127, 23, 0x7f800000, 0x7f800001, 32};
constexpr Element kE4M3{0x7f, 0x80, 20, 7, 3, 0, 0x7f, 8};
constexpr Element kE5M2{0x7f, 0x80, 21, 15, 2, 0x7c, 0x7d, 8};
constexpr Element kE3M2{0x1f, 0x20, 21, 3, 2, 0, 0, 8};
constexpr Element kE2M3{0x1f, 0x20, 20, 1, 3, 0, 0, 8};
constexpr Element kE2M1{0x07, 0x08, 22, 1, 1, 0, 0, 8};
constexpr Element kE2M1Padded{0x1c, 0x20, 20, 1, 1, 0, 0, 8};

constexpr int kMost = 1024;

float as_float(uint32_t bits) {
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

struct Extremes {
  uint32_t largest = 0;              // of the float magnitudes
  uint32_t smallest = ~uint32_t{0};  // of magnitude - 1, so that zero is the largest
  uint32_t raw = 0;                  // the largest magnitude in the container
};

// The float is put together from integers: an exponent field of zero would make a subnormal float, which costs a
// microcode assist a vector, so such elements get the smallest normal exponent and lose the hidden bit again.
EMU_VECTORIZE
Extremes decode_words(const Element& element, const uint32_t* in, int count, double* out) {
  const uint32_t magnitude = element.magnitude, sign = element.sign, rebias = uint32_t(127 - element.bias) << 23;
  const int shift = element.shift, sign_shift = sign == 0 ? 0 : __builtin_clz(sign);
  const bool same_bias = element.bias == 127;
  Extremes e;
  uint32_t largest = 0, smallest = ~uint32_t{0}, raw = 0;
  for (int i = 0; i < count; ++i) {
    const uint32_t m = in[i] & magnitude, t = m << shift;
    const uint32_t subnormal = !same_bias && t < (uint32_t{1} << 23) ? uint32_t{1} << 23 : 0;
    uint32_t offset_bits = subnormal ? rebias + subnormal : 0, bits = t + rebias + subnormal;
    float value, offset;
    std::memcpy(&value, &bits, sizeof value);
    std::memcpy(&offset, &offset_bits, sizeof offset);
    value -= offset;
    std::memcpy(&bits, &value, sizeof bits);
    raw = m > raw ? m : raw;
    largest = bits > largest ? bits : largest;
    smallest = bits - 1 < smallest ? bits - 1 : smallest;
    bits |= (in[i] & sign) << sign_shift;
    std::memcpy(&value, &bits, sizeof value);
    out[i] = value;
  }
  e.largest = largest;
  e.smallest = smallest;
  e.raw = raw;
  return e;
}

void fix_specials(const Element& element, const uint32_t* in, int count, double* out) {
  for (int i = 0; i < count; ++i) {
    // A tf32 whose payload lies in the dropped bits is still NaN.
    const uint32_t m = in[i] & (element.container == 32 ? 0x7fffffffu : element.magnitude);
    if (element.nan != 0 && m >= element.nan) {
      out[i] = std::numeric_limits<double>::quiet_NaN();
    } else if (element.container == 32 && m > element.infinity) {
      out[i] = std::numeric_limits<double>::quiet_NaN();
    } else if (element.infinity != 0 && m == element.infinity) {
      out[i] = (in[i] & element.sign) != 0 ? -std::numeric_limits<double>::infinity()
                                           : std::numeric_limits<double>::infinity();
    }
  }
}

int exponent(uint32_t float_magnitude) {  // also of subnormals, where it is not below the true one
  return int(float_magnitude >> 23) - 127;
}

Spread spread_of(const Element& element, const Extremes& e) {
  Spread s;
  if (e.largest == 0) return s;
  const uint32_t smallest = e.smallest + 1;
  s.high = exponent(e.largest) < element.min_exponent() ? element.min_exponent() : exponent(e.largest);
  const int low = exponent(smallest) < element.min_exponent() ? element.min_exponent() : exponent(smallest);
  s.low = low - element.mantissa;
  return s;
}

Spread decode_from_words(const Element& element, const uint32_t* words, int count, double* out) {
  const Extremes e = decode_words(element, words, count, out);
  Spread s = spread_of(element, e);
  const uint32_t first = element.infinity != 0 ? element.infinity : element.nan;
  if (first != 0 && e.raw >= first) {
    fix_specials(element, words, count, out);
    s.special = true;
  }
  return s;
}

EMU_VECTORIZE
void widen8(const uint8_t* in, int count, uint32_t* out) {
  for (int i = 0; i < count; ++i) out[i] = in[i];
}
EMU_VECTORIZE
void widen16(const uint16_t* in, int count, uint32_t* out) {
  for (int i = 0; i < count; ++i) out[i] = in[i];
}

EMU_VECTORIZE
void split(const uint8_t* in, int count, uint32_t* out) {
  for (int i = 0; i < count; ++i) {
    out[2 * i] = in[i] & 15u;
    out[2 * i + 1] = in[i] >> 4;
  }
}

}  // namespace

const Element& element_of(Type type, bool padded_e2m1) {
  switch (type) {
    case Type::kF16: return kF16;
    case Type::kBF16: return kBF16;
    case Type::kTF32: return kTF32;
    case Type::kE4M3: return kE4M3;
    case Type::kE5M2: return kE5M2;
    case Type::kE3M2: return kE3M2;
    case Type::kE2M3: return kE2M3;
    case Type::kE2M1: return padded_e2m1 ? kE2M1Padded : kE2M1;
    default: return kF32;
  }
}

Spread decode(const Element& element, const void* containers, int count, double* out) {
  if (element.container == 32) return decode_from_words(element, static_cast<const uint32_t*>(containers), count, out);
  alignas(64) uint32_t words[kMost];
  if (element.container == 16) {
    widen16(static_cast<const uint16_t*>(containers), count, words);
  } else {
    widen8(static_cast<const uint8_t*>(containers), count, words);
  }
  return decode_from_words(element, words, count, out);
}

Spread decode_e2m1_pairs(const uint8_t* bytes, int count, double* out) {
  alignas(64) uint32_t words[kMost];
  split(bytes, count / 2, words);
  return decode_from_words(kE2M1, words, count, out);
}

double decode_ue8m0(uint8_t bits) {
  if (bits == 255) return std::numeric_limits<double>::quiet_NaN();
  const uint64_t pattern = uint64_t(int(bits) - 127 + 1023) << 52;
  double d;
  std::memcpy(&d, &pattern, sizeof d);
  return d;
}

double decode_ue4m3(uint8_t bits) {
  const uint32_t m = bits & 0x7fu;
  if (m == 0x7f) return std::numeric_limits<double>::quiet_NaN();
  if (m < 8) return double(m) / 512.0;
  return double(as_float((m << 20) + (uint32_t{120} << 23)));
}

}  // namespace emu
