// Products in fp32, by FMA with broadcast activations. Operand c of a tile is its column c.
#pragma once

#include <utility>

#include "cpu/simd/gemm_tiles.h"

namespace lowbit::avx512 {
namespace {

struct F32Math : FloatSums {
  static constexpr int kOperands = 4;
  static constexpr bool kValueZeros = true;
  static constexpr int word(int operand) { return operand; }

  // Up to 5 bits: a table of fp32 in registers. Above: integers are converted, others (bipolar among them) come as two
  // halves from tables of words.
  template <int kBits>
  struct Numbers {
    static constexpr int kWide = kBits > 5 ? kBits : 6;
    __m512 low, high;  // entries 0..15 and 16..31
    IntegerColumns columns;
    WordTable<kWide> top, bottom;
    bool convert, has_bottom;

    Numbers(const ElementFormat& f, const cpu::CodeTables& t)
        : low(_mm512_loadu_ps(t.f32)),
          high(_mm512_loadu_ps(t.f32 + 16)),
          columns(kBits, f.rule == kSigned),
          top(t.f32_high),
          bottom(t.f32_low),
          convert(f.is_int() && (f.rule == kSigned || f.rule == kUnsigned)),
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
    LOWBIT_INLINE void operator()(__m512i codes, __m512i (&out)[4]) const {
      if (kBits > 5 && !convert) {
        pair(codes, &out[0], &out[2]);
        pair(_mm512_srli_epi16(codes, 8), &out[1], &out[3]);
        return;
      }
      __m512 v[4];
      if (kBits > 5) columns(codes, v);
      LOWBIT_UNROLL
      for (int c = 0; c < 4; ++c) {
        const __m512i code = _mm512_srli_epi32(codes, static_cast<unsigned>(8 * c));
        if (kBits <= 4) v[c] = _mm512_permutexvar_ps(code, low);
        if (kBits == 5) v[c] = _mm512_permutex2var_ps(low, code, high);
        out[c] = _mm512_castps_si512(v[c]);
      }
    }
    LOWBIT_INLINE void operator()(__m512i codes, const float* zero, __m512i (&out)[4]) const {
      (*this)(codes, out);
      const __m512 z = _mm512_loadu_ps(zero);
      LOWBIT_UNROLL
      for (int c = 0; c < 4; ++c) out[c] = _mm512_castps_si512(_mm512_sub_ps(_mm512_castsi512_ps(out[c]), z));
    }
  };

  // In place: compilers choose forms of the instruction that take a product's register, and then copy sums around, one
  // in seven of the vector units' slots.
  static LOWBIT_INLINE Sum dot(Sum sum, __m512i w, __m512i x) {
    asm("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
    return sum;
  }
};

}  // namespace
}  // namespace lowbit::avx512
