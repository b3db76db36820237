// Panels of values as exact sums of three bf16 numbers, for tiles: the operands of a quad are its pairs of columns
// (0, 2) and then (1, 3), each term by term.
#include "cpu/avx512/bf16_gemm.h"
#include "cpu/simd/gemm_tiles.h"

namespace lowbit::avx512 {
namespace {

struct BF16TermsMath : FloatSums {
  static constexpr int kTerms = 3, kOperands = 2 * kTerms;

  template <int kBits>
  struct Numbers {
    WordTable<kBits> terms[kTerms];

    Numbers(const ElementFormat&, const cpu::CodeTables& t)
        : terms{WordTable<kBits>(t.bf16_terms[0]), WordTable<kBits>(t.bf16_terms[1]),
                WordTable<kBits>(t.bf16_terms[2])} {}
    LOWBIT_INLINE void operator()(__m512i codes, __m512i (&out)[kOperands]) const {
      const __m512i odd = _mm512_srli_epi16(codes, 8);
      LOWBIT_UNROLL
      for (int t = 0; t < kTerms; ++t) {
        out[t] = terms[t](codes);
        out[kTerms + t] = terms[t](odd);
      }
    }
    // Values minus zero points have no tables.
    LOWBIT_INLINE void operator()(__m512i codes, const float*, __m512i (&out)[kOperands]) const { (*this)(codes, out); }
  };
};

}  // namespace

void fill_bf16_terms(const cpu::FillArgs& a) { fill<BF16TermsMath>(a); }

}  // namespace lowbit::avx512
