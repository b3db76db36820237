// Integer arithmetic: PTX ISA 9.0, section 9.7.1. Opcodes that floats have too are told apart here.
#include <algorithm>

#include "emu/exec/arithmetic.h"
#include "emu/exec/lanes.h"

namespace emu {
namespace {

using ptx::Type;

// Arithmetic wraps, so it is done in the unsigned type, and in 32 bits at least: uint16_t would be promoted to int.
template <class T>
using Unsigned = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
template <class T>
using Twice =
    std::conditional_t<sizeof(T) == 8, std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>,
                       std::conditional_t<sizeof(T) == 4, std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>,
                                          std::conditional_t<std::is_signed_v<T>, int32_t, uint32_t>>>;

struct Add {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(Unsigned<T>(a) + Unsigned<T>(b));
  }
};
struct Sub {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(Unsigned<T>(a) - Unsigned<T>(b));
  }
};
struct AddSat {
  int32_t operator()(int32_t a, int32_t b) const {
    const int64_t r = int64_t{a} + b;
    return static_cast<int32_t>(std::clamp<int64_t>(r, INT32_MIN, INT32_MAX));
  }
};
struct SubSat {
  int32_t operator()(int32_t a, int32_t b) const {
    const int64_t r = int64_t{a} - b;
    return static_cast<int32_t>(std::clamp<int64_t>(r, INT32_MIN, INT32_MAX));
  }
};
struct MulLo {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(Unsigned<T>(a) * Unsigned<T>(b));
  }
};
struct MulHi {
  template <class T>
  T operator()(T a, T b) const {
    // The product of two uint16_t reaches beyond int.
    return static_cast<T>((Twice<T>(a) * Twice<T>(b)) >> (8 * sizeof(T)));
  }
};
struct MulWide {
  template <class T>
  Twice<T> operator()(T a, T b) const {
    return Twice<T>(a) * Twice<T>(b);
  }
};
struct MadLo {
  template <class T>
  T operator()(T a, T b, T c) const {
    return Add()(MulLo()(a, b), c);
  }
};
struct MadHi {
  template <class T>
  T operator()(T a, T b, T c) const {
    return Add()(MulHi()(a, b), c);
  }
};
struct MadHiSat {
  int32_t operator()(int32_t a, int32_t b, int32_t c) const { return AddSat()(MulHi()(a, b), c); }
};
struct MadWide {
  template <class T, class W>
  W operator()(T a, T b, W c) const {
    return Add()(static_cast<W>(MulWide()(a, b)), c);
  }
};

// mul24 reads the low 24 bits of its operands, sign extended for s32.
template <class T>
inline int64_t low24(T a) {
  return std::is_signed_v<T> ? static_cast<int32_t>(static_cast<uint32_t>(a) << 8) >> 8
                             : static_cast<int64_t>(static_cast<uint32_t>(a) & 0xffffff);
}
struct Mul24Lo {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(low24(a) * low24(b));
  }
};
struct Mul24Hi {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>((low24(a) * low24(b)) >> 16);
  }
};
struct Mad24Lo {
  template <class T>
  T operator()(T a, T b, T c) const {
    return Add()(Mul24Lo()(a, b), c);
  }
};
struct Mad24Hi {
  template <class T>
  T operator()(T a, T b, T c) const {
    return Add()(Mul24Hi()(a, b), c);
  }
};
struct Mad24HiSat {
  int32_t operator()(int32_t a, int32_t b, int32_t c) const { return AddSat()(Mul24Hi()(a, b), c); }
};
struct Sad {
  template <class T>
  T operator()(T a, T b, T c) const {
    using U = Unsigned<T>;
    const U difference = a < b ? U(b) - U(a) : U(a) - U(b);
    return static_cast<T>(U(c) + difference);
  }
};
// Division by zero gives "an unspecified, machine-specific value": all ones. The one quotient that overflows wraps.
struct Div {
  template <class T>
  T operator()(T a, T b) const {
    if (b == 0) return static_cast<T>(~T{0});
    if constexpr (std::is_signed_v<T>) {
      if (b == -1) return Sub()(T{0}, a);
    }
    return static_cast<T>(a / b);
  }
};
struct Rem {
  template <class T>
  T operator()(T a, T b) const {
    if (b == 0) return static_cast<T>(~T{0});
    if constexpr (std::is_signed_v<T>) {
      if (b == -1) return 0;
    }
    return static_cast<T>(a % b);
  }
};
struct Abs {
  template <class T>
  T operator()(T a) const {
    return a < 0 ? Sub()(T{0}, a) : a;
  }
};
struct Neg {
  template <class T>
  T operator()(T a) const {
    return Sub()(T{0}, a);
  }
};
struct Min {
  template <class T>
  T operator()(T a, T b) const {
    return a < b ? a : b;
  }
};
struct Max {
  template <class T>
  T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};
template <class Op>
struct Relu {
  template <class T>
  T operator()(T a, T b) const {
    return Max()(Op()(a, b), T{0});
  }
};
template <class Op, class H>
struct InHalves {
  uint32_t operator()(uint32_t a, uint32_t b) const {
    const uint16_t low = static_cast<uint16_t>(Op()(static_cast<H>(a), static_cast<H>(b)));
    const uint16_t high = static_cast<uint16_t>(Op()(static_cast<H>(a >> 16), static_cast<H>(b >> 16)));
    return uint32_t{high} << 16 | low;
  }
};

template <class A, class B>  // int8_t or uint8_t
struct Dp4a {
  uint32_t operator()(uint32_t a, uint32_t b, uint32_t c) const {
    for (int i = 0; i < 32; i += 8) {
      c += static_cast<uint32_t>(int32_t{static_cast<A>(a >> i)} * int32_t{static_cast<B>(b >> i)});
    }
    return c;
  }
};
template <class A, class B, int kFrom>  // A 16 bits, B 8 bits
struct Dp2a {
  uint32_t operator()(uint32_t a, uint32_t b, uint32_t c) const {
    for (int i = 0; i < 2; ++i) {
      c += static_cast<uint32_t>(int32_t{static_cast<A>(a >> (16 * i))}) *
           static_cast<uint32_t>(int32_t{static_cast<B>(b >> (8 * i + 16 * kFrom))});
    }
    return c;
  }
};

// ---- decoding

void set_operands(Decoder& d, Type type, int sources, Class cls = Class::kInteger) {
  d.destination(0, type);
  for (int s = 1; s <= sources; ++s) d.source(s, type);
  d.instr.type = type;
  d.instr.cls = cls;
}

bool is_wide_enough(Type t) {  // the types of add, mul, div, ...
  return t == Type::kU16 || t == Type::kS16 || t == Type::kU32 || t == Type::kS32 || t == Type::kU64 || t == Type::kS64;
}

template <class Op>
void binary(Decoder& d, Type type) {
  set_operands(d, type, 2);
  with_integer(type, [&](auto t) {
    using T = decltype(t);
    if constexpr (sizeof(T) >= 2) d.instr.run = map_lanes<Op, T, T, T>;
  });
}
template <class Op>
void ternary(Decoder& d, Type type) {
  set_operands(d, type, 3);
  with_integer(type, [&](auto t) {
    using T = decltype(t);
    if constexpr (sizeof(T) >= 2) d.instr.run = map_lanes<Op, T, T, T, T>;
  });
}
template <class Op>
void unary_signed(Decoder& d, const Modifiers& m) {
  if (!check_modifiers(d, m, 0, is_wide_enough(m.type) && ptx::is_signed(m.type))) return;
  set_operands(d, m.type, 1);
  with_integer(m.type, [&](auto t) {
    using T = std::make_signed_t<decltype(t)>;
    if constexpr (sizeof(T) >= 2) d.instr.run = map_lanes<Op, T, T>;
  });
}
template <class Op>
bool halves(Decoder& d, Type type) {
  if (type != Type::kU16x2 && type != Type::kS16x2) return false;
  set_operands(d, type, 2);
  d.instr.run = type == Type::kU16x2 ? map_lanes<InHalves<Op, uint16_t>, uint32_t, uint32_t, uint32_t>
                                     : map_lanes<InHalves<Op, int16_t>, uint32_t, uint32_t, uint32_t>;
  return true;
}

template <class Op, class Saturated>
void decode_sum(Decoder& d, Arithmetic op) {
  const Modifiers m = take_modifiers(d);
  if (is_single(m.type)) return decode_float(d, m, op);
  if (is_half(m.type)) return decode_half(d, m, op);
  if (m.has(kCc)) return decode_carry_out(d, m, op);
  const bool pair = m.type == Type::kU16x2 || m.type == Type::kS16x2;
  if (!check_modifiers(d, m, m.type == Type::kS32 ? kSat : 0, is_wide_enough(m.type) || pair)) return;
  if (m.has(kSat)) {
    set_operands(d, m.type, 2);
    d.instr.run = map_lanes<Saturated, int32_t, int32_t, int32_t>;
  } else if (!halves<Op>(d, m.type)) {
    binary<Op>(d, m.type);
  }
}
void decode_add(Decoder& d) { decode_sum<Add, AddSat>(d, Arithmetic::kAdd); }
void decode_sub(Decoder& d) { decode_sum<Sub, SubSat>(d, Arithmetic::kSub); }
Type twice(Type t) {
  switch (t) {
    case Type::kU16: return Type::kU32;
    case Type::kS16: return Type::kS32;
    case Type::kU32: return Type::kU64;
    case Type::kS32: return Type::kS64;
    default: return Type::kNone;
  }
}

void decode_mul(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  if (is_single(m.type)) return decode_float(d, m, Arithmetic::kMul);
  if (is_half(m.type)) return decode_half(d, m, Arithmetic::kMul);
  const bool widens = twice(m.type) != Type::kNone;
  if (!check_modifiers(d, m, kLo | kHi | (widens ? kWide : 0), is_wide_enough(m.type))) return;
  if (!check_choice(d, m, kLo | kHi | kWide)) return;
  if (m.has(kLo)) return binary<MulLo>(d, m.type);
  if (m.has(kHi)) return binary<MulHi>(d, m.type);
  d.destination(0, twice(m.type));
  d.source(1, m.type);
  d.source(2, m.type);
  d.instr.cls = Class::kInteger;
  switch (m.type) {
    case Type::kU16: d.instr.run = map_lanes<MulWide, uint32_t, uint16_t, uint16_t>; break;
    case Type::kS16: d.instr.run = map_lanes<MulWide, int32_t, int16_t, int16_t>; break;
    case Type::kU32: d.instr.run = map_lanes<MulWide, uint64_t, uint32_t, uint32_t>; break;
    default: d.instr.run = map_lanes<MulWide, int64_t, int32_t, int32_t>; break;
  }
}

void decode_mad(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  // mad of floating types is fma since sm_20; there is none of half types.
  if (is_single(m.type)) return decode_float(d, m, Arithmetic::kFma);
  if (m.has(kCc)) return decode_carry_out(d, m, Arithmetic::kFma);
  const bool widens = twice(m.type) != Type::kNone;
  const uint32_t saturates = m.type == Type::kS32 && m.has(kHi) ? kSat : 0;
  if (!check_modifiers(d, m, kLo | kHi | saturates | (widens ? kWide : 0), is_wide_enough(m.type))) return;
  if (!check_choice(d, m, kLo | kHi | kWide)) return;
  if (m.has(kSat)) {
    set_operands(d, m.type, 3);
    d.instr.run = map_lanes<MadHiSat, int32_t, int32_t, int32_t, int32_t>;
    return;
  }
  if (m.has(kLo)) return ternary<MadLo>(d, m.type);
  if (m.has(kHi)) return ternary<MadHi>(d, m.type);
  d.destination(0, twice(m.type));
  d.source(1, m.type);
  d.source(2, m.type);
  d.source(3, twice(m.type));
  d.instr.cls = Class::kInteger;
  switch (m.type) {
    case Type::kU16: d.instr.run = map_lanes<MadWide, uint32_t, uint16_t, uint16_t, uint32_t>; break;
    case Type::kS16: d.instr.run = map_lanes<MadWide, int32_t, int16_t, int16_t, int32_t>; break;
    case Type::kU32: d.instr.run = map_lanes<MadWide, uint64_t, uint32_t, uint32_t, uint64_t>; break;
    default: d.instr.run = map_lanes<MadWide, int64_t, int32_t, int32_t, int64_t>; break;
  }
}

void decode_mul24(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  if (!check_modifiers(d, m, kLo | kHi, m.type == Type::kU32 || m.type == Type::kS32)) return;
  if (!check_choice(d, m, kLo | kHi)) return;
  m.has(kLo) ? binary<Mul24Lo>(d, m.type) : binary<Mul24Hi>(d, m.type);
}
void decode_mad24(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  const uint32_t saturates = m.type == Type::kS32 && m.has(kHi) ? kSat : 0;
  if (!check_modifiers(d, m, kLo | kHi | saturates, m.type == Type::kU32 || m.type == Type::kS32)) return;
  if (!check_choice(d, m, kLo | kHi)) return;
  if (m.has(kSat)) {
    set_operands(d, m.type, 3);
    d.instr.run = map_lanes<Mad24HiSat, int32_t, int32_t, int32_t, int32_t>;
    return;
  }
  m.has(kLo) ? ternary<Mad24Lo>(d, m.type) : ternary<Mad24Hi>(d, m.type);
}
void decode_sad(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  if (check_modifiers(d, m, 0, is_wide_enough(m.type))) ternary<Sad>(d, m.type);
}

template <class Op>
void quotient(Decoder& d, const Modifiers& m) {
  if (!check_modifiers(d, m, 0, is_wide_enough(m.type))) return;
  set_operands(d, m.type, 2);
  with_integer(m.type, [&](auto t) {
    using T = decltype(t);
    if constexpr (sizeof(T) >= 2) d.instr.run = map_active_lanes<Op, T, T, T>;
  });
}
void decode_div(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  if (m.has(kApprox)) return decode_approximation(d, m, Approximation::kDiv);
  if (m.has(kFull)) return decode_approximation(d, m, Approximation::kDivFull);
  if (is_single(m.type)) return decode_float(d, m, Arithmetic::kDiv);
  quotient<Div>(d, m);
}
void decode_rem(Decoder& d) { quotient<Rem>(d, take_modifiers(d)); }

void decode_abs(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  if (is_single(m.type)) return decode_float(d, m, Arithmetic::kAbs);
  if (is_half(m.type)) return decode_half(d, m, Arithmetic::kAbs);
  unary_signed<Abs>(d, m);
}
void decode_neg(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  if (is_single(m.type)) return decode_float(d, m, Arithmetic::kNeg);
  if (is_half(m.type)) return decode_half(d, m, Arithmetic::kNeg);
  unary_signed<Neg>(d, m);
}

template <class Op>
void decode_extreme(Decoder& d, Arithmetic op) {
  const Modifiers m = take_modifiers(d);
  if (is_single(m.type)) return decode_float(d, m, op);
  if (is_half(m.type)) return decode_half(d, m, op);
  const bool pair = m.type == Type::kU16x2 || m.type == Type::kS16x2;
  const bool clips = m.type == Type::kS16x2 || m.type == Type::kS32;
  if (!check_modifiers(d, m, clips ? kRelu : 0, is_wide_enough(m.type) || pair)) return;
  if (m.has(kRelu) && !pair) {
    set_operands(d, m.type, 2);
    d.instr.run = map_lanes<Relu<Op>, int32_t, int32_t, int32_t>;
  } else if (m.has(kRelu) ? !halves<Relu<Op>>(d, m.type) : !halves<Op>(d, m.type)) {
    binary<Op>(d, m.type);
  }
}
void decode_min(Decoder& d) { decode_extreme<Min>(d, Arithmetic::kMin); }
void decode_max(Decoder& d) { decode_extreme<Max>(d, Arithmetic::kMax); }

bool check_dot_types(Decoder& d, const Modifiers& m, uint32_t allowed) {
  const auto known = [](Type t) { return t == Type::kU32 || t == Type::kS32; };
  if (!check_modifiers(d, m, allowed, known(m.type))) return false;
  if (!known(m.type2)) {
    fail_type(d, m.type2);
    return false;
  }
  set_operands(d, Type::kB32, 3);
  return true;
}
void decode_dp4a(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  if (!check_dot_types(d, m, 0)) return;
  const bool a = m.type == Type::kS32, b = m.type2 == Type::kS32;
  using U = uint32_t;
  d.instr.run = a ? (b ? map_lanes<Dp4a<int8_t, int8_t>, U, U, U, U> : map_lanes<Dp4a<int8_t, uint8_t>, U, U, U, U>)
                  : (b ? map_lanes<Dp4a<uint8_t, int8_t>, U, U, U, U> : map_lanes<Dp4a<uint8_t, uint8_t>, U, U, U, U>);
}
template <int kFrom>
Instr::Handler dp2a_handler(bool a, bool b) {
  using U = uint32_t;
  return a ? (b ? map_lanes<Dp2a<int16_t, int8_t, kFrom>, U, U, U, U>
                : map_lanes<Dp2a<int16_t, uint8_t, kFrom>, U, U, U, U>)
           : (b ? map_lanes<Dp2a<uint16_t, int8_t, kFrom>, U, U, U, U>
                : map_lanes<Dp2a<uint16_t, uint8_t, kFrom>, U, U, U, U>);
}
void decode_dp2a(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  if (!check_choice(d, m, kLo | kHi) || !check_dot_types(d, m, kLo | kHi)) return;
  const bool a = m.type == Type::kS32, b = m.type2 == Type::kS32;
  d.instr.run = m.has(kLo) ? dp2a_handler<0>(a, b) : dp2a_handler<1>(a, b);
}

}  // namespace

extern const InstructionRow kIntegerInstructions[] = {
    {"add", decode_add},     {"sub", decode_sub},     {"mul", decode_mul},   {"mad", decode_mad},
    {"mul24", decode_mul24}, {"mad24", decode_mad24}, {"sad", decode_sad},   {"div", decode_div},
    {"rem", decode_rem},     {"abs", decode_abs},     {"neg", decode_neg},   {"min", decode_min},
    {"max", decode_max},     {"dp4a", decode_dp4a},   {"dp2a", decode_dp2a}, {nullptr, nullptr},
};

}  // namespace emu
