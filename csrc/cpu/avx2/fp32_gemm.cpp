// The float engine: weights decoded to fp32, FMA with broadcast activations. Operand c of a tile is its column c.
//
// Floors: the weight's packed bytes over the memory bandwidth (M small); M N K / 8 FMA over 2 a cycle.
#include "cpu/simd/gemm_tiles.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

struct F32Math : FloatSums {
  static constexpr int kOperands = 4;
  static constexpr bool kValueZeros = true;
  static constexpr int word(int operand) { return operand; }

  template <int kBits>
  struct Numbers {
    ColumnValues<kBits> values;
    Numbers(const ElementFormat& f, const cpu::CodeTables& t) : values(f, t.f32) {}
    LOWBIT_INLINE void operator()(Ints codes, Ints (&out)[4]) const {
      Floats v[4];
      values(codes, v);
      LOWBIT_UNROLL
      for (int c = 0; c < 4; ++c) out[c] = as_ints(v[c]);
    }
    LOWBIT_INLINE void operator()(Ints codes, const float* zero, Ints (&out)[4]) const {
      Floats v[4];
      values(codes, v);
      LOWBIT_UNROLL
      for (int c = 0; c < 4; ++c) out[c] = as_ints(sub(v[c], load(zero)));
    }
  };

  static LOWBIT_INLINE Sum dot(Sum sum, Ints w, Ints x) { return fma(as_floats(w), as_floats(x), sum); }
};

}  // namespace

const cpu::Engine kF32Engine = engine<F32Math>(32);

}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
