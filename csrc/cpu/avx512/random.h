// Philox4x32-10 (common/philox.h) of sixteen counters at once.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "common/philox.h"

namespace lowbit::avx512 {
namespace {

// Both halves of the 64-bit products a[i] * m.
inline void multiply(__m512i a, __m512i m, __m512i* high, __m512i* low) {
  const __m512i even = _mm512_mul_epu32(a, m);
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), m);
  *low = _mm512_mask_shuffle_epi32(even, 0xaaaa, odd, _MM_PERM_CCAA);
  *high = _mm512_mask_mov_epi32(_mm512_srli_epi64(even, 32), 0xaaaa, odd);
}

// The 128 half words of blocks `block` .. `block` + 15, in order.
inline void philox16(const Philox& random, uint64_t block, uint16_t* out) {
  const __m512i counter = _mm512_set1_epi64(static_cast<int64_t>(random.offset + block));
  const __m512i a = _mm512_add_epi64(counter, _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
  const __m512i b = _mm512_add_epi64(counter, _mm512_setr_epi64(8, 9, 10, 11, 12, 13, 14, 15));
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  __m512i c0 = _mm512_permutex2var_epi32(a, even, b);
  __m512i c1 = _mm512_permutex2var_epi32(a, _mm512_add_epi32(even, _mm512_set1_epi32(1)), b);
  __m512i c2 = _mm512_setzero_si512(), c3 = c2;
  auto k0 = static_cast<uint32_t>(random.seed), k1 = static_cast<uint32_t>(random.seed >> 32);
  const __m512i m0 = _mm512_set1_epi64(0xD2511F53), m1 = _mm512_set1_epi64(0xCD9E8D57);
  for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
    __m512i h0, l0, h1, l1;
    multiply(c0, m0, &h0, &l0);
    multiply(c2, m1, &h1, &l1);
    c0 = _mm512_ternarylogic_epi32(h1, c1, _mm512_set1_epi32(static_cast<int>(k0)), 0x96);  // three-way xor
    c2 = _mm512_ternarylogic_epi32(h0, c3, _mm512_set1_epi32(static_cast<int>(k1)), 0x96);
    c1 = l1;
    c3 = l0;
  }
  // four words of sixteen blocks -> the four words of each block together
  const __m512i x0 = _mm512_unpacklo_epi32(c0, c1), x1 = _mm512_unpackhi_epi32(c0, c1);
  const __m512i y0 = _mm512_unpacklo_epi32(c2, c3), y1 = _mm512_unpackhi_epi32(c2, c3);
  const __m512i q[4] = {_mm512_unpacklo_epi64(x0, y0), _mm512_unpackhi_epi64(x0, y0), _mm512_unpacklo_epi64(x1, y1),
                        _mm512_unpackhi_epi64(x1, y1)};  // q[j] lane l is block 4 l + j
  for (int j = 0; j < 4; ++j) {
    auto* p = reinterpret_cast<__m128i*>(out) + j;
    _mm_storeu_si128(p, _mm512_extracti32x4_epi32(q[j], 0));
    _mm_storeu_si128(p + 4, _mm512_extracti32x4_epi32(q[j], 1));
    _mm_storeu_si128(p + 8, _mm512_extracti32x4_epi32(q[j], 2));
    _mm_storeu_si128(p + 12, _mm512_extracti32x4_epi32(q[j], 3));
  }
}

// Random bits of elements, in runs of up to 512.
struct RandomRun {
  alignas(64) uint16_t halves[5 * 128];

  // Those of elements index .. index + n - 1; the vector of the last may be read whole.
  const uint16_t* fill(const Philox& random, uint64_t index, int64_t n) {
    const int64_t head = static_cast<int64_t>(index & 7);
    for (int64_t i = 0; i < head + n; i += 128)
      philox16(random, (index >> 3) + static_cast<uint64_t>(i) / 8, halves + i);
    return halves + head;
  }
};

}  // namespace
}  // namespace lowbit::avx512
