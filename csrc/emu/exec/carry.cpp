// Arithmetic of extended precision: PTX ISA 9.0, section 9.7.2. CC.CF is Warp::carry, one bit a lane; of a subtraction
// it is the borrow, so that subc subtracts it.
#include "emu/exec/arithmetic.h"
#include "emu/exec/lanes.h"

namespace emu {
namespace {

using ptx::Type;

constexpr uint16_t kCarryIn = 1, kCarryOut = 2, kSubtract = 4, kMultiplyHigh = 8;

template <class U, class Twice>
U multiply_high(U a, U b) {
  return static_cast<U>(static_cast<Twice>(a) * static_cast<Twice>(b) >> (8 * sizeof(U)));
}
template <class U>
U product(U a, U b, bool high, bool is_signed) {
  using S = std::make_signed_t<U>;
  using Wide = std::conditional_t<sizeof(U) == 8, __int128, int64_t>;
  using UnsignedWide = std::conditional_t<sizeof(U) == 8, unsigned __int128, uint64_t>;
  if (!high) return a * b;
  return is_signed ? static_cast<U>(multiply_high<S, Wide>(static_cast<S>(a), static_cast<S>(b)))
                   : multiply_high<U, UnsignedWide>(a, b);
}

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
      left = product(left, right, (i.flags & kMultiplyHigh) != 0, ptx::is_signed(i.type));
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

void decode(Decoder& d, const Modifiers& m, uint16_t flags, int sources) {
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

void decode_addc(Decoder& d) { decode(d, take_modifiers(d), kCarryIn, 2); }
void decode_subc(Decoder& d) { decode(d, take_modifiers(d), kCarryIn | kSubtract, 2); }
void decode_madc(Decoder& d) { decode(d, take_modifiers(d), kCarryIn, 3); }

}  // namespace

void decode_carry_out(Decoder& d, const Modifiers& m, Arithmetic op) {
  decode(d, m, op == Arithmetic::kSub ? kSubtract : 0, op == Arithmetic::kFma ? 3 : 2);
}

extern const InstructionRow kCarryInstructions[] = {
    {"addc", decode_addc}, {"subc", decode_subc}, {"madc", decode_madc}, {nullptr, nullptr}};

}  // namespace emu
