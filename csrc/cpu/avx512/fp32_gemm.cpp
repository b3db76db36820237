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

  // Up to 5 bits: a table of fp32 in registers. Above: integers are converted, others come as two halves from tables of
  // words.
  template <int kBits>
  struct Numbers {
    static constexpr int kWide = kBits > 5 ? kBits : 6;
    __m512 low, high;  // entries 0..15 and 16..31
    __m512 first;      // value of code 0
    WordTable<kWide> top, bottom;
    bool integer, bipolar, is_signed, has_bottom;

    Numbers(const ElementFormat& f, const cpu::CodeTables& t)
        : low(_mm512_loadu_ps(t.f32)),
          high(_mm512_loadu_ps(t.f32 + 16)),
          first(_mm512_set1_ps(t.f32[0])),
          top(t.f32_high),
          bottom(t.f32_low),
          integer(f.is_int()),
          bipolar(f.is_int() && f.rule == kBipolar),
          is_signed(f.is_int() && f.rule != kUnsigned && f.rule != kBipolar),
          has_bottom(t.has_low) {}

    // Columns c and c + 2, from their codes in the low bytes of words.
    LOWBIT_INLINE void pair(__m512i codes, __m512i* even, __m512i* odd) const {
      const __m512i high_half = _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u));
      const __m512i t = top(codes);
      *even = _mm512_slli_epi32(t, 16);
      *odd = _mm512_and_si512(t, high_half);
      if (has_bottom) {
        const __m512i b = bottom(codes);
        *even = _mm512_or_si512(*even, _mm512_andnot_si512(high_half, b));
        *odd = _mm512_or_si512(*odd, _mm512_srli_epi32(b, 16));
      }
    }
    LOWBIT_INLINE __m512 converted(__m512i code) const {
      const __m512i at_top = _mm512_slli_epi32(code, 32 - kBits);
      const __m512 v =
          _mm512_cvtepi32_ps(is_signed ? _mm512_srai_epi32(at_top, 32 - kBits) : _mm512_srli_epi32(at_top, 32 - kBits));
      return bipolar ? _mm512_fmadd_ps(v, _mm512_set1_ps(2.0f), first) : v;
    }
    LOWBIT_INLINE void operator()(__m512i codes, __m512i (&out)[4]) const {
      if (kBits > 5 && !integer) {
        pair(codes, &out[0], &out[2]);
        pair(_mm512_srli_epi16(codes, 8), &out[1], &out[3]);
        return;
      }
      LOWBIT_UNROLL
      for (int c = 0; c < 4; ++c) {
        const __m512i code = _mm512_srli_epi32(codes, static_cast<unsigned>(8 * c));
        const __m512 v = kBits <= 4   ? _mm512_permutexvar_ps(code, low)
                         : kBits == 5 ? _mm512_permutex2var_ps(low, code, high)
                                      : converted(code);
        out[c] = _mm512_castps_si512(v);
      }
    }
    LOWBIT_INLINE void operator()(__m512i codes, const float* zero, __m512i (&out)[4]) const {
      (*this)(codes, out);
      const __m512 z = _mm512_loadu_ps(zero);
      LOWBIT_UNROLL
      for (int c = 0; c < 4; ++c) out[c] = _mm512_castps_si512(_mm512_sub_ps(_mm512_castsi512_ps(out[c]), z));
    }
  };

  static LOWBIT_INLINE Sum dot(Sum sum, __m512i w, __m512i x) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(w), _mm512_castsi512_ps(x), sum);
  }
};

}  // namespace

const cpu::Engine kF32Engine = engine<F32Math>(64);

}  // namespace lowbit::avx512
