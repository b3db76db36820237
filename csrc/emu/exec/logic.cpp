// Logic and shifts: PTX ISA 9.0, section 9.7.8.
#include <algorithm>

#include "emu/exec/arithmetic.h"
#include "emu/exec/lanes.h"

namespace emu {
namespace {

using ptx::Type;

struct And {
  template <class T>
  T operator()(T a, T b) const {
    return a & b;
  }
};
struct Or {
  template <class T>
  T operator()(T a, T b) const {
    return a | b;
  }
};
struct Xor {
  template <class T>
  T operator()(T a, T b) const {
    return a ^ b;
  }
};
struct Not {
  template <class T>
  T operator()(T a) const {
    return static_cast<T>(~a);
  }
};
struct Cnot {
  template <class T>
  T operator()(T a) const {
    return a == 0;
  }
};
// Amounts beyond the width clamp to it.
struct Shl {
  template <class T>
  T operator()(T a, uint32_t n) const {
    return n >= 8 * sizeof(T) ? T{0} : static_cast<T>(static_cast<Word<T>>(a) << n);
  }
};
struct Shr {
  template <class T>
  T operator()(T a, uint32_t n) const {
    constexpr uint32_t most = 8 * sizeof(T) - 1;
    if constexpr (std::is_signed_v<T>) {
      return static_cast<T>(a >> std::min(n, most));
    } else {
      return n > most ? T{0} : static_cast<T>(a >> n);
    }
  }
};
template <bool kClamped>
struct FunnelLeft {
  uint32_t operator()(uint32_t a, uint32_t b, uint32_t c) const {
    const uint32_t n = kClamped ? std::min(c, 32u) : c & 31;
    return static_cast<uint32_t>(((uint64_t{b} << 32 | a) << n) >> 32);
  }
};
template <bool kClamped>
struct FunnelRight {
  uint32_t operator()(uint32_t a, uint32_t b, uint32_t c) const {
    const uint32_t n = kClamped ? std::min(c, 32u) : c & 31;
    return static_cast<uint32_t>((uint64_t{b} << 32 | a) >> n);
  }
};

template <class Op>
void combine_predicates(Warp& w, const Instr& i, Mask active) {
  write_predicate(w, i.d[0], Op()(w.pred(i.s[0]), w.pred(i.s[1])), active);
}
void complement_predicate(Warp& w, const Instr& i, Mask active) { write_predicate(w, i.d[0], ~w.pred(i.s[0]), active); }

bool is_bits(Type t) { return t == Type::kB16 || t == Type::kB32 || t == Type::kB64; }

// Sets d = Op(s...) of `count` sources of the bit type of the statement.
template <class Op>
void decode_binary(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  if (!check_modifiers(d, m, 0, is_bits(m.type) || m.type == Type::kPred)) return;
  d.destination(0, m.type);
  d.source(1, m.type);
  d.source(2, m.type);
  d.instr.cls = Class::kLogic;
  if (m.type == Type::kPred) d.instr.run = combine_predicates<Op>;
  if (m.type == Type::kB16) d.instr.run = map_lanes<Op, uint16_t, uint16_t, uint16_t>;
  if (m.type == Type::kB32) d.instr.run = map_lanes<Op, uint32_t, uint32_t, uint32_t>;
  if (m.type == Type::kB64) d.instr.run = map_lanes<Op, uint64_t, uint64_t, uint64_t>;
}
template <class Op>
void decode_unary(Decoder& d, bool predicates) {
  const Modifiers m = take_modifiers(d);
  if (!check_modifiers(d, m, 0, is_bits(m.type) || (predicates && m.type == Type::kPred))) return;
  d.destination(0, m.type);
  d.source(1, m.type);
  d.instr.cls = Class::kLogic;
  if (m.type == Type::kPred) d.instr.run = complement_predicate;
  if (m.type == Type::kB16) d.instr.run = map_lanes<Op, uint16_t, uint16_t>;
  if (m.type == Type::kB32) d.instr.run = map_lanes<Op, uint32_t, uint32_t>;
  if (m.type == Type::kB64) d.instr.run = map_lanes<Op, uint64_t, uint64_t>;
}
void decode_not(Decoder& d) { decode_unary<Not>(d, true); }
void decode_cnot(Decoder& d) { decode_unary<Cnot>(d, false); }

template <class Op>
void decode_shift(Decoder& d, bool is_signed_too) {
  const Modifiers m = take_modifiers(d);
  const bool known = is_bits(m.type) || (is_signed_too && !ptx::is_floating(m.type) && m.type != Type::kPred &&
                                         ptx::bits_of(m.type) >= 16);
  if (!check_modifiers(d, m, 0, known)) return;
  d.destination(0, m.type);
  d.source(1, m.type);
  d.source(2, Type::kU32);
  d.instr.cls = Class::kLogic;
  const bool found = with_integer(m.type, [&](auto t) {
    using T = decltype(t);
    if constexpr (sizeof(T) >= 2) d.instr.run = map_lanes<Op, T, T, uint32_t>;
  });
  if (!found) fail_type(d, m.type);
}
void decode_shl(Decoder& d) { decode_shift<Shl>(d, false); }
void decode_shr(Decoder& d) { decode_shift<Shr>(d, true); }

void decode_shf(Decoder& d) {
  const int side = d.take_one_of({"l", "r"});
  const Modifiers m = take_modifiers(d);
  if (side < 0) return d.fail("one is missing of the modifiers .l, .r");
  if (!check_modifiers(d, m, kClamp | kWrap, m.type == Type::kB32) || !check_choice(d, m, kClamp | kWrap)) return;
  d.destination(0, Type::kB32);
  for (int s = 1; s <= 3; ++s) d.source(s, Type::kB32);
  d.instr.cls = Class::kLogic;
  using U = uint32_t;
  if (side == 0) {
    d.instr.run = m.has(kClamp) ? map_lanes<FunnelLeft<true>, U, U, U, U> : map_lanes<FunnelLeft<false>, U, U, U, U>;
  } else {
    d.instr.run = m.has(kClamp) ? map_lanes<FunnelRight<true>, U, U, U, U> : map_lanes<FunnelRight<false>, U, U, U, U>;
  }
}

// The table of lop3 is the Moebius transform of its truth table: F = xor of the products of those inputs whose
// coefficient is set. Eight products, each and-ed with a word of all ones or all zeros.
struct Lop3 {
  uint32_t coefficient[8];  // of a (4), b (2), c (1)
};
Lop3 lop3_of(uint32_t table) {
  Lop3 f;
  for (int k = 0; k < 8; ++k) {
    uint32_t parity = 0;
    for (int j = k;; j = (j - 1) & k) {
      parity ^= table >> j & 1;
      if (j == 0) break;
    }
    f.coefficient[k] = 0u - parity;
  }
  return f;
}
inline __attribute__((always_inline)) void lop3(Warp& w, const Instr& i, uint32_t* out) {
  const Lop3& f = *static_cast<const Lop3*>(i.plan);
  const uint32_t* a = w.u32(i.s[0]);
  const uint32_t* b = w.u32(i.s[1]);
  const uint32_t* c = w.u32(i.s[2]);
  const uint32_t k0 = f.coefficient[0], k1 = f.coefficient[1], k2 = f.coefficient[2], k3 = f.coefficient[3];
  const uint32_t k4 = f.coefficient[4], k5 = f.coefficient[5], k6 = f.coefficient[6], k7 = f.coefficient[7];
  for (int l = 0; l < kLanes; ++l) {
    const uint32_t without_a = k0 ^ (c[l] & k1) ^ (b[l] & (k2 ^ (c[l] & k3)));
    const uint32_t with_a = k4 ^ (c[l] & k5) ^ (b[l] & (k6 ^ (c[l] & k7)));
    out[l] = without_a ^ (a[l] & with_a);
  }
}
EMU_VECTORIZE void run_lop3(Warp& w, const Instr& i, Mask active) {
  alignas(64) uint32_t out[kLanes];
  lop3(w, i, out);
  write_lanes(w.u32(i.d[0]), out, active);
}
// d|p: p = (d != 0) BoolOp q
EMU_VECTORIZE void run_lop3_predicate(Warp& w, const Instr& i, Mask active) {
  alignas(64) uint32_t out[kLanes], nonzero[kLanes];
  lop3(w, i, out);
  for (int l = 0; l < kLanes; ++l) nonzero[l] = out[l] != 0;
  const Mask t = gather_bits(nonzero), q = w.pred(i.s[3]);
  write_lanes(w.u32(i.d[0]), out, active);
  write_predicate(w, i.d[1], i.flags == 0 ? t | q : t & q, active);
}
void decode_lop3(Decoder& d) {
  const int combine = d.take_one_of({"or", "and"});
  const Modifiers m = take_modifiers(d);
  if (!check_modifiers(d, m, 0, m.type == Type::kB32)) return;
  d.destination(0, Type::kB32);
  for (int s = 1; s <= 3; ++s) d.source(s, Type::kB32);
  const int64_t table = d.immediate(4);
  if (table < 0 || table > 255) return d.fail("the table of lop3 must be from 0 to 255, got " + std::to_string(table));
  if (combine >= 0) d.source(5, Type::kPred);
  d.instr.cls = Class::kLogic;
  d.instr.plan = d.keep(lop3_of(static_cast<uint32_t>(table)));
  d.instr.flags = combine == 1;
  d.instr.run = combine >= 0 ? run_lop3_predicate : run_lop3;
}

}  // namespace

extern const InstructionRow kLogicInstructions[] = {
    {"and", decode_binary<And>}, {"or", decode_binary<Or>}, {"xor", decode_binary<Xor>}, {"not", decode_not},
    {"cnot", decode_cnot},       {"shl", decode_shl},       {"shr", decode_shr},         {"shf", decode_shf},
    {"lop3", decode_lop3},       {nullptr, nullptr},
};

}  // namespace emu
