// cvt: PTX ISA 9.0, section 9.7.9. The conversions that inner loops are made of, and those between integers, have files
// of their own; every other one goes through an exact number (exec/float_format.h).
#include "emu/exec/convert.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "emu/config.h"
#include "emu/exec/float_format.h"
#include "emu/exec/lanes.h"

namespace emu {
namespace {

using ptx::Type;

int elements_of(Type t) {
  switch (t) {
    case Type::kF16x2:
    case Type::kBF16x2:
    case Type::kE4M3x2:
    case Type::kE5M2x2:
    case Type::kE3M2x2:
    case Type::kE2M3x2:
    case Type::kE2M1x2:
    case Type::kUE8M0x2: return 2;
    case Type::kE4M3x4:
    case Type::kE5M2x4:
    case Type::kE3M2x4:
    case Type::kE2M3x4:
    case Type::kE2M1x4: return 4;
    default: return 1;
  }
}
// Bits from one element of a register to the next.
int pitch_of(Type t) {
  switch (t) {
    case Type::kF16x2:
    case Type::kBF16x2: return 16;
    case Type::kE2M1x2:
    case Type::kE2M1x4: return 4;
    default: return elements_of(t) == 1 ? ptx::bits_of(t) : 8;
  }
}
bool is_integer(Type t) {
  return with_integer(t, [](auto) {}) && ptx::name_of(t)[0] != 'b';
}
bool is_plain_float(Type t) { return t == Type::kF16 || t == Type::kBF16 || t == Type::kF32 || t == Type::kF64; }

int64_t widen(uint64_t w, Type t) {  // the value of a register word; u64 as its bits
  int64_t v = 0;
  with_integer(t, [&](auto zero) { v = static_cast<int64_t>(static_cast<decltype(zero)>(w)); });
  return v;
}

// ---- everything else

enum class Integral : uint8_t { kNone, kNearest, kZero, kDown, kUp };

struct ConversionPlan {
  Type from, to;
  const FloatFormat* from_format;  // null: integer or ue8m0
  const FloatFormat* to_format;
  int elements, from_pitch, to_pitch;
  bool packed;  // the elements of the source lie in one register, else in one each
  Rounding rounding;
  Integral integral;
  bool flush_source, flush_result, saturate, relu;
  int register_bits;                // of an integer destination
  std::array<uint16_t, 256> table;  // 8-bit formats to f16: all results
  bool has_table;
};

double to_integral(double v, Integral how) {
  switch (how) {
    case Integral::kNearest: return std::nearbyint(v);
    case Integral::kZero: return std::trunc(v);
    case Integral::kDown: return std::floor(v);
    case Integral::kUp: return std::ceil(v);
    case Integral::kNone: break;
  }
  return v;
}

double value_of(const Number& n) {
  if (n.nan) return std::numeric_limits<double>::quiet_NaN();
  const double magnitude =
      n.infinite ? std::numeric_limits<double>::infinity() : std::ldexp(static_cast<double>(n.mantissa), n.exponent);
  return n.negative ? -magnitude : magnitude;
}

bool is_subnormal(uint64_t bits, const FloatFormat& f) {
  const uint64_t magnitude = bits & ((uint64_t{1} << (f.bits() - 1)) - 1);
  return magnitude != 0 && magnitude >> f.mantissa == 0;
}

Number read_number(const ConversionPlan& p, uint64_t bits) {
  if (p.from == Type::kUE8M0x2) {
    Number n;
    n.nan = bits == 255;
    n.mantissa = 1;
    n.exponent = static_cast<int>(bits) - 127;
    return n;
  }
  if (p.from_format != nullptr) {
    Number n = number_of(bits, *p.from_format);
    if (p.flush_source && is_subnormal(bits, *p.from_format)) n.mantissa = 0;
    return n;
  }
  Number n;
  const int64_t v = widen(bits, p.from);
  n.negative = ptx::is_signed(p.from) && v < 0;
  n.mantissa = n.negative ? uint64_t{0} - static_cast<uint64_t>(v) : static_cast<uint64_t>(v);
  return n;
}

uint64_t to_float(const ConversionPlan& p, Number n, const Rounding& rounding) {
  if (p.integral != Integral::kNone && !n.nan && !n.infinite) {
    const bool negative = n.negative;
    n = number_of(to_integral(value_of(n), p.integral));
    n.negative = negative;  // -0.4 becomes -0
  }
  if (p.saturate) {  // to [0, 1]; a NaN gives +0
    if (n.nan || n.negative) return 0;
    if (n.infinite || value_of(n) > 1.0) n = number_of(1.0);
  }
  if (p.to == Type::kUE8M0x2) return round_to_ue8m0(n, rounding);
  uint64_t bits = round_to(n, *p.to_format, rounding);
  if (p.flush_result && is_subnormal(bits, *p.to_format)) bits &= uint64_t{1} << (p.to_format->bits() - 1);
  if (p.relu && n.negative && !n.nan) bits = 0;
  return p.to == Type::kTF32 ? bits << 13 : bits;
}

// Out of range clamps. NaN: 0, but where 64 bits are involved 1 in the highest bit of the destination.
uint64_t to_integer(const ConversionPlan& p, const Number& n) {
  const int bits = ptx::bits_of(p.to);
  if (n.nan) {
    const bool wide = p.from == Type::kF64 || bits == 64;
    return wide ? uint64_t{1} << (bits - 1) : 0;
  }
  const double v = to_integral(value_of(n), p.integral);
  uint64_t result = 0;
  with_integer(p.to, [&](auto zero) {
    using T = decltype(zero);
    constexpr T least = std::numeric_limits<T>::min(), most = std::numeric_limits<T>::max();
    const double above = std::ldexp(1.0, std::numeric_limits<T>::digits);  // most + 1, exact
    const T clamped = v >= above ? most : v < static_cast<double>(least) ? least : static_cast<T>(v);
    result = static_cast<uint64_t>(static_cast<int64_t>(clamped));
  });
  return result;
}

uint64_t register_mask(int bits) { return bits >= 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1; }

// The random bits of an element, counted from the low end of the destination.
void set_random(Rounding* r, Type to, uint32_t random, int element) {
  const uint32_t half = random >> (16 * (elements_of(to) == 2 ? element : element / 2)) & 0xffff;
  r->random_bits = 16;
  if (to == Type::kF16x2) {
    r->random = half & 0x1fff;
    r->random_bits = 13;
  } else if (to == Type::kE2M1x4) {  // a byte of each half: the low ones for e and f, the high ones for a and b
    const int shift = element / 2 * 8;
    r->random = (random >> (16 + shift) & 0xff) << 8 | (random >> shift & 0xff);
  } else {
    r->random = half;
  }
}

uint64_t source_word(Warp& w, const Instr& i, int source, Type t, int lane) {
  return ptx::bits_of(t) == 64 ? w.u64(i.s[source])[lane] : w.u32(i.s[source])[lane];
}

void run_general(Warp& w, const Instr& i, Mask active) {
  const ConversionPlan& p = *static_cast<const ConversionPlan*>(i.plan);
  const uint64_t element_mask = register_mask(p.from_pitch);
  for (; active != 0; active &= active - 1) {
    const int l = __builtin_ctz(active);
    uint64_t result = 0;
    for (int e = 0; e < p.elements; ++e) {
      const uint64_t word = source_word(w, i, p.packed ? 0 : p.elements - 1 - e, p.from, l);
      const uint64_t bits = word >> (p.packed ? e * p.from_pitch : 0) & element_mask;
      uint64_t out;
      if (p.has_table) {
        out = p.table[bits];
      } else if (p.to_format != nullptr || p.to == Type::kUE8M0x2) {
        Rounding rounding = p.rounding;
        if (rounding.mode == Round::kStochastic) {
          set_random(&rounding, p.to, w.u32(i.s[p.packed ? 1 : p.elements])[l], e);
        }
        out = to_float(p, read_number(p, bits), rounding);
      } else {
        out = to_integer(p, read_number(p, bits)) & register_mask(p.register_bits);
      }
      result |= out << (e * p.to_pitch);
    }
    if (ptx::bits_of(p.to) == 64) {
      w.u64(i.d[0])[l] = result;
    } else {
      w.u32(i.d[0])[l] = static_cast<uint32_t>(result);
    }
  }
}

// ---- decoding

Rounding rounding_of(const Modifiers& m) {
  Rounding r;
  r.satfinite = m.has(kSatfinite);
  if (m.has(kRz)) r.mode = Round::kZero;
  if (m.has(kRm)) r.mode = Round::kDown;
  if (m.has(kRp)) r.mode = Round::kUp;
  if (m.has(kRna)) r.mode = Round::kNearestAway;
  if (m.has(kRs)) r.mode = Round::kStochastic;
  return r;
}
Integral integral_of(const Modifiers& m) {
  return m.has(kRni)   ? Integral::kNearest
         : m.has(kRzi) ? Integral::kZero
         : m.has(kRmi) ? Integral::kDown
         : m.has(kRpi) ? Integral::kUp
                       : Integral::kNone;
}

constexpr ModifierSet kIntegral = kRni | kRzi | kRmi | kRpi;

// The modifiers that stand with a pair of types: PTX ISA 9.0, the syntax of cvt. False where there is no such pair.
struct Rule {
  ModifierSet choice = 0;  // exactly one of these ...
  bool required = true;    // ... or none where it is not required
  ModifierSet optional = 0;
  ModifierSet fixed = 0;  // must stand
};
bool find_rule(const Modifiers& m, Rule* rule) {
  const Type to = m.type, from = m.type2;
  const ModifierSet ftz = to == Type::kF32 || from == Type::kF32 ? kFtz : 0;
  if (is_integer(to) && is_integer(from)) {
    *rule = {0, false, kSat, 0};
    return true;
  }
  if (is_integer(to) && is_plain_float(from)) {
    *rule = {kIntegral, true, kSat | ftz, 0};
    return true;
  }
  if (is_plain_float(to) && is_integer(from)) {
    *rule = {kDirections, true, kSat, 0};
    return true;
  }
  if (is_plain_float(to) && is_plain_float(from)) {
    if (to == from) {
      *rule = {kIntegral, false, kSat | ftz, 0};
    } else {
      const FloatFormat& wide = *float_format(to);
      const FloatFormat& narrow = *float_format(from);
      const bool exact = wide.mantissa >= narrow.mantissa && wide.exponent >= narrow.exponent;
      *rule = {kDirections, !exact, kSat | ftz, 0};
      const bool half = to == Type::kF16 || to == Type::kBF16;
      if (half && from == Type::kF32 && !m.has(kRm | kRp)) rule->optional |= kRelu | kSatfinite;
    }
    return true;
  }
  if ((to == Type::kF16x2 || to == Type::kBF16x2) && from == Type::kF32) {
    *rule = {kRn | kRz | kRs, true, kRelu | kSatfinite, 0};
    return true;
  }
  if (to == Type::kTF32 && from == Type::kF32) {
    *rule = {kRn | kRz | kRna, true, kSatfinite | (m.has(kRna) ? 0 : kRelu), 0};
    return true;
  }
  if (to == Type::kUE8M0x2 && (from == Type::kF32 || from == Type::kBF16x2)) {
    *rule = {kRz | kRp, true, kSatfinite, 0};
    return true;
  }
  if (to == Type::kBF16x2 && from == Type::kUE8M0x2) {
    *rule = {kRn, true, 0, 0};
    return true;
  }
  const auto small = [](Type t, int elements) {
    return t != Type::kF16x2 && t != Type::kBF16x2 && t != Type::kUE8M0x2 && float_format(t) != nullptr &&
           elements_of(t) == elements;
  };
  if (small(to, 2) && (from == Type::kF32 ||
                       (from == Type::kF16x2 && pitch_of(to) == 8 && (to == Type::kE4M3x2 || to == Type::kE5M2x2)))) {
    *rule = {kRn, true, kRelu, kSatfinite};
    return true;
  }
  if (small(to, 4) && from == Type::kF32) {
    *rule = {kRs, true, kRelu, kSatfinite};
    return true;
  }
  if (to == Type::kF16x2 && small(from, 2)) {
    *rule = {kRn, true, kRelu, 0};
    return true;
  }
  return false;
}

// The rate class of what ptxas 13.0 makes of a conversion: F2FP, I2FP and the shifts that widen integers and bf16 are
// fixed-latency integer instructions; f16 is widened by HADD2.F32; I2F, F2I, F2F and FRND share the slow unit.
Class class_of(Type to, Type from) {
  if (is_integer(to) && is_integer(from)) return Class::kInteger;
  if (to == Type::kF32 && from == Type::kF16) return Class::kFloat16;
  if (to == Type::kF32 && (from == Type::kS32 || from == Type::kU32)) {
    return arch_number(config().arch) >= 86 ? Class::kInteger : Class::kConvert;
  }
  const bool packs = !is_integer(to) && !is_integer(from) && to != from && to != Type::kF64 && from != Type::kF64;
  return packs ? Class::kInteger : Class::kConvert;
}

void decode_cvt(Decoder& d) {
  if (d.take("pack")) return decode_pack(d);
  const Modifiers m = take_modifiers(d);
  if (m.type2 == Type::kNone) return fail_type(d, m.type2);
  Rule rule;
  if (!find_rule(m, &rule)) {
    return d.fail(std::string("unknown conversion from .") + ptx::name_of(m.type2) + " to ." + ptx::name_of(m.type));
  }
  if (!check_modifiers(d, m, rule.choice | rule.optional | rule.fixed)) return;
  if (rule.choice != 0 && !check_choice(d, m, rule.choice, rule.required)) return;
  if (rule.fixed != 0 && !check_choice(d, m, rule.fixed)) return;

  Instr& i = d.instr;
  i.cls = class_of(m.type, m.type2);
  i.type = m.type;
  i.type2 = m.type2;
  d.destination(0, m.type);
  if (is_integer(m.type) && is_integer(m.type2)) {
    return decode_integer_conversion(d, m);
  }
  ConversionPlan p = {};
  p.from = m.type2;
  p.to = m.type;
  p.from_format = float_format(m.type2);
  p.to_format = float_format(m.type);
  p.elements = elements_of(m.type);
  p.packed = elements_of(m.type2) > 1 || p.elements == 1;
  p.from_pitch = pitch_of(m.type2);
  p.to_pitch = pitch_of(m.type);
  p.rounding = rounding_of(m);
  p.integral = integral_of(m);
  p.flush_source = m.has(kFtz) && m.type2 == Type::kF32;
  p.flush_result = m.has(kFtz) && m.type == Type::kF32;
  p.saturate = m.has(kSat);
  p.relu = m.has(kRelu);
  p.register_bits = is_integer(m.type) ? filled_bits(d, m.type) : 64;
  if (p.from_format != nullptr && p.from_format->bits() <= 8 && m.type == Type::kF16x2) {
    for (uint32_t code = 0; code < 256; ++code) {
      p.table[code] = static_cast<uint16_t>(to_float(p, read_number(p, code), p.rounding));
    }
    p.has_table = true;
  }
  int operand = 1;
  if (p.packed) {
    d.source(operand++, m.type2);
  } else if (p.elements == 4) {
    if (d.vector_size(1) != 4)
      return d.fail("four values in braces are converted to ." + std::string(ptx::name_of(m.type)));
    d.source(operand++, m.type2);
  } else {
    d.source(operand++, m.type2);
    d.source(operand++, m.type2);
  }
  if (m.has(kRs)) d.source(operand++, Type::kB32);
  i.plan = d.keep(std::move(p));
  i.run = conversion_loop(m);
  if (i.run == nullptr) i.run = run_general;
}

}  // namespace

extern const InstructionRow kConvertInstructions[] = {{"cvt", decode_cvt}, {nullptr, nullptr}};

}  // namespace emu
