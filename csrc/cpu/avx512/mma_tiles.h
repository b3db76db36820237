// Four columns of a row of mma64 codes (formats/layout.h) as four bytes: the CPU's way to read what was made for tensor
// cores. In an anonymous namespace, as code_rows.h.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "common/qmatrix.h"

namespace lowbit::avx512 {
namespace {

// Where the words of rows and quads of one matrix lie. A field of `f` bits holds word i of a lane, i = 2 (quad / 4) +
// (row / 8), at bit f (i % (8 / f)) of its word i / (8 / f); the lane is 4 (row % 8) + quad % 4.
struct MmaQuads {
  const uint8_t* data;
  int64_t tiles;  // in a row of tiles
  int bits;

  explicit MmaQuads(const Codes& codes)
      : data(static_cast<const uint8_t*>(codes.data)), tiles((codes.cols + 63) / 64), bits(codes.format->bits) {}

  const uint8_t* tile(int64_t row, int64_t quad) const { return data + (row / 16 * tiles + quad / 16) * 128 * bits; }

  uint32_t get(int64_t r, int64_t quad) const {
    const uint8_t* p = tile(r, quad);
    const int row = static_cast<int>(r % 16), q = static_cast<int>(quad % 16);
    const int i = q / 4 * 2 + row / 8, lane = row % 8 * 4 + q % 4;
    uint32_t codes = 0;
    if (bits == 8) {
      std::memcpy(&codes, p + 512 * (i / 4) + 4 * (4 * lane + i % 4), 4);
      return codes;
    }
    for (int low = 0, f; low < bits; low += f) {
      f = field(low);
      uint32_t word = 0;
      std::memcpy(&word, p + 128 * low + 4 * (lane * f + i * f / 8), 4);
      codes |= (word >> (f * i % 8) & mask(f)) << low;
    }
    return codes;
  }

  // Lane i: quad `quad` of row i of the 16 rows from `row`, a multiple of 16.
  __m512i column(int64_t row, int64_t quad) const {
    const uint8_t* p = tile(row, quad);
    const int q = static_cast<int>(quad % 16);
    const __m512i rows = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i lane =
        _mm512_add_epi32(_mm512_slli_epi32(_mm512_and_si512(rows, _mm512_set1_epi32(7)), 2), _mm512_set1_epi32(q % 4));
    const __m512i i = _mm512_add_epi32(_mm512_srli_epi32(rows, 3), _mm512_set1_epi32(q / 4 * 2));
    if (bits == 8) {
      const __m512i at = _mm512_add_epi32(_mm512_slli_epi32(lane, 2), _mm512_and_si512(i, _mm512_set1_epi32(3)));
      return _mm512_i32gather_epi32(at, p + 512 * (q / 8), 4);
    }
    __m512i codes = _mm512_setzero_si512();
    for (int low = 0, f; low < bits; low += f) {
      f = field(low);
      const __m512i bit = _mm512_mullo_epi32(i, _mm512_set1_epi32(f));
      const __m512i at = _mm512_add_epi32(_mm512_mullo_epi32(lane, _mm512_set1_epi32(f)), _mm512_srli_epi32(bit, 3));
      const __m512i word = _mm512_i32gather_epi32(at, p + 128 * low, 4);
      const __m512i part = _mm512_and_si512(_mm512_srlv_epi32(word, _mm512_and_si512(bit, _mm512_set1_epi32(7))),
                                            _mm512_set1_epi32(static_cast<int>(mask(f))));
      codes = _mm512_or_si512(codes, _mm512_sll_epi32(part, _mm_cvtsi32_si128(low)));
    }
    return codes;
  }

 private:
  int field(int low) const { return bits - low >= 4 ? 4 : bits - low >= 2 ? 2 : 1; }
  static uint32_t mask(int f) { return ((1u << f) - 1u) * 0x01010101u; }
};

}  // namespace
}  // namespace lowbit::avx512
