// The values of 64 codes, looked up in registers: as float32 for formats of up to 4 bits, else byte by byte of it, of
// which formats that are exact in bfloat16 need two.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace lowbit::avx512 {
namespace {

// Up to 16 values.
struct FewValues {
  __m512 values;

  explicit FewValues(const float* table) : values(_mm512_loadu_ps(table)) {}
  void operator()(__m512i codes, __m512 (&v)[4]) const {
    v[0] = of(_mm512_extracti32x4_epi32(codes, 0));
    v[1] = of(_mm512_extracti32x4_epi32(codes, 1));
    v[2] = of(_mm512_extracti32x4_epi32(codes, 2));
    v[3] = of(_mm512_extracti32x4_epi32(codes, 3));
  }
  __m512 of(__m128i codes) const { return _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(codes), values); }
};

// Up to 256 values, whose bytes stand in tables of their own: kBytes of them from the top, the others zero.
template <int kBytes>
struct ManyValues {
  __m512i bytes[kBytes][4];

  explicit ManyValues(const float* table) {
    alignas(64) uint8_t split[256];
    for (int b = 0; b < kBytes; ++b) {
      for (int c = 0; c < 256; ++c) split[c] = reinterpret_cast<const uint8_t*>(table + c)[3 - b];
      for (int q = 0; q < 4; ++q) bytes[b][q] = _mm512_load_si512(split + 64 * q);
    }
  }
  void operator()(__m512i codes, __m512 (&v)[4]) const {
    __m512i all[4] = {};
    for (int b = 0; b < kBytes; ++b) {
      const __m512i low = _mm512_permutex2var_epi8(bytes[b][0], codes, bytes[b][1]);
      const __m512i high = _mm512_permutex2var_epi8(bytes[b][2], codes, bytes[b][3]);
      const __m512i byte = _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(codes), high);
      const unsigned shift = static_cast<unsigned>(24 - 8 * b);
      all[0] = add(all[0], _mm512_extracti32x4_epi32(byte, 0), shift);
      all[1] = add(all[1], _mm512_extracti32x4_epi32(byte, 1), shift);
      all[2] = add(all[2], _mm512_extracti32x4_epi32(byte, 2), shift);
      all[3] = add(all[3], _mm512_extracti32x4_epi32(byte, 3), shift);
    }
    for (int q = 0; q < 4; ++q) v[q] = _mm512_castsi512_ps(all[q]);
  }
  static __m512i add(__m512i all, __m128i byte, unsigned shift) {
    return _mm512_or_si512(all, _mm512_slli_epi32(_mm512_cvtepu8_epi32(byte), shift));
  }
};

// Calls f(lookup) for the values of all codes of a format.
template <class F>
void with_lookup(const float (&values)[256], int bits, F f) {
  if (bits <= 4) return f(FewValues(values));
  bool two = true;  // bytes are enough
  for (float v : values) {
    uint32_t b;
    std::memcpy(&b, &v, 4);
    two = two && (b & 0xffff) == 0;
  }
  two ? f(ManyValues<2>(values)) : f(ManyValues<4>(values));
}

// (x - low[code]) * per_step[code] to nearest even, in float64; *tie: some lane lies so close to a tie that only the
// quotient itself tells.
inline __m512i steps_above(__m512 x, __m512i code, const float* low, const double* per_step, bool* tie) {
  const __m512 from = _mm512_i32gather_ps(code, low, 4);
  const auto half = [&](__m256 xs, __m256 lows, __m256i codes, __m256i* steps) {
    const __m512d distance = _mm512_sub_pd(_mm512_cvtps_pd(xs), _mm512_cvtps_pd(lows));
    const __m512d t = _mm512_mul_pd(distance, _mm512_i32gather_pd(codes, per_step, 8));
    const __m512d whole = _mm512_roundscale_pd(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    *steps = _mm512_cvtpd_epi32(whole);
    const __m512d off = _mm512_abs_pd(_mm512_sub_pd(t, whole));
    return _mm512_cmp_pd_mask(off, _mm512_set1_pd(0.5 - 0x1p-30), _CMP_GT_OQ) != 0;
  };
  __m256i steps[2];
  *tie = half(_mm512_castps512_ps256(x), _mm512_castps512_ps256(from), _mm512_castsi512_si256(code), &steps[0]);
  *tie |= half(_mm512_extractf32x8_ps(x, 1), _mm512_extractf32x8_ps(from, 1), _mm512_extracti64x4_epi64(code, 1),
               &steps[1]);
  return _mm512_inserti64x4(_mm512_castsi256_si512(steps[0]), steps[1], 1);
}

}  // namespace
}  // namespace lowbit::avx512
