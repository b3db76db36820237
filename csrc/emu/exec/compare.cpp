// setp, set, selp, slct: PTX ISA 9.0, sections 9.7.6 and 9.7.7.
#include "emu/exec/arithmetic.h"
#include "emu/exec/half_float.h"
#include "emu/exec/lanes.h"

namespace emu {
namespace {

using ptx::Type;

// A comparison is the set of the four relations for which it holds.
constexpr uint32_t kLess = 1, kEqual = 2, kGreater = 4, kUnordered = 8;
struct Comparison {
  const char* name;
  uint32_t relations;
  enum Use : uint8_t { kAny, kNumbers, kUnsigned, kFloats } use;  // kAny: bits, too
};
constexpr Comparison kComparisons[] = {
    {"eq", kEqual, Comparison::kAny},
    {"ne", kLess | kGreater, Comparison::kAny},
    {"lt", kLess, Comparison::kNumbers},
    {"le", kLess | kEqual, Comparison::kNumbers},
    {"gt", kGreater, Comparison::kNumbers},
    {"ge", kGreater | kEqual, Comparison::kNumbers},
    {"lo", kLess, Comparison::kUnsigned},
    {"ls", kLess | kEqual, Comparison::kUnsigned},
    {"hi", kGreater, Comparison::kUnsigned},
    {"hs", kGreater | kEqual, Comparison::kUnsigned},
    {"equ", kEqual | kUnordered, Comparison::kFloats},
    {"neu", kLess | kGreater | kUnordered, Comparison::kFloats},
    {"ltu", kLess | kUnordered, Comparison::kFloats},
    {"leu", kLess | kEqual | kUnordered, Comparison::kFloats},
    {"gtu", kGreater | kUnordered, Comparison::kFloats},
    {"geu", kGreater | kEqual | kUnordered, Comparison::kFloats},
    {"num", kLess | kEqual | kGreater, Comparison::kFloats},
    {"nan", kUnordered, Comparison::kFloats},
};

// How the word of a register becomes the value that is compared.
template <class T, bool kFlush>
struct Plain {
  using W = Word<T>;
  static T value(W w) {
    const T v = from_word<T>(w);
    if constexpr (kFlush) return bits_as<T>((w & 0x7f800000u) == 0 ? w & 0x80000000u : w);
    return v;
  }
};
template <bool kBrain, bool kFlush, int kShift>
struct Half {
  using W = uint32_t;
  static float value(W w) {
    uint32_t h = w >> kShift & 0xffff;
    if constexpr (kFlush) h = (h & (kBrain ? 0x7f80 : 0x7c00)) == 0 ? h & 0x8000 : h;
    return kBrain ? bf16_value(h) : f16_value(h);
  }
};

// Lanes where a stands in one of the relations to b.
using Relate = Mask (*)(const Warp& w, Unit a, Unit b, uint32_t relations);
template <class V>
EMU_VECTORIZE Mask relate(const Warp& w, Unit a, Unit b, uint32_t relations) {
  using W = typename V::W;
  const W* x = reinterpret_cast<const W*>(w.u32(a));
  const W* y = reinterpret_cast<const W*>(w.u32(b));
  alignas(64) uint32_t holds[kLanes];
  for (int l = 0; l < kLanes; ++l) {
    const auto p = V::value(x[l]);
    const auto q = V::value(y[l]);
    const uint32_t relation = p < q ? kLess : p == q ? kEqual : p > q ? kGreater : kUnordered;
    holds[l] = (relation & relations) != 0 ? 1 : 0;
  }
  return gather_bits(holds);
}

enum Combine : uint8_t { kAlone, kAnd, kOr, kXor };
Mask combine(Mask t, Mask c, Combine how) {
  switch (how) {
    case kAnd: return t & c;
    case kOr: return t | c;
    case kXor: return t ^ c;
    case kAlone: break;
  }
  return t;
}

struct ComparePlan {
  Relate low, high;  // high: the upper half of a pair, else null
  uint32_t relations;
  Combine how;
  uint32_t true_word;  // of set
  uint32_t true_high;
};

void run_setp(Warp& w, const Instr& i, Mask active) {
  const ComparePlan& p = *static_cast<const ComparePlan*>(i.plan);
  const Mask c = p.how == kAlone ? 0 : w.pred(i.s[2]);
  const Mask t = p.low(w, i.s[0], i.s[1], p.relations);
  const Mask other = p.high != nullptr ? p.high(w, i.s[0], i.s[1], p.relations) : ~t;
  write_predicate(w, i.d[0], combine(t, c, p.how), active);
  if (i.nd == 2) write_predicate(w, i.d[1], combine(other, c, p.how), active);
}

void run_set(Warp& w, const Instr& i, Mask active) {
  const ComparePlan& p = *static_cast<const ComparePlan*>(i.plan);
  const Mask c = p.how == kAlone ? 0 : w.pred(i.s[2]);
  const Mask t = combine(p.low(w, i.s[0], i.s[1], p.relations), c, p.how);
  const Mask h = p.high != nullptr ? combine(p.high(w, i.s[0], i.s[1], p.relations), c, p.how) : 0;
  alignas(64) uint32_t out[kLanes];
  for (int l = 0; l < kLanes; ++l)
    out[l] = (spread<uint32_t>(t, l) & p.true_word) | (spread<uint32_t>(h, l) & p.true_high);
  write_lanes(w.u32(i.d[0]), out, active);
}

template <class T>
Relate plain(bool ftz) {
  if constexpr (std::is_same_v<T, float>) {
    if (ftz) return relate<Plain<float, true>>;
  }
  return relate<Plain<T, false>>;
}
template <int kShift>
Relate half(bool brain, bool ftz) {
  if (brain) return relate<Half<true, false, kShift>>;
  return ftz ? relate<Half<false, true, kShift>> : relate<Half<false, false, kShift>>;
}
Relate relate_of(Type t, bool ftz) {
  if (is_half(t)) return half<0>(t == Type::kBF16 || t == Type::kBF16x2, ftz);
  if (t == Type::kF32) return plain<float>(ftz);
  if (t == Type::kF64) return plain<double>(false);
  Relate found = nullptr;
  if (t == Type::kU8 || t == Type::kS8) return found;
  with_integer(t, [&](auto zero) {
    if constexpr (sizeof(zero) >= 2) found = plain<decltype(zero)>(false);
  });
  return found;
}

bool is_bits(Type t) { return t == Type::kB16 || t == Type::kB32 || t == Type::kB64; }

// Takes comparison, combination and .ftz; then the types.
bool take_comparison(Decoder& d, ComparePlan* p, Modifiers* m, bool two_types) {
  const Comparison* comparison = nullptr;
  for (const Comparison& c : kComparisons) {
    if (!d.take(c.name)) continue;
    comparison = &c;
    break;
  }
  if (comparison == nullptr) {
    d.fail("unknown comparison ." + std::string(d.peek()));
    return false;
  }
  const int how = d.take_one_of({"and", "or", "xor"});
  p->how = static_cast<Combine>(how + 1);
  *m = take_modifiers(d);
  const Type compared = two_types ? m->type2 : m->type;
  p->low = relate_of(compared, m->has(kFtz));
  if (p->low == nullptr) {
    fail_type(d, compared);
    return false;
  }
  const bool floats = ptx::is_floating(compared);
  bool fits = comparison->use == Comparison::kAny;
  if (comparison->use == Comparison::kNumbers) fits = !is_bits(compared);
  if (comparison->use == Comparison::kUnsigned) fits = !floats && !is_bits(compared) && !ptx::is_signed(compared);
  if (comparison->use == Comparison::kFloats) fits = floats;
  if (!fits) {
    d.fail(std::string("comparison .") + comparison->name + " does not apply to type ." + ptx::name_of(compared));
    return false;
  }
  p->relations = comparison->relations;
  const bool flushes = compared == Type::kF32 || compared == Type::kF16 || compared == Type::kF16x2;
  if (!check_modifiers(d, *m, flushes ? kFtz : 0)) return false;
  if (compared == Type::kF16x2) p->high = half<16>(false, m->has(kFtz));
  if (compared == Type::kBF16x2) p->high = half<16>(true, false);
  d.instr.cls = floats ? (compared == Type::kF64 ? Class::kFloat64
                          : is_half(compared)    ? Class::kFloat16
                                                 : Class::kFloat32)
                       : Class::kInteger;
  return true;
}

void decode_setp(Decoder& d) {
  ComparePlan p = {};
  Modifiers m;
  if (!take_comparison(d, &p, &m, false)) return;
  if (m.type2 != Type::kNone) return fail_type(d, m.type2);
  d.destination(0, Type::kPred);
  d.source(1, m.type);
  d.source(2, m.type);
  if (p.how != kAlone) d.source(3, Type::kPred);
  d.instr.plan = d.keep(p);
  d.instr.run = run_setp;
}

void decode_set(Decoder& d) {
  ComparePlan p = {};
  Modifiers m;
  if (!take_comparison(d, &p, &m, true)) return;
  switch (m.type) {
    case Type::kU32:
    case Type::kS32: p.true_word = ~0u; break;
    case Type::kU16:
    case Type::kS16: p.true_word = 0xffff; break;
    case Type::kF32: p.true_word = 0x3f800000; break;
    case Type::kF16: p.true_word = 0x3c00; break;
    case Type::kBF16: p.true_word = 0x3f80; break;
    case Type::kF16x2:
      p.true_word = 0x3c00;
      p.true_high = 0x3c000000;
      break;
    case Type::kBF16x2:
      p.true_word = 0x3f80;
      p.true_high = 0x3f800000;
      break;
    default: return fail_type(d, m.type);
  }
  // A pair into an integer: each half is a mask of 16 bits.
  const bool pair = p.high != nullptr;
  if (pair && (m.type == Type::kU32 || m.type == Type::kS32)) {
    p.true_word = 0xffff;
    p.true_high = 0xffff0000;
  }
  if (pair != (p.true_high != 0)) return fail_type(d, m.type);
  d.destination(0, m.type);
  d.source(1, m.type2);
  d.source(2, m.type2);
  if (p.how != kAlone) d.source(3, Type::kPred);
  d.instr.plan = d.keep(p);
  d.instr.run = run_set;
}

// ---- selection: d = m ? a : b, bit by bit of the masks

template <class W>
inline __attribute__((always_inline)) void select(Warp& w, const Instr& i, Mask choice, Mask active) {
  const W* a = reinterpret_cast<const W*>(w.u32(i.s[0]));
  const W* b = reinterpret_cast<const W*>(w.u32(i.s[1]));
  alignas(64) W out[kLanes];
  for (int l = 0; l < kLanes; ++l) {
    const W m = spread<W>(choice, l);
    out[l] = (a[l] & m) | (b[l] & ~m);
  }
  write_lanes(reinterpret_cast<W*>(w.u32(i.d[0])), out, active);
}
template <class W>
EMU_VECTORIZE void run_selp(Warp& w, const Instr& i, Mask active) {
  select<W>(w, i, w.pred(i.s[2]), active);
}
template <class W, class C, bool kFlush>
EMU_VECTORIZE void run_slct(Warp& w, const Instr& i, Mask active) {
  const Word<C>* c = words<C>(w, i.s[2]);
  alignas(64) uint32_t chosen[kLanes];
  for (int l = 0; l < kLanes; ++l) chosen[l] = Plain<C, kFlush>::value(c[l]) >= C{0} ? 1 : 0;
  select<W>(w, i, gather_bits(chosen), active);
}

bool is_selectable(Type t) {
  const int bits = ptx::bits_of(t);
  return t == Type::kF32 || t == Type::kF64 || (with_integer(t, [](auto) {}) && bits >= 16);
}
void decode_selp(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  if (!check_modifiers(d, m, 0, is_selectable(m.type))) return;
  d.destination(0, m.type);
  d.source(1, m.type);
  d.source(2, m.type);
  d.source(3, Type::kPred);
  d.instr.cls = Class::kLogic;
  d.instr.run = ptx::bits_of(m.type) == 64 ? run_selp<uint64_t> : run_selp<uint32_t>;
}
void decode_slct(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  if (!check_modifiers(d, m, m.type2 == Type::kF32 ? kFtz : 0, is_selectable(m.type))) return;
  if (m.type2 != Type::kS32 && m.type2 != Type::kF32) return fail_type(d, m.type2);
  d.destination(0, m.type);
  d.source(1, m.type);
  d.source(2, m.type);
  d.source(3, m.type2);
  d.instr.cls = Class::kLogic;
  const bool wide = ptx::bits_of(m.type) == 64;
  if (m.type2 == Type::kS32) {
    d.instr.run = wide ? run_slct<uint64_t, int32_t, false> : run_slct<uint32_t, int32_t, false>;
  } else if (m.has(kFtz)) {
    d.instr.run = wide ? run_slct<uint64_t, float, true> : run_slct<uint32_t, float, true>;
  } else {
    d.instr.run = wide ? run_slct<uint64_t, float, false> : run_slct<uint32_t, float, false>;
  }
}

}  // namespace

extern const InstructionRow kCompareInstructions[] = {
    {"setp", decode_setp}, {"set", decode_set}, {"selp", decode_selp}, {"slct", decode_slct}, {nullptr, nullptr},
};

}  // namespace emu
