// The fp32 engines: weights decoded to fp32, FMA with broadcast activations; one for activations or formats that are
// not exact in bf16, one with the sums of vdpbf16ps. They cut sums elsewhere, and are the same code.
//
// Floors: the weight's packed bytes over the memory bandwidth (M small); M N K / 16 FMA over 2 a cycle.
#include "cpu/avx512/bf16_gemm.h"
#include "cpu/avx512/f32_math.h"

namespace lowbit::avx512 {
namespace {

// vdpbf16ps adds the products of a pair one after the other, each fused, the odd column first: operands are columns 2,
// 0, 3, 1 (bf16_gemm.cpp pairs 0, 2 and 1, 3).
struct FmaMath : F32Math {
  static constexpr int word(int operand) { return operand == 0 ? 2 : operand == 1 ? 0 : operand == 2 ? 3 : 1; }

  template <int kBits>
  struct Numbers : F32Math::Numbers<kBits> {
    using F32Math::Numbers<kBits>::Numbers;
    static LOWBIT_INLINE void order(const __m512i (&columns)[4], __m512i (&out)[4]) {
      LOWBIT_UNROLL
      for (int c = 0; c < 4; ++c) out[c] = columns[word(c)];
    }
    LOWBIT_INLINE void operator()(__m512i codes, __m512i (&out)[4]) const {
      __m512i columns[4];
      F32Math::Numbers<kBits>::operator()(codes, columns);
      order(columns, out);
    }
    LOWBIT_INLINE void operator()(__m512i codes, const float* zero, __m512i (&out)[4]) const {
      __m512i columns[4];
      F32Math::Numbers<kBits>::operator()(codes, zero, columns);
      order(columns, out);
    }
  };
};

}  // namespace

const cpu::Engine kF32Engine = engine<FmaMath>(64);
const cpu::Engine kBF16FmaEngine = engine<FmaMath>(128);  // as many quads as kBF16Engine: sums are cut alike

}  // namespace lowbit::avx512
