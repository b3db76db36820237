// Counting, finding and moving bits: PTX ISA 9.0, section 9.7.1.
#include <algorithm>

#include "emu/exec/arithmetic.h"
#include "emu/exec/lanes.h"

namespace emu {
namespace {

using ptx::Type;

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
void set_operands(Decoder& d, Type type, int sources) {
  d.destination(0, type);
  for (int s = 1; s <= sources; ++s) d.source(s, type);
  d.instr.cls = Class::kInteger;
}
bool is_word(Type t) {  // of 32 or 64 bits
  return t == Type::kU32 || t == Type::kS32 || t == Type::kU64 || t == Type::kS64;
}

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
  if (!check_modifiers(d, m, kShiftamt, is_word(m.type))) return;
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
  if (!check_modifiers(d, m, 0, is_word(m.type))) return;
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

}  // namespace

extern const InstructionRow kBitFieldInstructions[] = {
    {"popc", decode_count<Popc>}, {"clz", decode_count<Clz>}, {"bfind", decode_bfind}, {"brev", decode_brev},
    {"fns", decode_fns},          {"bfe", decode_bfe},        {"bfi", decode_bfi},     {"bmsk", decode_bmsk},
    {"szext", decode_szext},      {nullptr, nullptr},
};

}  // namespace emu
