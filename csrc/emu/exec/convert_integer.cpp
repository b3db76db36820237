// cvt between integers, and cvt.pack: PTX ISA 9.0, section 9.7.9.
#include <algorithm>
#include <limits>

#include "emu/exec/convert.h"
#include "emu/exec/lanes.h"

namespace emu {
namespace {

using ptx::Type;

struct IntegerPlan {
  Type from, to;
  int register_bits;  // of the destination: a narrower value is extended to it
  bool saturate;
};
template <class From>
void load_integers(Warp& w, Unit u, int64_t* out) {
  const Word<From>* in = words<From>(w, u);
  for (int l = 0; l < kLanes; ++l) out[l] = static_cast<int64_t>(static_cast<From>(in[l]));
}
int64_t clamp_to(int64_t v, Type from, Type to) {
  const __int128 x = from == Type::kU64 ? static_cast<__int128>(static_cast<uint64_t>(v)) : v;
  __int128 least = 0, most = 0;
  with_integer(to, [&](auto zero) {
    least = std::numeric_limits<decltype(zero)>::min();
    most = std::numeric_limits<decltype(zero)>::max();
  });
  return static_cast<int64_t>(std::clamp(x, least, most));
}
EMU_VECTORIZE void run_integer(Warp& w, const Instr& i, Mask active) {
  const IntegerPlan& p = *static_cast<const IntegerPlan*>(i.plan);
  alignas(64) int64_t v[kLanes];
  with_integer(p.from, [&](auto zero) { load_integers<decltype(zero)>(w, i.s[0], v); });
  if (p.saturate) {
    for (int64_t& x : v) x = clamp_to(x, p.from, p.to);
  }
  if (ptx::bits_of(p.to) == 64) {
    alignas(64) uint64_t out[kLanes];
    for (int l = 0; l < kLanes; ++l) out[l] = static_cast<uint64_t>(v[l]);
    return write_lanes(w.u64(i.d[0]), out, active);
  }
  alignas(64) uint32_t out[kLanes];
  const int unused = 32 - ptx::bits_of(p.to);
  const uint32_t mask = p.register_bits >= 32 ? ~0u : (1u << p.register_bits) - 1;
  if (ptx::is_signed(p.to)) {
    for (int l = 0; l < kLanes; ++l) {
      out[l] = static_cast<uint32_t>(static_cast<int32_t>(static_cast<uint32_t>(v[l]) << unused) >> unused) & mask;
    }
  } else {
    for (int l = 0; l < kLanes; ++l) out[l] = static_cast<uint32_t>(v[l]) << unused >> unused;
  }
  write_lanes(w.u32(i.d[0]), out, active);
}

// ---- cvt.pack: d = {c, a, b} with a and b saturated to the small type

struct PackPlan {
  int bits;
  int32_t least, most;
  bool carries;  // a third operand moves up by 2 * bits
};
EMU_VECTORIZE void run_pack(Warp& w, const Instr& i, Mask active) {
  const PackPlan p = *static_cast<const PackPlan*>(i.plan);
  const uint32_t* a = w.u32(i.s[0]);
  const uint32_t* b = w.u32(i.s[1]);
  const uint32_t* c = w.u32(i.s[p.carries ? 2 : 0]);
  const uint32_t mask = (1u << p.bits) - 1;
  alignas(64) uint32_t out[kLanes];
  for (int l = 0; l < kLanes; ++l) {
    const uint32_t high = static_cast<uint32_t>(std::clamp(static_cast<int32_t>(a[l]), p.least, p.most)) & mask;
    const uint32_t low = static_cast<uint32_t>(std::clamp(static_cast<int32_t>(b[l]), p.least, p.most)) & mask;
    const uint32_t rest = p.carries ? c[l] << (2 * p.bits) : 0u;
    out[l] = rest | high << p.bits | low;
  }
  write_lanes(w.u32(i.d[0]), out, active);
}
}  // namespace

int filled_bits(Decoder& d, Type to) {
  const int declared = ptx::bits_of(d.register_type(0));
  // The linker widens to 64 bits; a 32-bit register that gets fewer is extended here.
  return std::max(ptx::bits_of(to), std::min(declared, 32));
}

void decode_integer_conversion(Decoder& d, const Modifiers& m) {
  d.source(1, m.type2);
  d.instr.plan = d.keep(IntegerPlan{m.type2, m.type, filled_bits(d, m.type), m.has(kSat)});
  d.instr.run = run_integer;
}

void decode_pack(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  const bool third = d.operands() == 4;
  const bool has_c_type = third && d.take_type() == Type::kB32;
  if (!check_modifiers(d, m, kSat) || !check_choice(d, m, kSat)) return;
  if (m.type2 != Type::kS32) return fail_type(d, m.type2);
  PackPlan p = {};
  p.carries = third;
  switch (m.type) {
    case Type::kU2:
    case Type::kS2: p.bits = 2; break;
    case Type::kU4:
    case Type::kS4: p.bits = 4; break;
    case Type::kU8:
    case Type::kS8: p.bits = 8; break;
    case Type::kU16:
    case Type::kS16: p.bits = 16; break;
    default: return fail_type(d, m.type);
  }
  if (third != (p.bits < 16) || third != has_c_type) {
    return d.fail("cvt.pack takes a third operand of type .b32 where, and only where, it packs fewer than 16 bits");
  }
  const bool sign = ptx::is_signed(m.type);
  p.least = sign ? -(1 << (p.bits - 1)) : 0;
  p.most = (1 << (sign ? p.bits - 1 : p.bits)) - 1;
  d.destination(0, Type::kB32);
  d.source(1, Type::kS32);
  d.source(2, Type::kS32);
  if (third) d.source(3, Type::kB32);
  d.instr.cls = Class::kConvert;
  d.instr.plan = d.keep(p);
  d.instr.run = run_pack;
}

}  // namespace emu
