// cpu/simd/join_codes.h on AVX-512. Static, as all of this folder's headers.
#pragma once

#include "cpu/simd/vector.h"

namespace lowbit::avx512 {
namespace {

template <int kBits>
LOWBIT_INLINE Ints join_codes(const Ints (&v)[8 / kBits]) {
  if constexpr (kBits == 8) return v[0];
  if constexpr (kBits == 4) {
    const auto join = [](Ints codes) {  // a + 16 b
      return _mm512_cvtepi16_epi8(_mm512_maddubs_epi16(codes, _mm512_set1_epi16(0x1001)));
    };
    return _mm512_inserti64x4(_mm512_castsi256_si512(join(v[0])), join(v[1]), 1);
  }
  if constexpr (kBits == 2) {
    const auto join = [](Ints codes) {
      const Ints pairs = _mm512_maddubs_epi16(codes, _mm512_set1_epi16(0x0401));             // a + 4 b
      return _mm512_cvtepi32_epi8(_mm512_madd_epi16(pairs, _mm512_set1_epi32(0x00100001)));  // + 16 (c + 4 d)
    };
    Ints out = _mm512_castsi128_si512(join(v[0]));
    out = _mm512_inserti32x4(out, join(v[1]), 1);
    out = _mm512_inserti32x4(out, join(v[2]), 2);
    return _mm512_inserti32x4(out, join(v[3]), 3);
  }
}

template <int kBits>
LOWBIT_INLINE void split_codes(Ints v, Ints (&to)[8 / kBits]) {
  if constexpr (kBits == 8) to[0] = v;
  if constexpr (kBits == 4) {
    const auto split = [](__m256i raw) {
      const Ints pairs = _mm512_cvtepu8_epi16(raw);
      return bit_and(bit_or(pairs, _mm512_slli_epi16(pairs, 4)), bytes(15));
    };
    to[0] = split(_mm512_castsi512_si256(v));
    to[1] = split(_mm512_extracti64x4_epi64(v, 1));
  }
  if constexpr (kBits == 2) {
    const auto split = [](__m128i raw) {
      const Ints shifts = _mm512_set1_epi64(0x2624222006040200);  // 0, 2, 4, 6 of either 32-bit half
      return bit_and(_mm512_multishift_epi64_epi8(shifts, _mm512_cvtepu8_epi32(raw)), bytes(3));
    };
    to[0] = split(_mm512_castsi512_si128(v));
    to[1] = split(_mm512_extracti32x4_epi32(v, 1));
    to[2] = split(_mm512_extracti32x4_epi32(v, 2));
    to[3] = split(_mm512_extracti32x4_epi32(v, 3));
  }
}

LOWBIT_INLINE void interleave_bytes(const Ints (&y)[4], Ints (&words)[4]) {
  const Ints low01 = _mm512_unpacklo_epi8(y[0], y[1]), high01 = _mm512_unpackhi_epi8(y[0], y[1]);
  const Ints low23 = _mm512_unpacklo_epi8(y[2], y[3]), high23 = _mm512_unpackhi_epi8(y[2], y[3]);
  words[0] = _mm512_unpacklo_epi16(low01, low23);
  words[1] = _mm512_unpackhi_epi16(low01, low23);
  words[2] = _mm512_unpacklo_epi16(high01, high23);
  words[3] = _mm512_unpackhi_epi16(high01, high23);
}
LOWBIT_INLINE void separate_bytes(const Ints (&words)[4], Ints (&y)[4]) {
  const Ints by_byte = _mm512_broadcast_i32x4(_mm_set_epi8(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0));
  Ints v[4];
  for (int m = 0; m < 4; ++m) v[m] = _mm512_shuffle_epi8(words[m], by_byte);
  const Ints low01 = interleave_low32(v[0], v[1]), high01 = interleave_high32(v[0], v[1]);
  const Ints low23 = interleave_low32(v[2], v[3]), high23 = interleave_high32(v[2], v[3]);
  y[0] = interleave_low64(low01, low23);
  y[1] = interleave_high64(low01, low23);
  y[2] = interleave_low64(high01, high23);
  y[3] = interleave_high64(high01, high23);
}

}  // namespace
}  // namespace lowbit::avx512
