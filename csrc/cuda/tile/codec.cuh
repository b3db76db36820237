// One float to one code: encode (formats/codec.h) and encode_stochastic (ref/stochastic_round.h), bit for bit, and
// back. A coder is made on the host from the row of a format, travels as a kernel parameter and has
//   nearest(y), stochastic(y, bits)   the code, bits above the format's clear; `bits` are 16 random ones
//   value(code)                       what it stands for
//
// With w = trunc(|y|) and r = |y| - w, both exact, y goes outward from w where its bits are below p = r * 2^16 rounded
// to even, or for negative y at or above 2^16 - p: the rule of stochastic_round.h for either sign, since 2^16 is even
// and so p of 1 - r is 2^16 - p of r.
#pragma once

#include <cstdint>

#include "formats/codec.h"

#if defined(__CUDACC__)
#define LOWBIT_HD __host__ __device__ __forceinline__
#else
#define LOWBIT_HD inline
#endif

namespace lowbit::cuda {

LOWBIT_HD float from_bits(uint32_t b) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(b);
#else
  float f;
  __builtin_memcpy(&f, &b, 4);
  return f;
#endif
}
LOWBIT_HD uint32_t to_bits(float f) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(f);
#else
  uint32_t b;
  __builtin_memcpy(&b, &f, 4);
  return b;
#endif
}
LOWBIT_HD uint32_t magnitude_bits(float f) { return to_bits(f) & 0x7fffffffu; }
LOWBIT_HD bool is_finite(float f) { return magnitude_bits(f) < 0x7f800000u; }
LOWBIT_HD float magnitude(float f) { return from_bits(magnitude_bits(f)); }
LOWBIT_HD float power_of_two(int e) { return from_bits(static_cast<uint32_t>(e + 127) << 23); }  // normal results

// To the nearest integer, ties to even; |x| below 2^22.
LOWBIT_HD int nearest_int(float x) {
#if defined(__CUDA_ARCH__)
  return __float2int_rn(x);
#else
  return static_cast<int>(__builtin_nearbyintf(x));
#endif
}
LOWBIT_HD float least(float a, float b) { return a < b ? a : b; }
LOWBIT_HD float clamped(float y, float low, float high) { return y < low ? low : y > high ? high : y; }

LOWBIT_HD bool goes_outward(uint32_t p, uint32_t bits, bool negative) {
  return negative ? bits >= 0x10000u - p : bits < p;
}

// Signed, unsigned and ternary integers, or bipolar ones: the odd numbers from -top to top, code (v + top) / 2.
struct IntCoder {
  bool bipolar = false, has_sign = false;
  int bits = 8;
  float low = 0, high = 0;

  IntCoder() = default;
  explicit IntCoder(const ElementFormat& f) : bipolar(f.rule == kBipolar), bits(f.bits) {
    has_sign = f.rule == kSigned || f.rule == kTernary;
    const int top = bipolar ? (1 << f.bits) - 1 : static_cast<int>(max_code(f));
    high = static_cast<float>(top);
    low = bipolar               ? -high
          : f.rule == kUnsigned ? 0.0f
          : f.rule == kTernary  ? -1.0f
                                : -static_cast<float>(1 << (bits - 1));
  }

  LOWBIT_HD uint32_t mask() const { return (1u << bits) - 1u; }
  LOWBIT_HD uint32_t bipolar_code(int v) const { return static_cast<uint32_t>(v + static_cast<int>(mask())) >> 1; }
  LOWBIT_HD float ready(float y) const { return clamped(y == y ? y : 0.0f, low, high); }

  LOWBIT_HD uint32_t nearest(float y) const {
    y = ready(y);
    if (!bipolar) return static_cast<uint32_t>(nearest_int(y)) & mask();
    int floor = static_cast<int>(y);
    floor -= static_cast<float>(floor) > y;
    const bool odd = (floor & 1) != 0;
    const bool tie = !odd && static_cast<float>(floor) == y;
    const uint32_t code = bipolar_code(odd ? floor : floor + 1);
    return tie ? code & ~1u : code;
  }
  LOWBIT_HD uint32_t stochastic(float y, uint32_t random) const {
    y = ready(y);
    const float a = magnitude(y);
    int whole = static_cast<int>(a);
    const float rest = a - static_cast<float>(whole);
    const bool negative = y < 0;
    if (!bipolar) {
      whole += goes_outward(static_cast<uint32_t>(nearest_int(rest * 65536.0f)), random, negative);
      return static_cast<uint32_t>(negative ? -whole : whole) & mask();
    }
    // the odd number below the magnitude is `whole`, or one less where that is even (-1 at 0); p counts half steps
    const int even = ~whole & 1;
    const auto p = static_cast<uint32_t>(nearest_int(rest * 32768.0f) + (even ? 32768 : 0));
    whole += (goes_outward(p, random, negative) ? 2 : 0) - even;
    return bipolar_code(negative ? -whole : whole);
  }
  LOWBIT_HD float value(uint32_t code) const {
    const int c = static_cast<int>(code);
    if (bipolar) return static_cast<float>(2 * c - static_cast<int>(mask()));
    return static_cast<float>(has_sign && code >> (bits - 1) ? c - (1 << bits) : c);
  }
};

// Signed minifloats, and the 16-bit floats. Normal values are cut out of the bits of the float32; below the least
// normal one a sum with 2^23 quanta (nearest) or a product with their inverse (stochastic) counts the quanta.
struct FloatCoder {
  int mantissa = 0, shift = 0, rebias = 0, sign_shift = 0;
  bool infinite = false, nan = false, same_exponent = false;
  float largest = 0, least_normal = 0, magic = 0, quantum = 0, quanta = 0;  // quanta = 1 / quantum
  uint32_t infinity_code = 0, nan_magnitude = 0;

  FloatCoder() = default;
  explicit FloatCoder(const ElementFormat& f)
      : mantissa(f.mantissa),
        shift(23 - f.mantissa),
        rebias((127 - f.bias) << f.mantissa),
        sign_shift(32 - f.bits),
        infinite(f.specials == kIeee),
        nan(f.specials != kFinite),
        same_exponent(f.bias == 127) {
    const uint32_t last = max_code(f);
    largest = from_bits((last + static_cast<uint32_t>(rebias)) << shift);
    least_normal = power_of_two(1 - f.bias);
    magic = power_of_two(24 - f.bias - f.mantissa);
    quantum = same_exponent ? 0.0f : power_of_two(1 - f.bias - f.mantissa);
    quanta = same_exponent ? 0.0f : power_of_two(f.bias + f.mantissa - 1);
    infinity_code = last + 1;
    nan_magnitude = nan_code(f);
  }

  // The sign and the special values of y on a magnitude code.
  LOWBIT_HD uint32_t finish(uint32_t code, float y) const {
    if (infinite && magnitude_bits(y) == 0x7f800000u) code = infinity_code;
    code |= (to_bits(y) & 0x80000000u) >> sign_shift;
    return y == y ? code : nan ? nan_magnitude : 0u;
  }
  LOWBIT_HD uint32_t nearest(float y) const {
    const float a = least(magnitude(y), largest);
    const uint32_t raw = to_bits(a);
    const uint32_t round = (raw >> shift & 1u) + ((1u << (shift - 1)) - 1u);
    const uint32_t normal = ((raw + round) >> shift) - static_cast<uint32_t>(rebias);
    const uint32_t small = to_bits(a + magic) - to_bits(magic);
    return finish(a < least_normal ? small : normal, y);
  }
  LOWBIT_HD uint32_t stochastic(float y, uint32_t random) const {
    const float a = least(magnitude(y), largest);
    const uint32_t raw = to_bits(a);
    uint32_t code = (raw >> shift) - static_cast<uint32_t>(rebias);
    uint32_t p = raw & ((1u << shift) - 1u);
    if (shift < 16) {
      p <<= 16 - shift;
    } else if (shift > 16) {  // to 16 bits, ties to even
      const int drop = shift - 16;
      p = (p + (p >> drop & 1u) + ((1u << (drop - 1)) - 1u)) >> drop;
    }
    if (!same_exponent && a < least_normal) {
      const float t = a * quanta;
      code = static_cast<uint32_t>(static_cast<int>(t));
      p = static_cast<uint32_t>(nearest_int((t - static_cast<float>(static_cast<int>(t))) * 65536.0f));
    }
    code += goes_outward(p, random, (to_bits(y) & 0x80000000u) != 0);
    return finish(code, y);
  }
  LOWBIT_HD float value(uint32_t code) const {
    const uint32_t sign = code << sign_shift & 0x80000000u;
    const uint32_t bits = code & nan_magnitude;
    uint32_t v = (bits + static_cast<uint32_t>(rebias)) << shift;
    if (!same_exponent && bits < 1u << mantissa) v = to_bits(static_cast<float>(static_cast<int>(bits)) * quantum);
    if (nan && bits >= infinity_code)
      return from_bits(infinite && bits == infinity_code ? sign | 0x7f800000u : 0x7fc00000u);
    return from_bits(v | sign);
  }
};

// A row of formats.def as a kernel parameter. Its pointers are the host's; the tables of kTable rows stand on the
// device under the row's number.
struct DeviceFormat {
  ElementFormat row = {};
  int number = -1;

  DeviceFormat() = default;
  explicit DeviceFormat(const ElementFormat& f) : row(f) {
    const ElementFormat* found = find_format(f.name);
    if (found != nullptr) number = static_cast<int>(found - kFormats);
  }
};

// Tables, codebooks and powers of two (E8M0): codes ascend with their values. `values` and `middles` are tables in
// shared memory that fill() makes: middles[c] is the largest float not above the midpoint of values c and c + 1.
struct LookupCoder {
  DeviceFormat format;
  const float* codebook = nullptr;
  const float* values = nullptr;
  const float* middles = nullptr;

  LookupCoder() = default;
  LookupCoder(const ElementFormat& f, const float* book) : format(f), codebook(book) {}

  LOWBIT_HD bool is_power() const { return format.row.kind == Kind::kFloat; }

  LOWBIT_HD uint32_t nearest(float y) const {
    if (is_power()) return codec_detail::encode_float(format.row, y);
    if (y != y) y = 0.0f;
    uint32_t code = 0;
    for (uint32_t step = 1u << (format.row.bits - 1); step > 0; step /= 2)
      code += y > middles[code + step - 1] ? step : 0;
    return code;
  }
  LOWBIT_HD uint32_t stochastic(float y, uint32_t random) const {
    const uint32_t near = nearest(y);
    const float v = values[near];
    if (!is_finite(y) || v != v || v == y) return near;
    const bool below = v < y;
    if (below ? near == max_code(format.row) : near == 0) return near;
    const uint32_t low = below ? near : near - 1;
    const double a = values[low], b = values[low + 1];
    const double p = (static_cast<double>(y) - a) / (b - a) * 65536.0;
    // to even, as std::nearbyint
    auto whole = static_cast<uint32_t>(p);
    const double rest = p - static_cast<double>(whole);
    whole += rest > 0.5 || (rest == 0.5 && (whole & 1u));
    return random < whole ? low + 1 : low;
  }
  LOWBIT_HD float value(uint32_t code) const { return values[code]; }
};

LOWBIT_HD float middle_of(float low, float high) {
  float m = static_cast<float>((static_cast<double>(low) + static_cast<double>(high)) * 0.5);
  // at most one float away from the wanted one: m is the midpoint rounded twice
  const auto step = [](float f, bool up) {
    if (f == 0.0f) return from_bits(up ? 1u : 0x80000001u);
    return from_bits(to_bits(f) + ((f > 0) == up ? 1u : ~0u));
  };
  while (codec_detail::above_midpoint(low, high, m)) m = step(m, false);
  while (!codec_detail::above_midpoint(low, high, step(m, true))) m = step(m, true);
  return m;
}

#if defined(__CUDACC__)

// The values of the kTable formats on the device, from their rows.
#define LOWBIT_TABLE(name, bits, tie, overflow, ...) static __device__ const float device_##name[] = {__VA_ARGS__};
#include "formats/formats.def"

// The value of a code of a minifloat.
__device__ __forceinline__ float minifloat_value(const ElementFormat& f, uint32_t code) {
  if (f.specials == kPower) {
    return code == 0 ? from_bits(0x00400000u) : from_bits(code == 255u ? 0x7fc00000u : code << 23);
  }
  const uint32_t magnitude = code & ((1u << (f.exponent + f.mantissa)) - 1u);
  // the bits as those of a float with that exponent, which gives subnormals right too
  float v = from_bits(magnitude << (23 - f.mantissa)) * power_of_two(127 - f.bias);
  if (f.specials != kFinite && magnitude > max_code(f)) {
    v = from_bits(f.specials == kIeee && magnitude == max_code(f) + 1u ? 0x7f800000u : 0x7fc00000u);
  }
  return f.has_sign() ? from_bits(to_bits(v) | code >> (f.bits - 1) << 31) : v;
}

// The value of a code of any real format; one at a time, for scales and tables.
__device__ __forceinline__ float decode_one(const DeviceFormat& format, uint32_t code, const float* codebook) {
  const ElementFormat& f = format.row;
  switch (f.kind) {
    case Kind::kInt: return static_cast<float>(decode_int(f, code));
    case Kind::kFloat: break;
    case Kind::kCodebook: return codebook[code];
    case Kind::kTable:
#define LOWBIT_TABLE(name, bits, tie, overflow, ...)                        \
  {                                                                         \
    constexpr int number = static_cast<int>(find_format(#name) - kFormats); \
    if (format.number == number) return device_##name[code];                \
  }
#include "formats/formats.def"
      return 0.0f;
  }
  return minifloat_value(f, code);
}

// Shared memory of a coder's tables, in floats; and their filling by all threads of the block, with a barrier after it.
template <class Coder>
inline constexpr int kCoderTable = 0;
template <>
inline constexpr int kCoderTable<LookupCoder> = 512;

__device__ __forceinline__ void fill(const IntCoder&, float*) {}
__device__ __forceinline__ void fill(const FloatCoder&, float*) {}
__device__ __forceinline__ void fill(LookupCoder& coder, float* table) {
  const int n = 1 << coder.format.row.bits;
  for (int c = static_cast<int>(threadIdx.x); c < n; c += static_cast<int>(blockDim.x)) {
    table[c] = decode_one(coder.format, static_cast<uint32_t>(c), coder.codebook);
  }
  __syncthreads();
  for (int c = static_cast<int>(threadIdx.x); c < n - 1 && !coder.is_power(); c += static_cast<int>(blockDim.x)) {
    const float low = table[c], high = table[c + 1];
    table[256 + c] = is_finite(low) && is_finite(high) && low <= high ? middle_of(low, high) : high;
  }
  __syncthreads();
  coder.values = table;
  coder.middles = table + 256;
}

#endif

}  // namespace lowbit::cuda
