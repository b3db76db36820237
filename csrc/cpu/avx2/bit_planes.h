// Bit planes in registers: 32 columns of 16 rows of w in an operand of two vectors, a lane for each row, bit c column
// c. Static, as all of this folder's headers.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "cpu/simd/vector.h"
#include "formats/layout.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

constexpr int kUnitQuads = 8;

// The columns are in the order of a lane as they are.
LOWBIT_INLINE uint32_t in_order(uint32_t columns) { return columns; }
LOWBIT_INLINE Ints in_order(Ints columns) { return columns; }

// Bit i of 64 bytes.
LOWBIT_INLINE uint64_t bits_of(const uint8_t* codes, int i) {
  const auto half = [&](const uint8_t* p) {
    return static_cast<uint32_t>(_mm256_movemask_epi8(shift_words_left(load_ints(p), 7 - i)));
  };
  return half(codes) | static_cast<uint64_t>(half(codes + 32)) << 32;
}

// Eight quads of a tile as operands. A plane's nibbles of rows 2 k and 2 k + 1 share a byte of a quad: two rounds of
// interleaving give the bytes of the even quads, and of the odd ones, for each pair of rows.
template <int kBits>
struct UnitDecoder {
  static constexpr int kQuadBytes = 8 * kBits;

  LOWBIT_INLINE void operator()(const uint8_t* p, int64_t left, Ints (&planes)[kBits][2]) const {
    alignas(32) uint8_t copy[kUnitQuads * kQuadBytes];
    if (left < kUnitQuads) {
      std::memset(copy, 0, sizeof(copy));
      std::memcpy(copy, p, static_cast<size_t>(left * kQuadBytes));
      p = copy;
    }
    __m128i quad[kUnitQuads];  // 2 bits: the bytes of plane 0, then those of plane 1
    LOWBIT_UNROLL
    for (int q = 0; q < kUnitQuads; ++q) {
      const auto* from = reinterpret_cast<const __m128i*>(p + q * kQuadBytes);
      if constexpr (kBits == 1) {
        quad[q] = _mm_loadl_epi64(from);
      } else {
        quad[q] = _mm_shuffle_epi8(_mm_loadu_si128(from), _mm_set_epi64x(0x0f0d0b0907050301, 0x0e0c0a0806040200));
      }
    }
    LOWBIT_UNROLL
    for (int i = 0; i < kBits; ++i) {
      const auto pairs = [&](int a, int b) __attribute__((always_inline)) {
        return i == 0 ? _mm_unpacklo_epi8(quad[a], quad[b]) : _mm_unpackhi_epi8(quad[a], quad[b]);
      };
      const auto quads = [&](int first) __attribute__((always_inline)) {
        const __m128i a = pairs(first, first + 2), b = pairs(first + 4, first + 6);
        return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_unpacklo_epi16(a, b)), _mm_unpackhi_epi16(a, b), 1);
      };
      const Ints low = quads(0), high = quads(1), mask = bytes(0x0f);
      const Ints even = bit_or(bit_and(low, mask), bit_andnot(mask, _mm256_slli_epi16(high, 4)));
      const Ints odd = bit_or(bit_and(_mm256_srli_epi16(low, 4), mask), bit_andnot(mask, high));
      const Ints first = _mm256_unpacklo_epi32(even, odd), second = _mm256_unpackhi_epi32(even, odd);
      planes[i][0] = _mm256_permute2x128_si256(first, second, 0x20);
      planes[i][1] = _mm256_permute2x128_si256(first, second, 0x31);
    }
  }
};

// The columns that count: those set in both planes, or that differ, within `inside`.
template <bool kExclusive>
LOWBIT_INLINE Ints meeting(Ints w, Ints x, Ints inside) {
  return kExclusive ? bit_and(bit_xor(w, x), inside) : bit_and(w, x);
}

// Adds what is set in each lane times the signed byte that stands four times in `weight`.
LOWBIT_INLINE Ints add_count(Ints sum, Ints columns, Ints weight) {
  const Ints table = _mm256_broadcastsi128_si256(_mm_set_epi64x(0x0403030203020201, 0x0302020102010100));
  const Ints nibble = bytes(0x0f);
  const Ints count = _mm256_add_epi8(_mm256_shuffle_epi8(table, bit_and(columns, nibble)),
                                     _mm256_shuffle_epi8(table, bit_and(_mm256_srli_epi16(columns, 4), nibble)));
#ifdef __AVXVNNI__
  return _mm256_dpbusd_avx_epi32(sum, count, weight);
#else
  return add(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(count, weight), _mm256_set1_epi16(1)));
#endif
}

}  // namespace
}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
