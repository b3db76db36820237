// Integer arithmetic and bit fields: PTX ISA 9.0, sections 9.7.1 and 9.7.2 (extended precision).
#include <algorithm>
#include <limits>

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

struct Popc {
  uint32_t operator()(uint32_t a) const {
    a = a - (a >> 1 & 0x55555555u);
    a = (a & 0x33333333u) + (a >> 2 & 0x33333333u);
    return (((a + (a >> 4)) & 0x0f0f0f0fu) * 0x01010101u) >> 24;
  }
  uint32_t operator()(uint64_t a) const {
    return (*this)(static_cast<uint32_t>(a)) + (*this)(static_cast<uint32_t>(a >> 32));
  }
};
struct Clz {
  uint32_t operator()(uint32_t a) const { return a == 0 ? 32u : static_cast<uint32_t>(__builtin_clz(a)); }
  uint32_t operator()(uint64_t a) const { return a == 0 ? 64u : static_cast<uint32_t>(__builtin_clzll(a)); }
};
template <bool kShift>
struct Bfind {
  template <class T>
  uint32_t operator()(T a) const {
    constexpr uint32_t msb = 8 * sizeof(T) - 1;
    using U = std::make_unsigned_t<T>;
    const U u = static_cast<U>(a < 0 ? ~a : a);
    if (u == 0) return ~0u;
    return kShift ? Clz()(u) : msb - Clz()(u);
  }
};
struct Brev {
  uint32_t operator()(uint32_t a) const {
    a = (a >> 1 & 0x55555555u) | (a & 0x55555555u) << 1;
    a = (a >> 2 & 0x33333333u) | (a & 0x33333333u) << 2;
    a = (a >> 4 & 0x0f0f0f0fu) | (a & 0x0f0f0f0fu) << 4;
    a = (a >> 8 & 0x00ff00ffu) | (a & 0x00ff00ffu) << 8;
    return a >> 16 | a << 16;
  }
  uint64_t operator()(uint64_t a) const {
    return uint64_t{(*this)(static_cast<uint32_t>(a))} << 32 | (*this)(static_cast<uint32_t>(a >> 32));
  }
};
struct Fns {
  uint32_t operator()(uint32_t mask, uint32_t base, int32_t offset) const {
    if (base > 31) return ~0u;
    if (offset == 0) return mask >> base & 1 ? base : ~0u;
    const int step = offset > 0 ? 1 : -1;
    uint32_t left = offset > 0 ? static_cast<uint32_t>(offset) : 0u - static_cast<uint32_t>(offset);
    for (int at = static_cast<int>(base); at >= 0 && at < 32; at += step) {
      if ((mask >> at & 1) != 0 && --left == 0) return static_cast<uint32_t>(at);
    }
    return ~0u;
  }
};
template <class U>
inline U ones(uint32_t n) {  // the low n bits, all where n is the width or more
  return n >= 8 * sizeof(U) ? ~U{0} : (U{1} << n) - 1;
}
template <class U>
inline U shift_left(U a, uint32_t n) {
  return n >= 8 * sizeof(U) ? U{0} : a << n;
}
template <class U>
inline U shift_right(U a, uint32_t n) {
  return n >= 8 * sizeof(U) ? U{0} : a >> n;
}

struct Bfe {
  template <class T>
  T operator()(T a, uint32_t b, uint32_t c) const {
    using U = std::make_unsigned_t<T>;
    constexpr uint32_t msb = 8 * sizeof(T) - 1;
    const uint32_t position = b & 0xff, length = c & 0xff;
    const U u = static_cast<U>(a);
    U field = shift_right(u, position) & ones<U>(length);
    if constexpr (std::is_signed_v<T>) {
      const uint32_t sign_at = std::min(position + length - 1, msb);
      const bool sign = length != 0 && (u >> sign_at & 1) != 0;
      const uint32_t got = position > msb ? 0 : std::min(length, msb + 1 - position);
      if (sign) field |= ~ones<U>(got);
    }
    return static_cast<T>(field);
  }
};
struct Bfi {
  template <class U>
  U operator()(U a, U b, uint32_t c, uint32_t d) const {
    const uint32_t position = c & 0xff, length = d & 0xff;
    const U field = shift_left(ones<U>(length), position);
    return (b & ~field) | (shift_left(a, position) & field);
  }
};
template <bool kClamped>
struct Bmsk {
  uint32_t operator()(uint32_t a, uint32_t b) const {
    if (kClamped && a >= 32) return 0;
    const uint32_t position = a & 31, width = b & 31;
    const uint32_t from = ~0u << position;
    if (position + width >= 32 || (kClamped && b >= 32)) return from;
    return from & ~(~0u << (position + width));
  }
};
template <bool kClamped>
struct Szext {
  template <class T>
  T operator()(T a, uint32_t b) const {
    if (kClamped && b >= 32) return a;
    const uint32_t n = b & 31;
    const uint32_t low = static_cast<uint32_t>(a) & ones<uint32_t>(n);
    const bool sign = std::is_signed_v<T> && n != 0 && (low >> ((n - 1) & 31) & 1) != 0;
    return static_cast<T>(sign ? low | ~ones<uint32_t>(n) : low);
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

// ---- extended precision: CC.CF is Warp::carry, one bit a lane. A subtraction adds the complement of b; its CC.CF is
// the borrow, so that subc subtracts it.
constexpr uint16_t kCarryIn = 1, kCarryOut = 2, kSubtract = 4, kMultiplyHigh = 8;

template <class U>
void add_with_carry(Warp& w, const Instr& i, Mask active) {
  const bool subtract = (i.flags & kSubtract) != 0;
  const Word<U>* a = words<U>(w, i.s[0]);
  const Word<U>* b = words<U>(w, i.s[1]);
  alignas(64) Word<U> out[kLanes];
  alignas(64) uint32_t carry[kLanes];
  for (int l = 0; l < kLanes; ++l) {
    U left = a[l], right = b[l];
    if (i.ns == 3) {
      left = (i.flags & kMultiplyHigh) == 0 ? MulLo()(left, right)
             : ptx::is_signed(i.type)       ? static_cast<U>(MulHi()(static_cast<std::make_signed_t<U>>(left),
                                                                     static_cast<std::make_signed_t<U>>(right)))
                                            : MulHi()(left, right);
      right = words<U>(w, i.s[2])[l];
    }
    const U in = (i.flags & kCarryIn) != 0 ? w.carry >> l & 1 : 0;
    if (subtract) {
      const U t = left - right;
      out[l] = t - in;
      carry[l] = (left < right) | (t < in);
    } else {
      const U t = left + right;
      out[l] = t + in;
      carry[l] = (t < left) | (out[l] < in);
    }
  }
  write_lanes(words<U>(w, i.d[0]), out, active);
  if ((i.flags & kCarryOut) != 0) w.carry = (w.carry & ~active) | (gather_bits(carry) & active);
}

void decode_carry(Decoder& d, const Modifiers& m, uint16_t flags, int sources) {
  const bool is32 = m.type == Type::kU32 || m.type == Type::kS32;
  const bool is64 = m.type == Type::kU64 || m.type == Type::kS64;
  if (!check_modifiers(d, m, kCc | (sources == 3 ? kLo | kHi : 0), is32 || is64)) return;
  if (sources == 3 && !check_choice(d, m, kLo | kHi)) return;
  if (m.has(kCc)) flags |= kCarryOut;
  if (m.has(kHi)) flags |= kMultiplyHigh;
  d.destination(0, m.type);
  for (int s = 1; s <= sources; ++s) d.source(s, m.type);
  d.instr.cls = Class::kInteger;
  d.instr.type = m.type;
  d.instr.flags = flags;
  d.instr.run = is32 ? add_with_carry<uint32_t> : add_with_carry<uint64_t>;
}

// ---- decoding

void set_operands(Decoder& d, Type type, int sources, Class cls = Class::kInteger) {
  d.destination(0, type);
  for (int s = 1; s <= sources; ++s) d.source(s, type);
  d.instr.type = type;
  d.instr.cls = cls;
}

bool is_wide_enough(Type t) {  // the types of add, mul, div, ...: u16 to s64
  switch (t) {
    case Type::kU16:
    case Type::kS16:
    case Type::kU32:
    case Type::kS32:
    case Type::kU64:
    case Type::kS64: return true;
    default: return false;
  }
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
  if (m.has(kCc)) return decode_carry(d, m, op == Arithmetic::kSub ? kSubtract : 0, 2);
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
void decode_addc(Decoder& d) { decode_carry(d, take_modifiers(d), kCarryIn, 2); }
void decode_subc(Decoder& d) { decode_carry(d, take_modifiers(d), kCarryIn | kSubtract, 2); }
void decode_madc(Decoder& d) { decode_carry(d, take_modifiers(d), kCarryIn, 3); }

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
  if (m.has(kCc)) return decode_carry(d, m, 0, 3);
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

template <class Op>
void decode_count(Decoder& d) {  // popc, clz: a 32-bit result
  const Modifiers m = take_modifiers(d);
  if (!check_modifiers(d, m, 0, m.type == Type::kB32 || m.type == Type::kB64)) return;
  d.destination(0, Type::kU32);
  d.source(1, m.type);
  d.instr.cls = Class::kInteger;
  d.instr.run = m.type == Type::kB32 ? map_lanes<Op, uint32_t, uint32_t> : map_lanes<Op, uint32_t, uint64_t>;
}
void decode_bfind(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  const bool known = is_wide_enough(m.type) && ptx::bits_of(m.type) >= 32;
  if (!check_modifiers(d, m, kShiftamt, known)) return;
  d.destination(0, Type::kU32);
  d.source(1, m.type);
  d.instr.cls = Class::kInteger;
  with_integer(m.type, [&](auto t) {
    using T = decltype(t);
    if constexpr (sizeof(T) >= 4) {
      d.instr.run = m.has(kShiftamt) ? map_lanes<Bfind<true>, uint32_t, T> : map_lanes<Bfind<false>, uint32_t, T>;
    }
  });
}
void decode_brev(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  if (!check_modifiers(d, m, 0, m.type == Type::kB32 || m.type == Type::kB64)) return;
  set_operands(d, m.type, 1);
  d.instr.run = m.type == Type::kB32 ? map_lanes<Brev, uint32_t, uint32_t> : map_lanes<Brev, uint64_t, uint64_t>;
}
void decode_fns(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  if (!check_modifiers(d, m, 0, m.type == Type::kB32)) return;
  set_operands(d, Type::kB32, 3);
  d.instr.run = map_active_lanes<Fns, uint32_t, uint32_t, uint32_t, int32_t>;
}
void decode_bfe(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  if (!check_modifiers(d, m, 0, is_wide_enough(m.type) && ptx::bits_of(m.type) >= 32)) return;
  d.destination(0, m.type);
  d.source(1, m.type);
  d.source(2, Type::kU32);
  d.source(3, Type::kU32);
  d.instr.cls = Class::kInteger;
  with_integer(m.type, [&](auto t) {
    using T = decltype(t);
    if constexpr (sizeof(T) >= 4) d.instr.run = map_lanes<Bfe, T, T, uint32_t, uint32_t>;
  });
}
void decode_bfi(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  if (!check_modifiers(d, m, 0, m.type == Type::kB32 || m.type == Type::kB64)) return;
  d.destination(0, m.type);
  d.source(1, m.type);
  d.source(2, m.type);
  d.source(3, Type::kU32);
  d.source(4, Type::kU32);
  d.instr.cls = Class::kInteger;
  d.instr.run = m.type == Type::kB32 ? map_lanes<Bfi, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t>
                                     : map_lanes<Bfi, uint64_t, uint64_t, uint64_t, uint32_t, uint32_t>;
}
void decode_bmsk(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  if (!check_modifiers(d, m, kClamp | kWrap, m.type == Type::kB32) || !check_choice(d, m, kClamp | kWrap)) return;
  set_operands(d, Type::kB32, 2);
  d.instr.run = m.has(kClamp) ? map_lanes<Bmsk<true>, uint32_t, uint32_t, uint32_t>
                              : map_lanes<Bmsk<false>, uint32_t, uint32_t, uint32_t>;
}
void decode_szext(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  const bool is_unsigned = m.type == Type::kU32;
  if (!check_modifiers(d, m, kClamp | kWrap, is_unsigned || m.type == Type::kS32)) return;
  if (!check_choice(d, m, kClamp | kWrap)) return;
  d.destination(0, m.type);
  d.source(1, m.type);
  d.source(2, Type::kU32);
  d.instr.cls = Class::kInteger;
  if (m.has(kClamp)) {
    d.instr.run = is_unsigned ? map_lanes<Szext<true>, uint32_t, uint32_t, uint32_t>
                              : map_lanes<Szext<true>, int32_t, int32_t, uint32_t>;
  } else {
    d.instr.run = is_unsigned ? map_lanes<Szext<false>, uint32_t, uint32_t, uint32_t>
                              : map_lanes<Szext<false>, int32_t, int32_t, uint32_t>;
  }
}

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
    {"add", decode_add},          {"sub", decode_sub},        {"mul", decode_mul},     {"mad", decode_mad},
    {"addc", decode_addc},        {"subc", decode_subc},      {"madc", decode_madc},   {"mul24", decode_mul24},
    {"mad24", decode_mad24},      {"sad", decode_sad},        {"div", decode_div},     {"rem", decode_rem},
    {"abs", decode_abs},          {"neg", decode_neg},        {"min", decode_min},     {"max", decode_max},
    {"popc", decode_count<Popc>}, {"clz", decode_count<Clz>}, {"bfind", decode_bfind}, {"brev", decode_brev},
    {"fns", decode_fns},          {"bfe", decode_bfe},        {"bfi", decode_bfi},     {"bmsk", decode_bmsk},
    {"szext", decode_szext},      {"dp4a", decode_dp4a},      {"dp2a", decode_dp2a},   {nullptr, nullptr},
};

}  // namespace emu
