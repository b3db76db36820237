// Bit planes in registers: 32 columns of 16 rows of w in an operand, lane r those of row r. Static, as all of this
// folder's headers. Column c = 16 h + 4 b + t of the 32 is bit 8 b + 4 h + t, the order in which the nibbles of eight
// tile16 quads come together.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "cpu/simd/vector.h"
#include "formats/layout.h"

namespace lowbit::avx512 {
namespace {

constexpr int kUnitQuads = 8;

// 32 columns, bit c column c, in the order of a lane.
LOWBIT_INLINE uint32_t in_order(uint32_t columns) {
  return _pdep_u32(columns & 0xffff, 0x0f0f0f0f) | _pdep_u32(columns >> 16, 0xf0f0f0f0);
}
LOWBIT_INLINE Ints in_order(Ints columns) {
  alignas(64) uint8_t low_bits[64], high_bits[64];
  for (int j = 0; j < 64; ++j) {
    low_bits[j] = static_cast<uint8_t>(32 * (j / 4 % 2) + 4 * (j % 4));
    high_bits[j] = static_cast<uint8_t>((32 * (j / 4 % 2) + 12 + 4 * (j % 4)) % 64);
  }
  constexpr int kSelect = 0xca;
  return _mm512_ternarylogic_epi32(bytes(0x0f), _mm512_multishift_epi64_epi8(load_ints(low_bits), columns),
                                   _mm512_multishift_epi64_epi8(load_ints(high_bits), columns), kSelect);
}

// Bit i of 64 bytes.
LOWBIT_INLINE uint64_t bits_of(const uint8_t* codes, int i) {
  return _mm512_movepi8_mask(_mm512_sll_epi16(load_ints(codes), _mm_cvtsi32_si128(7 - i)));
}

// Eight quads of a tile as operands. A plane's nibbles of rows 2 k and 2 k + 1 share a byte of a quad: two permutes
// bring the bytes of 4 quads each to both rows, shifts within them the nibble of the row to its half.
template <int kBits>
struct UnitDecoder {
  static constexpr int kQuadBytes = 8 * kBits;
  Ints near[kBits], far[kBits];  // of plane i: bytes of quads 0..3 and of 4..7
  Ints low, high;                // shifts

  UnitDecoder() {
    alignas(64) uint8_t index[64], low_bits[64], high_bits[64];
    for (int i = 0; i < kBits; ++i) {
      for (int half = 0; half < 2; ++half) {
        for (int r = 0; r < 16; ++r) {
          for (int b = 0; b < 4; ++b) {
            const int quad = kBits == 1 ? b + 4 * half : b;  // two bits: a load of its own for each half
            index[4 * r + b] = static_cast<uint8_t>(quad * kQuadBytes + r / 2 * kBits + i);
          }
        }
        (half == 0 ? near : far)[i] = load_ints(index);
      }
    }
    for (int j = 0; j < 64; ++j) {
      const int odd = j / 4 % 2;
      low_bits[j] = static_cast<uint8_t>(8 * (j % 8) + 4 * odd);
      high_bits[j] = static_cast<uint8_t>((8 * (j % 8) + 60 + 4 * odd) % 64);
    }
    low = load_ints(low_bits);
    high = load_ints(high_bits);
  }

  // `left` quads follow at p.
  LOWBIT_INLINE void operator()(const uint8_t* p, int64_t left, Ints (&planes)[kBits][1]) const {
    Ints first, second;
    if (left >= kUnitQuads) {
      first = load_ints(p);
      second = kBits == 1 ? first : load_ints(p + 64);
    } else {
      first = load_bytes(p, left * kQuadBytes);
      second = kBits == 1 ? first : load_bytes(p + 64, left * kQuadBytes - 64);
    }
    LOWBIT_UNROLL
    for (int i = 0; i < kBits; ++i) {
      constexpr int kSelect = 0xca;
      const Ints of_near = _mm512_permutexvar_epi8(near[i], first), of_far = _mm512_permutexvar_epi8(far[i], second);
      planes[i][0] = _mm512_ternarylogic_epi32(bytes(0x0f), _mm512_multishift_epi64_epi8(low, of_near),
                                               _mm512_multishift_epi64_epi8(high, of_far), kSelect);
    }
  }
};

// The columns that count: those set in both planes, or that differ, within `inside`.
template <bool kExclusive>
LOWBIT_INLINE Ints meeting(Ints w, Ints x, Ints inside) {
  constexpr int kDiffer = 0x28;  // (a ^ b) & c
  return kExclusive ? _mm512_ternarylogic_epi32(w, x, inside, kDiffer) : bit_and(w, x);
}

// Adds what is set in each lane times the signed byte that stands four times in `weight`.
LOWBIT_INLINE Ints add_count(Ints sum, Ints columns, Ints weight) {
  return _mm512_dpbusd_epi32(sum, _mm512_popcnt_epi8(columns), weight);
}

}  // namespace
}  // namespace lowbit::avx512
