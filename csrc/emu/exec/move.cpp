// mov and prmt: PTX ISA 9.0, section 9.7.9.
#include <algorithm>

#include "emu/exec/arithmetic.h"
#include "emu/exec/lanes.h"

namespace emu {
namespace {

using ptx::Type;

struct Same {
  template <class T>
  T operator()(T a) const {
    return a;
  }
};
void move_predicate(Warp& w, const Instr& i, Mask active) { write_predicate(w, i.d[0], w.pred(i.s[0]), active); }
void move_128(Warp& w, const Instr& i, Mask active) {
  const uint64_t* s = w.u64(i.s[0]);
  uint64_t* d = w.u64(i.d[0]);
  for (; active != 0; active &= active - 1) {
    const int l = __builtin_ctz(active);
    d[2 * l] = s[2 * l];
    d[2 * l + 1] = s[2 * l + 1];
  }
}

// Packs or unpacks: a value of i.bytes * i.count bytes against i.count parts of i.bytes bytes, the first part lowest.
struct Wide {
  uint64_t half[2];
};
inline Wide read(const Warp& w, Unit u, int bits, int lane) {
  if (bits == 128) return {{w.u64(u)[2 * lane], w.u64(u)[2 * lane + 1]}};
  return {{bits == 64 ? w.u64(u)[lane] : w.u32(u)[lane], 0}};
}
inline void write(const Warp& w, Unit u, int bits, int lane, const Wide& v) {
  if (bits == 128) {
    w.u64(u)[2 * lane] = v.half[0];
    w.u64(u)[2 * lane + 1] = v.half[1];
  } else if (bits == 64) {
    w.u64(u)[lane] = v.half[0];
  } else {
    w.u32(u)[lane] = static_cast<uint32_t>(v.half[0]);
  }
}
void pack(Warp& w, const Instr& i, Mask active) {
  const int bits = 8 * i.bytes;
  for (; active != 0; active &= active - 1) {
    const int l = __builtin_ctz(active);
    Wide v = {};
    for (int p = 0; p < i.count; ++p) {
      const int at = p * bits;
      v.half[at / 64] |= read(w, i.s[p], bits, l).half[0] << (at % 64);
    }
    write(w, i.d[0], bits * i.count, l, v);
  }
}
void unpack(Warp& w, const Instr& i, Mask active) {
  const int bits = 8 * i.bytes;
  const uint64_t mask = bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
  for (; active != 0; active &= active - 1) {
    const int l = __builtin_ctz(active);
    const Wide v = read(w, i.s[0], bits * i.count, l);
    for (int p = 0; p < i.count; ++p) {
      const int at = p * bits;
      write(w, i.d[p], bits, l, {{v.half[at / 64] >> (at % 64) & mask, 0}});
    }
  }
}
// The frequent ones: two halves of a 32-bit register, two words of a 64-bit one.
struct PackHalves {
  uint32_t operator()(uint16_t low, uint16_t high) const { return uint32_t{high} << 16 | low; }
};
struct PackWords {
  uint64_t operator()(uint32_t low, uint32_t high) const { return uint64_t{high} << 32 | low; }
};
template <class W>
EMU_VECTORIZE void unpack_two(Warp& w, const Instr& i, Mask active) {
  constexpr int kBits = 4 * sizeof(W);
  const W* s = reinterpret_cast<const W*>(w.u32(i.s[0]));
  alignas(64) uint32_t low[kLanes], high[kLanes];
  for (int l = 0; l < kLanes; ++l) {
    low[l] = static_cast<uint32_t>(s[l] & ((W{1} << kBits) - 1));
    high[l] = static_cast<uint32_t>(s[l] >> kBits);
  }
  write_lanes(w.u32(i.d[0]), low, active);
  write_lanes(w.u32(i.d[1]), high, active);
}

void decode_mov(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  const int bits = ptx::bits_of(m.type);
  const bool known = m.type == Type::kPred || m.type == Type::kF32 || m.type == Type::kF64 || m.type == Type::kB128 ||
                     (with_integer(m.type, [](auto) {}) && bits >= 16);
  if (!check_modifiers(d, m, 0, known)) return;
  if (d.operands() != 2) return d.fail("mov takes two operands");
  Instr& i = d.instr;
  i.cls = Class::kMove;
  const int into = d.vector_size(0), from = d.vector_size(1);
  if (into > 1 || from > 1) {
    const int parts = std::max(into, from);
    const Type part = ptx::bits_type(bits / parts);
    const bool is_bits = m.type == ptx::bits_type(bits);
    if (into > 1 && from > 1) return d.fail("mov packs or unpacks, it cannot do both");
    if (!is_bits || part == Type::kNone || bits % parts != 0) {
      return d.fail("mov of type ." + std::string(ptx::name_of(m.type)) + " does not have " + std::to_string(parts) +
                    " parts");
    }
    d.destination(0, into > 1 ? part : m.type);
    d.source(1, from > 1 ? part : m.type);
    i.bytes = static_cast<uint8_t>(bits / parts / 8);
    i.count = static_cast<uint8_t>(parts);
    i.run = into > 1 ? unpack : pack;
    if (parts == 2 && bits == 32)
      i.run = into > 1 ? unpack_two<uint32_t> : map_lanes<PackHalves, uint32_t, uint16_t, uint16_t>;
    if (parts == 2 && bits == 64)
      i.run = into > 1 ? unpack_two<uint64_t> : map_lanes<PackWords, uint64_t, uint32_t, uint32_t>;
    return;
  }
  d.destination(0, m.type);
  d.source(1, m.type);
  i.run = m.type == Type::kPred ? move_predicate
          : bits == 128         ? move_128
          : bits == 64          ? map_lanes<Same, uint64_t, uint64_t>
                                : map_lanes<Same, uint32_t, uint32_t>;
}

// ---- prmt: byte p of the result is byte select(p) of {b, a}

struct Generic {
  uint32_t operator()(uint32_t a, uint32_t b, uint32_t c) const {
    uint32_t r = 0;
    for (int p = 0; p < 4; ++p) {
      const uint32_t control = c >> (4 * p);
      const uint32_t byte = ((control & 4) != 0 ? b : a) >> ((control & 3) * 8) & 0xff;
      const uint32_t sign = (byte & 0x80) != 0 ? 0xffu : 0u;
      r |= ((control & 8) != 0 ? sign : byte) << (8 * p);
    }
    return r;
  }
};
enum Mode { kF4e, kB4e, kRc8, kEcl, kEcr, kRc16 };
constexpr uint32_t select(Mode mode, uint32_t n, uint32_t p) {
  switch (mode) {
    case kF4e: return n + p;
    case kB4e: return (n - p) & 7;
    case kRc8: return n;
    case kEcl: return p > n ? p : n;
    case kEcr: return p < n ? p : n;
    case kRc16: return (n & 1) * 2 + (p & 1);
  }
  return 0;
}
template <Mode kMode>
struct Extract {
  uint32_t operator()(uint32_t a, uint32_t b, uint32_t c) const {
    const uint64_t bytes = uint64_t{b} << 32 | a;
    uint32_t r = 0;
    for (uint32_t p = 0; p < 4; ++p) {
      r |= static_cast<uint32_t>(bytes >> (8 * select(kMode, c & 3, p)) & 0xff) << (8 * p);
    }
    return r;
  }
};
void decode_prmt(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  const int mode = d.take_one_of({"f4e", "b4e", "rc8", "ecl", "ecr", "rc16"});
  if (!check_modifiers(d, m, 0, m.type == Type::kB32)) return;
  d.destination(0, Type::kB32);
  for (int s = 1; s <= 3; ++s) d.source(s, Type::kB32);
  d.instr.cls = Class::kLogic;
  using U = uint32_t;
  switch (mode) {
    case kF4e: d.instr.run = map_lanes<Extract<kF4e>, U, U, U, U>; break;
    case kB4e: d.instr.run = map_lanes<Extract<kB4e>, U, U, U, U>; break;
    case kRc8: d.instr.run = map_lanes<Extract<kRc8>, U, U, U, U>; break;
    case kEcl: d.instr.run = map_lanes<Extract<kEcl>, U, U, U, U>; break;
    case kEcr: d.instr.run = map_lanes<Extract<kEcr>, U, U, U, U>; break;
    case kRc16: d.instr.run = map_lanes<Extract<kRc16>, U, U, U, U>; break;
    default: d.instr.run = map_lanes<Generic, U, U, U, U>; break;
  }
}

}  // namespace

extern const InstructionRow kMoveInstructions[] = {{"mov", decode_mov}, {"prmt", decode_prmt}, {nullptr, nullptr}};

}  // namespace emu
