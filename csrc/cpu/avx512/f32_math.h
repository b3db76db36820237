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

  // Up to 5 bits: a table of fp32 in registers. Above: integers are converted, and floats of 8 bits; others (bipolar
  // among them) come as two halves from tables of words.
  template <int kBits>
  struct Numbers {
    static constexpr int kWide = kBits > 5 ? kBits : 6;
    __m512 low, high;  // entries 0..15 and 16..31
    IntegerColumns columns;
    WordTable<kWide> top, bottom;
    FloatWords floats;
    __m512i high_half;
    bool convert, is_float, has_bottom;

    Numbers(const ElementFormat& f, const cpu::CodeTables& t)
        : low(_mm512_loadu_ps(t.f32)),
          high(_mm512_loadu_ps(t.f32 + 16)),
          columns(kBits, f.rule == kSigned),
          top(t.f32_high),
          bottom(t.f32_low),
          floats(f.mantissa, f.bias, t.borders),
          high_half(kept(_mm512_set1_epi32(static_cast<int32_t>(0xffff0000u)))),
          convert(f.is_int() && (f.rule == kSigned || f.rule == kUnsigned)),
          is_float(t.has_borders),
          has_bottom(t.has_low) {}

    // Columns c and c + 2 from the high halves of their values.
    LOWBIT_INLINE void widen(__m512i words, __m512i* even, __m512i* odd) const {
      *even = _mm512_slli_epi32(words, 16);
      *odd = _mm512_and_si512(words, high_half);
    }
    // The same from their codes in the low bytes of words.
    LOWBIT_INLINE void pair(__m512i codes, __m512i* even, __m512i* odd) const {
      widen(top(codes), even, odd);
      if (has_bottom) {
        const __m512i b = bottom(codes);
        *even = _mm512_or_si512(*even, _mm512_andnot_si512(high_half, b));
        *odd = _mm512_or_si512(*odd, _mm512_srli_epi32(b, 16));
      }
    }
    LOWBIT_INLINE void operator()(__m512i codes, __m512i (&out)[4]) const {
      if (kBits == 8 && is_float) {
        widen(floats(_mm512_slli_epi16(codes, 8), codes), &out[0], &out[2]);
        widen(floats(codes, _mm512_srli_epi16(codes, 8)), &out[1], &out[3]);
        return;
      }
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

  // 4 bits of a byte hold the codes of several quads, whose values are tables of all 4: so a shift serves them all.
  template <int kBits>
  static constexpr int kQuadsOfByte = kBits <= 2 ? 4 / kBits : 1;
  template <int kBits>
  struct Quads {
    static constexpr int kQuads = kQuadsOfByte<kBits>;
    TileDecoder<kBits, 0, kQuads> decode;
    __m512 values[kQuads];

    explicit Quads(const cpu::CodeTables& t) {
      for (int j = 0; j < kQuads; ++j) {
        alignas(64) float of_all[16];
        for (int i = 0; i < 16; ++i) of_all[i] = t.f32[i >> (j * kBits) & ((1 << kBits) - 1)];
        values[j] = _mm512_load_ps(of_all);
      }
    }
    // Column `column` of quad j.
    LOWBIT_INLINE __m512i operator()(__m512i codes, int j, int column) const {
      const __m512i index = _mm512_srli_epi32(codes, static_cast<unsigned>(8 * column));
      return _mm512_castps_si512(_mm512_permutexvar_ps(index, values[j]));
    }
  };

  static LOWBIT_INLINE Sum dot(Sum sum, __m512i w, __m512i x) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(w), _mm512_castsi512_ps(x), sum);
  }
};

}  // namespace
}  // namespace lowbit::avx512
