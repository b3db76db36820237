// The fp32 engine: weights decoded to fp32, FMA with broadcast activations, for activations or formats that are not
// exact in bf16. Operand c of a tile is its column c.
//
// Floors: the weight's packed bytes over the memory bandwidth (M small); M N K / 16 FMA over 2 a cycle.
#include "cpu/avx512/gemm_tiles.h"

namespace lowbit::avx512 {
namespace {

struct F32Math : FloatSums {
  static constexpr int kOperands = 4;
  static constexpr bool kValueZeros = true;

  template <int kBits>
  struct Numbers {
    const float* table;
    __m512 low, high;  // entries 0..15 and 16..31 of the table
    __m512 first;      // value of code 0
    bool integer, bipolar, is_signed;

    Numbers(const ElementFormat& f, const cpu::CodeTables& t)
        : table(t.f32),
          low(_mm512_loadu_ps(t.f32)),
          high(_mm512_loadu_ps(t.f32 + 16)),
          first(_mm512_set1_ps(t.f32[0])),
          integer(f.is_int()),
          bipolar(f.is_int() && f.rule == kBipolar),
          is_signed(f.is_int() && f.rule != kUnsigned && f.rule != kBipolar) {}

    LOWBIT_INLINE __m512 value(__m512i codes, int c) const {
      const __m512i code = _mm512_srli_epi32(codes, static_cast<unsigned>(8 * c));
      if constexpr (kBits <= 4) return _mm512_permutexvar_ps(code, low);
      if constexpr (kBits == 5) return _mm512_permutex2var_ps(low, code, high);
      if (!integer) return _mm512_i32gather_ps(_mm512_and_si512(code, _mm512_set1_epi32(255)), table, 4);
      const __m512i top = _mm512_slli_epi32(code, 32 - kBits);
      const __m512 v =
          _mm512_cvtepi32_ps(is_signed ? _mm512_srai_epi32(top, 32 - kBits) : _mm512_srli_epi32(top, 32 - kBits));
      return bipolar ? _mm512_fmadd_ps(v, _mm512_set1_ps(2.0f), first) : v;
    }
    LOWBIT_INLINE void operator()(__m512i codes, __m512i (&out)[4]) const {
      LOWBIT_UNROLL
      for (int c = 0; c < 4; ++c) out[c] = _mm512_castps_si512(value(codes, c));
    }
    LOWBIT_INLINE void operator()(__m512i codes, const float* zero, __m512i (&out)[4]) const {
      const __m512 z = _mm512_loadu_ps(zero);
      LOWBIT_UNROLL
      for (int c = 0; c < 4; ++c) out[c] = _mm512_castps_si512(_mm512_sub_ps(value(codes, c), z));
    }
  };

  static LOWBIT_INLINE Sum dot(Sum sum, __m512i w, __m512i x) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(w), _mm512_castsi512_ps(x), sum);
  }
};

}  // namespace

const cpu::Engine kF32Engine = engine<F32Math>(64);

}  // namespace lowbit::avx512
