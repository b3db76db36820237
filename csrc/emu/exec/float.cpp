// f32, f32x2 and f64 arithmetic: PTX ISA 9.0, section 9.7.3. Each operation is done once, in its own type, by the
// host's IEEE unit in the rounding mode of the instruction; what PTX adds (flushing, saturation, canonical NaN) goes
// around it. Of this file nothing may be contracted or reassociated: it is built with -ffp-contract=off
// -frounding-math.
#include <xmmintrin.h>

#include <cmath>

#include "emu/exec/arithmetic.h"
#include "emu/exec/half_float.h"
#include "emu/exec/lanes.h"

namespace emu {
namespace {

using ptx::Type;

constexpr uint16_t kDirection = 3;  // 0 .rn, 1 .rm, 2 .rp, 3 .rz: the codes of MXCSR
constexpr uint16_t kFlush = 4, kSaturate = 8, kHalfA = 16, kHalfB = 32, kBrain = 64, kMagnitudes = 128,
                   kSignOfXor = 256;

template <class T>
using Bits = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
template <class T>
constexpr Bits<T> kSign = Bits<T>{1} << (8 * sizeof(T) - 1);

// NaN payloads live on in f64; f32 has one NaN.
inline float canonical(float v) { return v != v ? bits_as<float>(0x7fffffffu) : v; }
inline double canonical(double v) { return v; }

struct Add {
  template <class T>
  T operator()(T a, T b, T) const {
    return canonical(a + b);
  }
};
struct Sub {
  template <class T>
  T operator()(T a, T b, T) const {
    return canonical(a - b);
  }
};
struct Mul {
  template <class T>
  T operator()(T a, T b, T) const {
    return canonical(a * b);
  }
};
struct Fma {
  template <class T>
  T operator()(T a, T b, T c) const {
    return canonical(std::fma(a, b, c));
  }
};
struct Div {
  template <class T>
  T operator()(T a, T b, T) const {
    return canonical(a / b);
  }
};
struct Rcp {
  template <class T>
  T operator()(T a, T, T) const {
    return canonical(T{1} / a);
  }
};
struct Sqrt {
  template <class T>
  T operator()(T a, T, T) const {
    return canonical(std::sqrt(a));
  }
};
struct Abs {
  template <class T>
  T operator()(T a, T, T) const {
    return bits_as<T>(bits_as<Bits<T>>(a) & ~kSign<T>);
  }
};
struct Neg {
  template <class T>
  T operator()(T a, T, T) const {
    return bits_as<T>(bits_as<Bits<T>>(a) ^ kSign<T>);
  }
};
// -0 < +0. Of equal values only the zeros differ in bits, and there the sign bit decides.
struct Less {
  template <class T>
  static T choose(T a, T b) {
    const T equal = bits_as<T>(bits_as<Bits<T>>(a) | bits_as<Bits<T>>(b));
    return a < b ? a : b < a ? b : equal;
  }
};
struct Greater {
  template <class T>
  static T choose(T a, T b) {
    const T equal = bits_as<T>(bits_as<Bits<T>>(a) & bits_as<Bits<T>>(b));
    return a > b ? a : b > a ? b : equal;
  }
};
template <class Which>
struct Number {  // a NaN yields the other operand
  template <class T>
  T operator()(T a, T b, T) const {
    const T r = Which::choose(a, b);
    return canonical(a != a ? b : b != b ? a : r);
  }
};
template <class Which>
struct NanWins {
  template <class T>
  T operator()(T a, T b, T) const {
    const T r = Which::choose(a, b);
    return canonical(a != a ? a : b != b ? b : r);
  }
};
template <class Op>
struct OfThree {
  template <class T>
  T operator()(T a, T b, T c) const {
    return Op()(Op()(a, b, c), c, c);
  }
};

template <class T>
inline T flush(T v) {
  const Bits<T> u = bits_as<Bits<T>>(v);
  return bits_as<T>((u & 0x7f800000u) == 0 ? u & kSign<T> : u);
}
inline float saturate(float v) { return v > 0.0f ? (v < 1.0f ? v : 1.0f) : 0.0f; }  // a NaN gives +0

// Rounds to another direction for its lifetime. The barriers keep the arithmetic, which goes through memory, inside.
class Direction {
 public:
  explicit Direction(unsigned code) : before_(_mm_getcsr()) {
    _mm_setcsr((before_ & ~(3u << 13)) | code << 13);
    asm volatile("" ::: "memory");
  }
  ~Direction() {
    asm volatile("" ::: "memory");
    _mm_setcsr(before_);
  }
  Direction(const Direction&) = delete;
  Direction& operator=(const Direction&) = delete;

 private:
  const unsigned before_;
};

template <class T, class Op>
EMU_VECTORIZE __attribute__((noinline)) void compute(T* out, const T* a, const T* b, const T* c, int n) {
  for (int at = 0; at < n; at += kLanes) {
    for (int l = at; l < at + kLanes; ++l) out[l] = Op()(a[l], b[l], c[l]);
  }
}

constexpr int kMost = 2 * kLanes;  // f32x2: lane and half, as they lie in the unit

template <class T, class Op>
void run_float(Warp& w, const Instr& i, Mask active) {
  const int n = i.count;
  alignas(64) T out[kMost], in[3][kMost];
  alignas(64) Bits<T> sign[kMost];
  const T* s[3];
  for (int k = 0; k < 3; ++k) s[k] = reinterpret_cast<const T*>(w.u32(i.s[k < i.ns ? k : 0]));
  if constexpr (sizeof(T) == 4) {
    for (int k = 0; k < 2; ++k) {
      if ((i.flags & (k == 0 ? kHalfA : kHalfB)) == 0) continue;
      const uint32_t* h = w.u32(i.s[k]);
      for (int l = 0; l < n; ++l) in[k][l] = (i.flags & kBrain) != 0 ? bf16_value(h[l]) : f16_value(h[l]);
      s[k] = in[k];
    }
    if ((i.flags & kFlush) != 0) {
      for (int k = 0; k < i.ns; ++k) {
        for (int l = 0; l < n; ++l) in[k][l] = flush(s[k][l]);
        s[k] = in[k];
      }
    }
    if ((i.flags & kMagnitudes) != 0) {
      for (int l = 0; l < n; ++l) {
        sign[l] = (bits_as<Bits<T>>(s[0][l]) ^ bits_as<Bits<T>>(s[1][l])) & kSign<T>;
      }
      for (int k = 0; k < i.ns; ++k) {
        for (int l = 0; l < n; ++l) in[k][l] = Abs()(s[k][l], T{}, T{});
        s[k] = in[k];
      }
    }
  }
  if ((i.flags & kDirection) == 0) {
    compute<T, Op>(out, s[0], s[1], s[2], n);
  } else {
    const Direction direction(i.flags & kDirection);
    compute<T, Op>(out, s[0], s[1], s[2], n);
  }
  if constexpr (sizeof(T) == 4) {
    if ((i.flags & kFlush) != 0) {
      for (int l = 0; l < n; ++l) out[l] = flush(out[l]);
    }
    if ((i.flags & kSaturate) != 0) {
      for (int l = 0; l < n; ++l) out[l] = saturate(out[l]);
    }
    if ((i.flags & kSignOfXor) != 0) {
      for (int l = 0; l < n; ++l) {
        const Bits<T> u = bits_as<Bits<T>>(out[l]);
        out[l] = out[l] != out[l] ? out[l] : bits_as<T>(u | sign[l]);
      }
    }
  }
  if (n == kMost || sizeof(T) == 8) {
    alignas(64) uint64_t words64[kLanes];
    std::memcpy(words64, out, sizeof(words64));
    write_lanes(w.u64(i.d[0]), words64, active);
  } else {
    alignas(64) uint32_t words32[kLanes];
    std::memcpy(words32, out, sizeof(words32));
    write_lanes(w.u32(i.d[0]), words32, active);
  }
}

template <class Op>
Instr::Handler handler(Type t) {
  return t == Type::kF64 ? run_float<double, Op> : run_float<float, Op>;
}

template <class Which>
Instr::Handler extreme(Type t, bool nan, bool three) {
  if (three) return nan ? handler<OfThree<NanWins<Which>>>(t) : handler<OfThree<Number<Which>>>(t);
  return nan ? handler<NanWins<Which>>(t) : handler<Number<Which>>(t);
}

uint16_t direction_of(const Modifiers& m) { return m.has(kRm) ? 1 : m.has(kRp) ? 2 : m.has(kRz) ? 3 : 0; }

ModifierSet allowed_of(Arithmetic op, Type t, bool mixed) {
  const ModifierSet ftz = t == Type::kF64 || mixed ? 0 : kFtz;
  const ModifierSet sat = t == Type::kF32 ? kSat : 0;
  switch (op) {
    case Arithmetic::kAdd:
    case Arithmetic::kSub:
    case Arithmetic::kMul:
    case Arithmetic::kFma: return kDirections | ftz | sat;
    case Arithmetic::kDiv:
    case Arithmetic::kRcp:
    case Arithmetic::kSqrt: return kDirections | ftz;
    case Arithmetic::kMin:
    case Arithmetic::kMax: return t == Type::kF32 ? kFtz | kNan | kXorsign | kAbs : 0;
    case Arithmetic::kAbs:
    case Arithmetic::kNeg: return ftz;
  }
  return 0;
}

int sources_of(Decoder& d, Arithmetic op) {
  switch (op) {
    case Arithmetic::kFma: return 3;
    case Arithmetic::kMin:
    case Arithmetic::kMax: return d.operands() == 4 ? 3 : 2;
    case Arithmetic::kAbs:
    case Arithmetic::kNeg:
    case Arithmetic::kRcp:
    case Arithmetic::kSqrt: return 1;
    default: return 2;
  }
}

template <class T>
bool is_finite(T v) {
  return std::isfinite(v);
}
template <class T>
bool is_infinite(T v) {
  return std::isinf(v);
}
template <class T>
bool is_number(T v) {
  return !std::isnan(v);
}
template <class T>
bool is_nan(T v) {
  return std::isnan(v);
}
template <class T>
bool is_normal(T v) {
  return std::isnormal(v) || v == 0;
}  // PTX counts zeros as normal
template <class T>
bool is_subnormal(T v) {
  return std::fpclassify(v) == FP_SUBNORMAL;
}

template <class T, bool (*kIs)(T)>
void run_testp(Warp& w, const Instr& i, Mask active) {
  const Word<T>* a = words<T>(w, i.s[0]);
  Mask result = 0;
  for (int l = 0; l < kLanes; ++l) result |= Mask{kIs(from_word<T>(a[l]))} << l;
  write_predicate(w, i.d[0], result, active);
}
template <class T>
Instr::Handler testp_handler(int test) {
  switch (test) {
    case 0: return run_testp<T, is_finite<T>>;
    case 1: return run_testp<T, is_infinite<T>>;
    case 2: return run_testp<T, is_number<T>>;
    case 3: return run_testp<T, is_nan<T>>;
    case 4: return run_testp<T, is_normal<T>>;
    default: return run_testp<T, is_subnormal<T>>;
  }
}
void decode_testp(Decoder& d) {
  const int test = d.take_one_of({"finite", "infinite", "number", "notanumber", "normal", "subnormal"});
  const Modifiers m = take_modifiers(d);
  if (test < 0) return d.fail("the property that testp tests is missing");
  if (!check_modifiers(d, m, 0, m.type == Type::kF32 || m.type == Type::kF64)) return;
  d.destination(0, Type::kPred);
  d.source(1, m.type);
  d.instr.cls = m.type == Type::kF32 ? Class::kFloat32 : Class::kFloat64;
  d.instr.run = m.type == Type::kF32 ? testp_handler<float>(test) : testp_handler<double>(test);
}

struct Copysign {  // the sign of a on the value of b
  template <class U>
  U operator()(U a, U b) const {
    constexpr U sign = U{1} << (8 * sizeof(U) - 1);
    return (b & ~sign) | (a & sign);
  }
};
void decode_copysign(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  if (!check_modifiers(d, m, 0, m.type == Type::kF32 || m.type == Type::kF64)) return;
  d.destination(0, m.type);
  d.source(1, m.type);
  d.source(2, m.type);
  d.instr.cls = m.type == Type::kF32 ? Class::kFloat32 : Class::kFloat64;
  d.instr.run = m.type == Type::kF32 ? map_lanes<Copysign, uint32_t, uint32_t, uint32_t>
                                     : map_lanes<Copysign, uint64_t, uint64_t, uint64_t>;
}

void decode_fma(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  is_half(m.type) ? decode_half(d, m, Arithmetic::kFma) : decode_float(d, m, Arithmetic::kFma);
}
void decode_rcp(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  m.has(kApprox) ? decode_approximation(d, m, Approximation::kRcp) : decode_float(d, m, Arithmetic::kRcp);
}
void decode_sqrt(Decoder& d) {
  const Modifiers m = take_modifiers(d);
  m.has(kApprox) ? decode_approximation(d, m, Approximation::kSqrt) : decode_float(d, m, Arithmetic::kSqrt);
}

}  // namespace

void decode_float(Decoder& d, const Modifiers& m, Arithmetic op) {
  const bool mixed = m.type2 != Type::kNone;  // add.f32.f16: the first operand (two of fma) is of the half type
  const bool takes_mixed = op == Arithmetic::kAdd || op == Arithmetic::kSub || op == Arithmetic::kFma;
  if (mixed && !(takes_mixed && m.type == Type::kF32 && (m.type2 == Type::kF16 || m.type2 == Type::kBF16))) {
    return fail_type(d, m.type2);
  }
  const bool sums = takes_mixed || op == Arithmetic::kMul;
  const bool rounds = sums || op == Arithmetic::kDiv || op == Arithmetic::kRcp || op == Arithmetic::kSqrt;
  const bool known = m.type == Type::kF32 || m.type == Type::kF64 || (m.type == Type::kF32x2 && sums);
  if (!check_modifiers(d, m, allowed_of(op, m.type, mixed), known)) return;
  const bool must_round = rounds && (!sums || op == Arithmetic::kFma);
  if (rounds && !check_choice(d, m, kDirections, must_round)) return;

  Instr& i = d.instr;
  const int sources = sources_of(d, op);
  const bool extremes = op == Arithmetic::kMin || op == Arithmetic::kMax;
  if (extremes && sources == 3 && (m.type != Type::kF32 || m.has(kXorsign))) {
    return d.fail("three inputs are for " + d.st.opcode + " of type .f32 without .xorsign");
  }
  if (extremes && m.has(kXorsign) && !m.has(kAbs)) return d.fail("modifier .xorsign stands without .abs");
  if (extremes && m.has(kAbs) && !m.has(kXorsign) && sources == 2)
    return d.fail("modifier .abs stands without .xorsign");
  d.destination(0, m.type);
  for (int k = 0; k < sources; ++k) d.source(k + 1, mixed && k < sources - 1 ? m.type2 : m.type);
  i.type = m.type;
  i.count = m.type == Type::kF32x2 ? kMost : kLanes;
  i.cls = m.type == Type::kF64 ? Class::kFloat64 : Class::kFloat32;
  i.flags = direction_of(m);
  if (m.has(kFtz)) i.flags |= kFlush;
  if (m.has(kSat)) i.flags |= kSaturate;
  if (mixed) i.flags |= kHalfA | (sources == 3 ? kHalfB : 0) | (m.type2 == Type::kBF16 ? kBrain : 0);
  if (m.has(kAbs)) i.flags |= kMagnitudes;
  if (m.has(kXorsign)) i.flags |= kSignOfXor;
  switch (op) {
    case Arithmetic::kAdd: i.run = handler<Add>(m.type); break;
    case Arithmetic::kSub: i.run = handler<Sub>(m.type); break;
    case Arithmetic::kMul: i.run = handler<Mul>(m.type); break;
    case Arithmetic::kFma: i.run = handler<Fma>(m.type); break;
    case Arithmetic::kDiv: i.run = handler<Div>(m.type); break;
    case Arithmetic::kRcp: i.run = handler<Rcp>(m.type); break;
    case Arithmetic::kSqrt: i.run = handler<Sqrt>(m.type); break;
    case Arithmetic::kAbs: i.run = handler<Abs>(m.type); break;
    case Arithmetic::kNeg: i.run = handler<Neg>(m.type); break;
    case Arithmetic::kMin: i.run = extreme<Less>(m.type, m.has(kNan), sources == 3); break;
    case Arithmetic::kMax: i.run = extreme<Greater>(m.type, m.has(kNan), sources == 3); break;
  }
}

extern const InstructionRow kFloatInstructions[] = {
    {"fma", decode_fma},           {"rcp", decode_rcp},     {"sqrt", decode_sqrt},
    {"copysign", decode_copysign}, {"testp", decode_testp}, {nullptr, nullptr},
};

}  // namespace emu
