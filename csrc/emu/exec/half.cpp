// f16, bf16 and their pairs: PTX ISA 9.0, section 9.7.4. Of a pair the low halves come first, then the high ones,
// one a word. Sums and products are exact or rounded to odd in a wider type, then rounded once to the half type.
#include <cmath>

#include "emu/exec/arithmetic.h"
#include "emu/exec/half_float.h"
#include "emu/exec/lanes.h"

namespace emu {
namespace {

using ptx::Type;

constexpr uint16_t kFlush = 1, kSaturate = 2, kClip = 4, kMagnitudes = 8, kSignOfXor = 16;
constexpr int kMost = 2 * kLanes;

// f16 in float: products have 22 bits and exponents from -48, so they are exact, as is the error of a sum.
struct F16 {
  static constexpr uint32_t kExponent = 0x7c00;
  static constexpr uint32_t kOne = 0x3c00;
  static float value(uint32_t h) { return f16_value(h); }
  static uint32_t fma(uint32_t a, uint32_t b, uint32_t c) {
    return f16_bits(sum_to_odd<float, uint32_t>(value(a) * value(b), value(c)));
  }
  static uint32_t mul(uint32_t a, uint32_t b) { return f16_bits(value(a) * value(b)); }
};
// bf16 in double, for its exponents.
struct BF16 {
  static constexpr uint32_t kExponent = 0x7f80;
  static constexpr uint32_t kOne = 0x3f80;
  static float value(uint32_t h) { return bf16_value(h); }
  static uint32_t fma(uint32_t a, uint32_t b, uint32_t c) {
    const double sum = sum_to_odd<double, uint64_t>(double{value(a)} * double{value(b)}, double{value(c)});
    return bf16_bits(narrow_to_odd(sum));
  }
  static uint32_t mul(uint32_t a, uint32_t b) { return bf16_bits(narrow_to_odd(double{value(a)} * double{value(b)})); }
};

struct Add {
  template <class H>
  static uint32_t of(uint32_t a, uint32_t b, uint32_t) {
    return H::fma(a, H::kOne, b);
  }
};
struct Sub {
  template <class H>
  static uint32_t of(uint32_t a, uint32_t b, uint32_t) {
    return H::fma(a, H::kOne, b ^ 0x8000);
  }
};
struct Mul {
  template <class H>
  static uint32_t of(uint32_t a, uint32_t b, uint32_t) {
    return H::mul(a, b);
  }
};
struct Fma {
  template <class H>
  static uint32_t of(uint32_t a, uint32_t b, uint32_t c) {
    return H::fma(a, b, c);
  }
};
struct Abs {
  template <class H>
  static uint32_t of(uint32_t a, uint32_t, uint32_t) {
    return a & 0x7fff;
  }
};
struct Neg {
  template <class H>
  static uint32_t of(uint32_t a, uint32_t, uint32_t) {
    return a ^ 0x8000;
  }
};
template <class H>
inline bool is_nan(uint32_t a) {
  return (a & 0x7fff) > H::kExponent;
}
// Order of the numbers as integers: -0 before +0.
inline int32_t rank(uint32_t a) {
  const int32_t magnitude = static_cast<int32_t>(a & 0x7fff);
  return (a & 0x8000) != 0 ? -1 - magnitude : magnitude;
}

template <bool kGreater, bool kNanWins>
struct Extreme {
  template <class H>
  static uint32_t of(uint32_t a, uint32_t b, uint32_t) {
    const bool nan_a = is_nan<H>(a), nan_b = is_nan<H>(b);
    const uint32_t chosen = (rank(a) < rank(b)) != kGreater ? a : b;
    const uint32_t number = nan_a ? b : nan_b ? a : chosen;
    const bool nan = kNanWins ? nan_a | nan_b : nan_a & nan_b;
    return nan ? kNanHalf : number;
  }
};
template <class Op>
struct OfThree {
  template <class H>
  static uint32_t of(uint32_t a, uint32_t b, uint32_t c) {
    return Op::template of<H>(Op::template of<H>(a, b, 0), c, 0);
  }
};

template <class H, class Op>
EMU_VECTORIZE __attribute__((noinline)) void compute(uint32_t* out, const uint32_t* a, const uint32_t* b,
                                                     const uint32_t* c, int n) {
  for (int at = 0; at < n; at += kLanes) {
    for (int l = at; l < at + kLanes; ++l) out[l] = Op::template of<H>(a[l], b[l], c[l]);
  }
}

template <class H>
inline uint32_t flush(uint32_t a) {
  return (a & H::kExponent) == 0 ? a & 0x8000 : a;
}
template <class H>
inline uint32_t saturate(uint32_t a) {  // to [0, 1]; a NaN gives +0
  return is_nan<H>(a) || (a & 0x8000) != 0 ? 0u : a > H::kOne ? H::kOne : a;
}
template <class H>
inline uint32_t clip(uint32_t a) {  // .relu
  return is_nan<H>(a) ? kNanHalf : (a & 0x8000) != 0 ? 0u : a;
}

template <class H, class Op>
void run_half(Warp& w, const Instr& i, Mask active) {
  const int n = i.count * kLanes;
  alignas(64) uint32_t in[3][kMost], out[kMost], sign[kMost];
  for (int k = 0; k < i.ns; ++k) {
    const uint32_t* s = w.u32(i.s[k]);
    for (int l = 0; l < kLanes; ++l) in[k][l] = s[l] & 0xffff;
    for (int l = kLanes; l < n; ++l) in[k][l] = s[l - kLanes] >> 16;
  }
  if ((i.flags & kFlush) != 0) {
    for (int k = 0; k < i.ns; ++k) {
      for (int l = 0; l < n; ++l) in[k][l] = flush<H>(in[k][l]);
    }
  }
  if ((i.flags & kMagnitudes) != 0) {
    for (int l = 0; l < n; ++l) sign[l] = (in[0][l] ^ in[1][l]) & 0x8000;
    for (int k = 0; k < i.ns; ++k) {
      for (int l = 0; l < n; ++l) in[k][l] &= 0x7fff;
    }
  }
  compute<H, Op>(out, in[0], i.ns > 1 ? in[1] : in[0], i.ns > 2 ? in[2] : in[0], n);
  if ((i.flags & kFlush) != 0) {
    for (int l = 0; l < n; ++l) out[l] = flush<H>(out[l]);
  }
  if ((i.flags & kSaturate) != 0) {
    for (int l = 0; l < n; ++l) out[l] = saturate<H>(out[l]);
  }
  if ((i.flags & kClip) != 0) {
    for (int l = 0; l < n; ++l) out[l] = clip<H>(out[l]);
  }
  if ((i.flags & kSignOfXor) != 0) {
    for (int l = 0; l < n; ++l) out[l] |= is_nan<H>(out[l]) ? 0u : sign[l];
  }
  for (int l = kLanes; l < n; ++l) out[l - kLanes] |= out[l] << 16;
  write_lanes(w.u32(i.d[0]), out, active);
}

template <class Op>
Instr::Handler handler(bool brain) {
  return brain ? run_half<BF16, Op> : run_half<F16, Op>;
}

template <bool kGreater>
Instr::Handler extreme(bool brain, bool nan, bool three) {
  if (three) {
    return nan ? handler<OfThree<Extreme<kGreater, true>>>(brain) : handler<OfThree<Extreme<kGreater, false>>>(brain);
  }
  return nan ? handler<Extreme<kGreater, true>>(brain) : handler<Extreme<kGreater, false>>(brain);
}

}  // namespace

void decode_half(Decoder& d, const Modifiers& m, Arithmetic op) {
  if (m.type2 != Type::kNone) return fail_type(d, m.type2);
  const bool brain = m.type == Type::kBF16 || m.type == Type::kBF16x2;
  const bool extremes = op == Arithmetic::kMin || op == Arithmetic::kMax;
  const bool sums =
      op == Arithmetic::kAdd || op == Arithmetic::kSub || op == Arithmetic::kMul || op == Arithmetic::kFma;
  ModifierSet allowed = brain ? 0 : kFtz;
  if (sums) allowed |= kRn | (brain ? 0 : kSat);
  if (op == Arithmetic::kFma) allowed |= kRelu;
  if (extremes) allowed |= kNan | kXorsign | kAbs;
  if (m.has(kOob)) return d.fail("modifier .oob is not modelled: the pattern of the OOB NaN is not documented");
  if (!check_modifiers(d, m, allowed)) return;
  if (op == Arithmetic::kFma && !check_choice(d, m, kRn)) return;
  if (m.has(kSat) && m.has(kRelu)) return d.fail("modifiers .sat and .relu exclude each other");
  Instr& i = d.instr;
  const int sources = op == Arithmetic::kFma                             ? 3
                      : extremes                                         ? (d.operands() == 4 ? 3 : 2)
                      : op == Arithmetic::kAbs || op == Arithmetic::kNeg ? 1
                                                                         : 2;
  if (sources == 3 && m.has(kXorsign)) return d.fail("modifier .xorsign does not apply to three inputs");
  if (m.has(kXorsign) && !m.has(kAbs)) return d.fail("modifier .xorsign stands without .abs");
  if (m.has(kAbs) && !m.has(kXorsign) && sources == 2) return d.fail("modifier .abs stands without .xorsign");
  d.destination(0, m.type);
  for (int k = 1; k <= sources; ++k) d.source(k, m.type);
  i.type = m.type;
  i.cls = Class::kFloat16;
  i.count = m.type == Type::kF16 || m.type == Type::kBF16 ? 1 : 2;
  if (m.has(kFtz)) i.flags |= kFlush;
  if (m.has(kSat)) i.flags |= kSaturate;
  if (m.has(kRelu)) i.flags |= kClip;
  if (m.has(kAbs)) i.flags |= kMagnitudes;
  if (m.has(kXorsign)) i.flags |= kSignOfXor;
  switch (op) {
    case Arithmetic::kAdd: i.run = handler<Add>(brain); break;
    case Arithmetic::kSub: i.run = handler<Sub>(brain); break;
    case Arithmetic::kMul: i.run = handler<Mul>(brain); break;
    case Arithmetic::kFma: i.run = handler<Fma>(brain); break;
    case Arithmetic::kAbs: i.run = handler<Abs>(brain); break;
    case Arithmetic::kNeg: i.run = handler<Neg>(brain); break;
    case Arithmetic::kMin: i.run = extreme<false>(brain, m.has(kNan), sources == 3); break;
    case Arithmetic::kMax: i.run = extreme<true>(brain, m.has(kNan), sources == 3); break;
    default: d.fail(d.st.opcode + " has no type ." + ptx::name_of(m.type)); break;
  }
}

// Every opcode of the half types has other types too and is listed with them.
extern const InstructionRow kHalfInstructions[] = {{nullptr, nullptr}};

}  // namespace emu
