// cpu/simd/join_codes.h on AVX2. Static, as all of this folder's headers.
#pragma once

#include "cpu/simd/vector.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

template <int kBits>
LOWBIT_INLINE Ints join_codes(const Ints (&v)[8 / kBits]) {
  if constexpr (kBits == 8) return v[0];
  if constexpr (kBits == 4) {
    const auto join = [](Ints codes) { return _mm256_maddubs_epi16(codes, _mm256_set1_epi16(0x1001)); };  // a + 16 b
    return _mm256_permute4x64_epi64(_mm256_packus_epi16(join(v[0]), join(v[1])), 0xd8);
  }
  if constexpr (kBits == 2) {
    const auto join = [](Ints codes) {
      const Ints pairs = _mm256_maddubs_epi16(codes, _mm256_set1_epi16(0x0401));  // a + 4 b
      return _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x00100001));             // + 16 (c + 4 d)
    };
    const Ints packed =
        _mm256_packus_epi16(_mm256_packus_epi32(join(v[0]), join(v[1])), _mm256_packus_epi32(join(v[2]), join(v[3])));
    return _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  }
}

template <int kBits>
LOWBIT_INLINE void split_codes(Ints v, Ints (&to)[8 / kBits]) {
  if constexpr (kBits == 8) to[0] = v;
  if constexpr (kBits == 4) {
    const auto split = [](__m128i raw) {
      const Ints pairs = _mm256_cvtepu8_epi16(raw);
      return bit_and(bit_or(pairs, _mm256_slli_epi16(pairs, 4)), bytes(15));
    };
    to[0] = split(_mm256_castsi256_si128(v));
    to[1] = split(_mm256_extracti128_si256(v, 1));
  }
  if constexpr (kBits == 2) {
    const auto split = [](Ints fours) {  // codes of a byte to the bytes of their lane
      const Ints pairs = bit_and(bit_or(fours, _mm256_slli_epi32(fours, 12)), ints(0x000f000f));
      return bit_and(bit_or(pairs, _mm256_slli_epi16(pairs, 6)), bytes(3));
    };
    to[0] = split(widen_quarter<0>(v));
    to[1] = split(widen_quarter<1>(v));
    to[2] = split(widen_quarter<2>(v));
    to[3] = split(widen_quarter<3>(v));
  }
}

LOWBIT_INLINE void interleave_bytes(const Ints (&y)[4], Ints (&words)[4]) {
  const Ints low01 = _mm256_unpacklo_epi8(y[0], y[1]), high01 = _mm256_unpackhi_epi8(y[0], y[1]);
  const Ints low23 = _mm256_unpacklo_epi8(y[2], y[3]), high23 = _mm256_unpackhi_epi8(y[2], y[3]);
  words[0] = _mm256_unpacklo_epi16(low01, low23);
  words[1] = _mm256_unpackhi_epi16(low01, low23);
  words[2] = _mm256_unpacklo_epi16(high01, high23);
  words[3] = _mm256_unpackhi_epi16(high01, high23);
}
LOWBIT_INLINE void separate_bytes(const Ints (&words)[4], Ints (&y)[4]) {
  const Ints by_byte = _mm256_broadcastsi128_si256(_mm_set_epi8(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0));
  Ints v[4];
  for (int m = 0; m < 4; ++m) v[m] = _mm256_shuffle_epi8(words[m], by_byte);
  const Ints low01 = interleave_low32(v[0], v[1]), high01 = interleave_high32(v[0], v[1]);
  const Ints low23 = interleave_low32(v[2], v[3]), high23 = interleave_high32(v[2], v[3]);
  y[0] = interleave_low64(low01, low23);
  y[1] = interleave_high64(low01, low23);
  y[2] = interleave_low64(high01, high23);
  y[3] = interleave_high64(high01, high23);
}

}  // namespace
}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
