// Sixteen floats from and to any float dtype, rounded as common/matrix.h does.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "common/matrix.h"

namespace lowbit::avx512 {
namespace {

inline __m512 from_bf16(__m256i v) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16)); }

// Nearest, ties to even; NaN stays a quiet NaN. (vcvtneps2bf16 flushes denormals.)
inline __m256i to_bf16(__m512 v) {
  const __m512i b = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(b, 16), _mm512_set1_epi32(1));
  const __m512i r = _mm512_srli_epi32(_mm512_add_epi32(b, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  const __m512i nan = _mm512_or_si512(_mm512_srli_epi32(b, 16), _mm512_set1_epi32(0x40));
  return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(r, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), nan));
}

inline __m512 load16(const void* data, DType t, int64_t i, __mmask16 mask) {
  if (t == DType::kF32) return _mm512_maskz_loadu_ps(mask, static_cast<const float*>(data) + i);
  const __m256i half = _mm256_maskz_loadu_epi16(mask, static_cast<const uint16_t*>(data) + i);
  return t == DType::kBF16 ? from_bf16(half) : _mm512_cvtph_ps(half);
}

inline void store16(void* data, DType t, int64_t i, __mmask16 mask, __m512 v) {
  if (t == DType::kF32) return _mm512_mask_storeu_ps(static_cast<float*>(data) + i, mask, v);
  const __m256i half = t == DType::kBF16 ? to_bf16(v) : _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
  _mm256_mask_storeu_epi16(static_cast<uint16_t*>(data) + i, mask, half);
}

// The lanes of the 16 at i that lie below n.
inline __mmask16 lanes(int64_t i, int64_t n) {
  return n - i >= 16 ? 0xffff : static_cast<__mmask16>((1u << (n - i)) - 1u);
}

// Elements [c, c + n) of a row of any stride, as floats.
inline void load_row(const Matrix& x, int64_t r, int64_t c, int64_t n, float* out) {
  if (x.col_stride == 1) {
    for (int64_t i = 0; i < n; i += 16) {
      const __mmask16 mask = lanes(i, n);
      _mm512_mask_storeu_ps(out + i, mask, load16(x.data, x.dtype, r * x.row_stride + c + i, mask));
    }
    return;
  }
  const int64_t first = r * x.row_stride + c * x.col_stride;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t at = first + i * x.col_stride;
    if (x.dtype == DType::kF32) {
      out[i] = static_cast<const float*>(x.data)[at];
    } else {
      const uint16_t half = static_cast<const uint16_t*>(x.data)[at];
      out[i] =
          x.dtype == DType::kBF16 ? _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(half << 16))) : _cvtsh_ss(half);
    }
  }
}

}  // namespace
}  // namespace lowbit::avx512
