// The bf16 engine: weights decoded to bf16 pairs, vdpbf16ps into fp32, for activations and weights that are exact in
// bf16. vdpbf16ps reads denormals as zeros and flushes denormal results; it rounds each of the two products of a pair
// into the sum. A tile's operands are the pairs of columns (0, 2) and of columns (1, 3).
//
// Floors: the weight's packed bytes over the memory bandwidth (M small); M N K / 32 vdpbf16ps over 2 a cycle (Zen 5; 1
// on Zen 4). Sapphire Rapids issues one in two cycles, half the products of its FMA: kBF16FmaEngine serves there.
#include "cpu/avx512/bf16_gemm.h"

#include "cpu/simd/gemm_tiles.h"

namespace lowbit::avx512 {
namespace {

// Both values of a pair minus the zero point. Integers of at most 256: exact.
LOWBIT_INLINE __m512i minus(__m512i pair, __m512 zero) {
  const __m512i high = _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u));
  const __m512 a = _mm512_sub_ps(_mm512_castsi512_ps(_mm512_slli_epi32(pair, 16)), zero);
  const __m512 b = _mm512_sub_ps(_mm512_castsi512_ps(_mm512_and_si512(pair, high)), zero);
  return _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(a), 16), _mm512_castps_si512(b));
}

struct BF16Math : FloatSums {
  static constexpr int kOperands = 2;
  static constexpr bool kValueZeros = true;
  static constexpr int word(int operand) { return operand; }

  // By table; integers of 7 and 8 bits, whose tables take many permutes, by conversion.
  template <int kBits>
  struct Numbers {
    WordTable<kBits> table;
    IntegerColumns columns;
    bool convert;

    Numbers(const ElementFormat& f, const cpu::CodeTables& t)
        : table(t.bf16),
          columns(kBits, f.rule == kSigned),
          convert(kBits > 6 && f.is_int() && (f.rule == kSigned || f.rule == kUnsigned)) {}
    LOWBIT_INLINE void operator()(__m512i codes, __m512i (&out)[2]) const {
      if (kBits > 6 && convert) {
        __m512 v[4];
        columns(codes, v);
        for (int c = 0; c < 2; ++c) {  // exact in bf16: the low halves are zero
          out[c] = _mm512_or_si512(_mm512_castps_si512(v[c + 2]), _mm512_srli_epi32(_mm512_castps_si512(v[c]), 16));
        }
        return;
      }
      out[0] = table(codes);
      out[1] = table(_mm512_srli_epi16(codes, 8));
    }
    LOWBIT_INLINE void operator()(__m512i codes, const float* zero, __m512i (&out)[2]) const {
      (*this)(codes, out);
      const __m512 z = _mm512_loadu_ps(zero);
      out[0] = minus(out[0], z);
      out[1] = minus(out[1], z);
    }
  };

  static LOWBIT_INLINE Sum dot(Sum sum, __m512i w, __m512i x) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(w), reinterpret_cast<__m512bh>(x));
  }
};

}  // namespace

const cpu::Engine kBF16Engine = engine<BF16Math>(128);

}  // namespace lowbit::avx512
