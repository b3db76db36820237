// The approximate functions: the exact value plus an error that depends on the seed and stays inside the documented
// maximum, so that code which relies on more shows. The same seed, function and input give the same result, as on a
// GPU.
//
// Maximum errors, PTX ISA 9.0, section 9.7.3 (f32, f64) and 9.7.4 (f16, bf16):
//   rcp.approx.f32     1 ulp                     div.approx.f32   2 ulp, 2^-126 <= |b| <= 2^126; beyond, 0 or NaN
//   sqrt.approx.f32    relative 2^-23            div.full.f32     2 ulp
//   rsqrt.approx.f32   relative 2^-22.9          ex2.approx.f32   2 ulp
//   lg2.approx.f32     absolute 2^-22 in (0.5, 2), relative 2^-22 elsewhere
//   sin, cos.approx    absolute 2^-20.5 in [-2 pi, 2 pi], 2^-14.7 in [-100 pi, 100 pi], beyond: no guarantee
//   tanh.approx.f32    relative 2^-11
//   ex2.approx.f16     relative 2^-9.9           ex2.approx.ftz.bf16  relative 2^-7
//   tanh.approx.f16    absolute 2^-10.987        tanh.approx.bf16     absolute 2^-8
//   rcp, rsqrt.approx.f64  undocumented: the high 32 bits of the operand count, those of the result are within 1 ulp of
//                      their 20-bit mantissa, its low 32 bits are zero
#include <algorithm>
#include <cmath>
#include <limits>

#include "emu/config.h"
#include "emu/exec/arithmetic.h"
#include "emu/exec/half_float.h"
#include "emu/exec/lanes.h"

namespace emu {
namespace {

using ptx::Type;
using F = Approximation;

constexpr uint16_t kFlush = 1;
constexpr double kTwoPi = 6.283185307179586;

// A number in [-1, 1) made of what determines the result.
double seeded_error(F f, uint64_t a, uint64_t b) {
  uint64_t h = config().seed + 0x9e3779b97f4a7c15u * (static_cast<uint64_t>(f) + 1);
  for (const uint64_t x : {a, b}) {  // splitmix64
    h += x + 0x9e3779b97f4a7c15u;
    h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
    h = (h ^ h >> 27) * 0x94d049bb133111ebu;
    h ^= h >> 31;
  }
  return static_cast<double>(static_cast<int64_t>(h)) * 0x1p-63;
}

double exact(F f, double a, double b) {
  switch (f) {
    case F::kRcp: return 1.0 / a;
    case F::kRsqrt: return 1.0 / std::sqrt(a);
    case F::kSqrt: return std::sqrt(a);
    case F::kDiv:
    case F::kDivFull: return a / b;
    case F::kEx2: return std::exp2(a);
    case F::kLg2: return std::log2(a);
    case F::kSin: return std::sin(a);
    case F::kCos: return std::cos(a);
    case F::kTanh: return std::tanh(a);
  }
  return a;
}

double ulp_f32(double v) {
  int exponent;
  std::frexp(v, &exponent);
  return std::ldexp(1.0, std::max(exponent - 24, -149));
}

double error_f32(F f, double a, double value) {
  const double magnitude = std::fabs(value);
  switch (f) {
    case F::kRcp: return ulp_f32(value);
    case F::kRsqrt: return magnitude * 0x1p-22 * 0.5358867312681466;  // 2^-22.9
    case F::kSqrt: return magnitude * 0x1p-23;
    case F::kDiv:
    case F::kDivFull:
    case F::kEx2: return 2 * ulp_f32(value);
    case F::kLg2: return a > 0.5 && a < 2.0 ? 0x1p-22 : magnitude * 0x1p-22;
    case F::kSin:
    case F::kCos: {
      const double x = std::fabs(a);
      if (x <= kTwoPi) return 0x1p-20 * 0.7071067811865476;       // 2^-20.5
      if (x <= 50 * kTwoPi) return 0x1p-14 * 0.6155722066724582;  // 2^-14.7
      return std::min(2.0, x * 0x1p-22);
    }
    case F::kTanh: return magnitude * 0x1p-11;
  }
  return 0;
}
double error_f16(F f, double value) {
  return f == F::kEx2 ? std::fabs(value) * 0x1p-9 * 0.5358867312681466 : 0x1p-10 * 0.5045316;  // 2^-9.9, 2^-10.987
}
double error_bf16(F f, double value) { return f == F::kEx2 ? std::fabs(value) * 0x1p-7 : 0x1p-8; }

// Inputs whose results the tables of the PTX ISA give are exact.
bool is_special(F f, double a, double b, double value) {
  if (std::isnan(value) || std::isinf(value) || std::isinf(a) || std::isinf(b)) return true;
  if (a == 0.0) return true;
  return value == 0.0 && f != F::kLg2 && f != F::kSin && f != F::kCos;
}

double clamp_range(F f, double v) {
  const bool bounded = f == F::kSin || f == F::kCos || f == F::kTanh;
  return bounded ? std::clamp(v, -1.0, 1.0) : v;
}

// A value of the format less than `error` away from `value`; the nearest one where the seed hits none, and where
// results are subnormal: there an error of whole places would reach beyond zero.
template <class Format>
uint32_t disturb(F f, double value, double error, uint64_t a, uint64_t b) {
  const bool may_change_sign = f == F::kLg2 || f == F::kSin || f == F::kCos;
  if (std::fabs(value) < Format::kSmallest && !may_change_sign) return Format::bits(value);
  const uint32_t moved = Format::bits(clamp_range(f, value + error * seeded_error(f, a, b)));
  return std::fabs(Format::value(moved) - value) < error ? moved : Format::bits(value);
}

struct Single {
  static constexpr double kSmallest = 0x1p-126;  // normal
  static double value(uint32_t u) { return bits_as<float>(u); }
  static uint32_t bits(double v) { return std::isnan(v) ? 0x7fffffffu : bits_as<uint32_t>(static_cast<float>(v)); }
  static uint32_t flush(uint32_t u) { return (u & 0x7f800000) == 0 ? u & 0x80000000 : u; }
  static double error(F f, double a, double value) { return error_f32(f, a, value); }
};
struct HalfFormat {
  static constexpr double kSmallest = 0x1p-14;
  static double value(uint32_t u) { return f16_value(u); }
  static uint32_t bits(double v) { return f16_bits(narrow_to_odd(v)); }
  static uint32_t flush(uint32_t u) { return (u & 0x7c00) == 0 ? u & 0x8000 : u; }
  static double error(F f, double, double value) { return error_f16(f, value); }
};
struct Brain {
  static constexpr double kSmallest = 0x1p-126;
  static double value(uint32_t u) { return bf16_value(u); }
  static uint32_t bits(double v) { return bf16_bits(narrow_to_odd(v)); }
  static uint32_t flush(uint32_t u) { return (u & 0x7f80) == 0 ? u & 0x8000 : u; }
  static double error(F f, double, double value) { return error_bf16(f, value); }
};

template <class Format>
uint32_t approximate(F f, uint32_t a, uint32_t b, bool flush) {
  if (flush) {
    a = Format::flush(a);
    b = Format::flush(b);
  }
  const double x = Format::value(a), y = Format::value(b);
  double value = exact(f, x, y);
  if (f == F::kDiv && std::fabs(y) > 0x1p126 && std::isfinite(y)) {
    // The reciprocal of such a divisor is no normal number.
    value = std::isinf(x)    ? std::numeric_limits<double>::quiet_NaN()
            : value == value ? std::copysign(0.0, value)
                             : value;
  }
  const uint32_t result = is_special(f, x, f == F::kDiv || f == F::kDivFull ? y : 0.0, value)
                              ? Format::bits(value)
                              : disturb<Format>(f, value, Format::error(f, x, value), a, b);
  return flush ? Format::flush(result) : result;
}

F function_of(const Instr& i) { return static_cast<F>(i.imm); }

void run_single(Warp& w, const Instr& i, Mask active) {
  const uint32_t* a = w.u32(i.s[0]);
  const uint32_t* b = w.u32(i.s[i.ns - 1]);
  uint32_t* d = w.u32(i.d[0]);
  const bool flush = (i.flags & kFlush) != 0;
  for (; active != 0; active &= active - 1) {
    const int l = __builtin_ctz(active);
    d[l] = approximate<Single>(function_of(i), a[l], i.ns == 2 ? b[l] : 0, flush);
  }
}
template <class Format>
void run_halves(Warp& w, const Instr& i, Mask active) {
  const uint32_t* a = w.u32(i.s[0]);
  uint32_t* d = w.u32(i.d[0]);
  const bool flush = (i.flags & kFlush) != 0;
  for (; active != 0; active &= active - 1) {
    const int l = __builtin_ctz(active);
    const uint32_t in = a[l];
    uint32_t out = approximate<Format>(function_of(i), in & 0xffff, 0, flush);
    if (i.count == 2) out |= approximate<Format>(function_of(i), in >> 16, 0, flush) << 16;
    d[l] = out;
  }
}
void run_double(Warp& w, const Instr& i, Mask active) {
  const uint64_t* a = w.u64(i.s[0]);
  uint64_t* d = w.u64(i.d[0]);
  constexpr uint64_t kHigh = ~uint64_t{0} << 32, kSign = uint64_t{1} << 63, kExponent = uint64_t{0x7ff} << 52;
  const auto flush = [&](uint64_t u) { return (u & kExponent) == 0 ? u & kSign : u; };
  for (; active != 0; active &= active - 1) {
    const int l = __builtin_ctz(active);
    uint64_t in = a[l] & kHigh;
    if ((a[l] & ~kSign) > kExponent) in = 0x7fffffff00000000;  // a NaN stays one
    if ((i.flags & kFlush) != 0) in = flush(in);
    const double value = exact(function_of(i), bits_as<double>(in), 0.0);
    uint64_t out = bits_as<uint64_t>(value);
    if (std::isnan(value)) {
      out = 0x7fffffff00000000;
    } else if (std::isfinite(value) && value != 0.0) {
      // Of the two neighbors with 32 zeros the seed picks one.
      const bool up = seeded_error(function_of(i), in, 0) >= 0 && (out & ~kHigh) != 0;
      out = (out & kHigh) + (up ? uint64_t{1} << 32 : 0);
      if ((i.flags & kFlush) != 0) out = flush(out);
    }
    d[l] = out;
  }
}

bool has_f64(F f, bool ftz) { return f == F::kRsqrt || (f == F::kRcp && ftz); }

template <F kFunction>
void decode_approximate(Decoder& d) {
  decode_approximation(d, take_modifiers(d), kFunction);
}

}  // namespace

void decode_approximation(Decoder& d, const Modifiers& m, F f) {
  const bool half_function = f == F::kEx2 || f == F::kTanh;
  const bool known =
      m.type == Type::kF32 || (m.type == Type::kF64 && has_f64(f, m.has(kFtz))) || (half_function && is_half(m.type));
  const ModifierSet which = f == F::kDivFull ? kFull : kApprox;
  const bool brain = m.type == Type::kBF16 || m.type == Type::kBF16x2;
  // ex2 of bf16 flushes and says so, ex2 of f16 and tanh keep subnormals.
  const bool may_flush = f != F::kTanh && (brain || !is_half(m.type));
  if (m.type2 != Type::kNone) return fail_type(d, m.type2);
  if (!check_modifiers(d, m, which | (may_flush ? kFtz : 0), known) || !check_choice(d, m, which)) return;
  if (f == F::kEx2 && brain && !check_choice(d, m, kFtz)) return;
  d.destination(0, m.type);
  d.source(1, m.type);
  if (f == F::kDiv || f == F::kDivFull) d.source(2, m.type);
  Instr& i = d.instr;
  i.cls = Class::kSpecial;
  i.type = m.type;
  i.imm = static_cast<int64_t>(f);
  i.flags = m.has(kFtz) ? kFlush : 0;
  i.count = m.type == Type::kF16x2 || m.type == Type::kBF16x2 ? 2 : 1;
  i.run = m.type == Type::kF64 ? run_double
          : brain              ? run_halves<Brain>
          : is_half(m.type)    ? run_halves<HalfFormat>
                               : run_single;
}

extern const InstructionRow kApproximateInstructions[] = {
    {"rsqrt", decode_approximate<F::kRsqrt>},
    {"ex2", decode_approximate<F::kEx2>},
    {"lg2", decode_approximate<F::kLg2>},
    {"sin", decode_approximate<F::kSin>},
    {"cos", decode_approximate<F::kCos>},
    {"tanh", decode_approximate<F::kTanh>},
    {nullptr, nullptr},
};

}  // namespace emu
