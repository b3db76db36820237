// Rows in and out of the GEMM engines: table lookups, conversions, transposes, the store of the result.
#include <immintrin.h>

#include <cstring>

#include "cpu/avx512/decode.h"
#include "cpu/avx512/gemm_common.h"
#include "cpu/avx512/transpose.h"

namespace lowbit::avx512 {
namespace {

void lookup8(const uint8_t* codes, int64_t n, const int8_t* table, int8_t* out) {
  const ByteTable<8> lookup(table);
  for (int64_t i = 0; i < n; i += 64) {
    const __mmask64 m = mask64(n - i);
    _mm512_mask_storeu_epi8(out + i, m, lookup(_mm512_maskz_loadu_epi8(m, codes + i)));
  }
}

void lookup32(const uint8_t* codes, int64_t n, const float* table, float* out) {
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 m = mask16(n - i);
    const __m512i c = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(m, codes + i));
    _mm512_mask_storeu_ps(out + i, m, _mm512_i32gather_ps(c, table, 4));
  }
}

// 16 numbers as 32 bits: floats widened to fp32, integers to int32.
__m512i load16(const void* in, DType type, int64_t i, __mmask16 m) {
  switch (type) {
    case DType::kBF16:
      return _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, static_cast<const uint16_t*>(in) + i)),
                               16);
    case DType::kF16:
      return _mm512_castps_si512(_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, static_cast<const uint16_t*>(in) + i)));
    case DType::kI8: return _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(m, static_cast<const int8_t*>(in) + i));
    case DType::kU8: return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(m, static_cast<const uint8_t*>(in) + i));
    default: return _mm512_maskz_loadu_epi32(m, static_cast<const uint32_t*>(in) + i);
  }
}

void to_float(const void* in, DType type, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 m = mask16(n - i);
    _mm512_mask_storeu_epi32(out + i, m, load16(in, type, i, m));
  }
}

// vcvtneps2bf16 flushes denormals, so the rounding is done in integers. NaN stays a quiet NaN.
__m256i round_bf16(__m512 v) {
  const __m512i b = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(b, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(b, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  const __m512i out = _mm512_mask_or_epi32(up, nan, b, _mm512_set1_epi32(0x400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(out, 16));
}

void to_bf16(const float* in, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 m = mask16(n - i);
    _mm256_mask_storeu_epi16(out + i, m, round_bf16(_mm512_maskz_loadu_ps(m, in + i)));
  }
}

int32_t sum8(const int8_t* in, int64_t n) {
  __m512i sum = _mm512_setzero_si512();
  for (int64_t i = 0; i < n; i += 64) {
    sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), _mm512_maskz_loadu_epi8(mask64(n - i), in + i));
  }
  return _mm512_reduce_add_epi32(sum);
}

void transpose(const void* in, DType type, int64_t row_stride, int64_t rows, int64_t cols, void* out,
               int64_t out_stride) {
  auto* to = static_cast<uint32_t*>(out);
  for (int64_t c = 0; c < cols; c += 16) {
    const __mmask16 m = mask16(cols - c);
    __m512i v[16];
    for (int64_t r = 0; r < 16; ++r) {
      v[r] = r < rows ? load16(in, type, r * row_stride + c, m) : _mm512_setzero_si512();
    }
    transpose16(v);
    for (int64_t j = 0; j < 16 && c + j < cols; ++j) _mm512_storeu_si512(to + (c + j) * out_stride, v[j]);
  }
}

void finish(const cpu::FinishArgs& a) {
  const Matrix& out = a.out;
  for (int64_t r = 0; r < a.rows; ++r) {
    for (int64_t c = 0; c < a.columns; c += 16) {
      const __mmask16 m = mask16(a.columns - c);
      __m512 v = _mm512_loadu_ps(a.y + r * a.y_stride + c);
      if (out.dtype != DType::kI32) {
        if (a.x_scale != nullptr) v = _mm512_mul_ps(v, _mm512_set1_ps(a.x_scale[r]));
        if (a.bias != nullptr) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(m, a.bias + c));
      }
      const int64_t at = r * out.row_stride + c * out.col_stride;
      const bool dense = out.col_stride == 1;
      if (out.dtype == DType::kF32 || out.dtype == DType::kI32) {
        auto* p = static_cast<float*>(out.data) + at;
        if (dense) {
          _mm512_mask_storeu_ps(p, m, v);
        } else {
          alignas(64) float lane[16];
          _mm512_store_ps(lane, v);
          for (int i = 0; i < 16 && c + i < a.columns; ++i) p[i * out.col_stride] = lane[i];
        }
      } else {
        const __m256i half = out.dtype == DType::kBF16 ? round_bf16(v) : _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
        auto* p = static_cast<uint16_t*>(out.data) + at;
        if (dense) {
          _mm256_mask_storeu_epi16(p, m, half);
        } else {
          alignas(32) uint16_t lane[16];
          _mm256_store_si256(reinterpret_cast<__m256i*>(lane), half);
          for (int i = 0; i < 16 && c + i < a.columns; ++i) p[i * out.col_stride] = lane[i];
        }
      }
    }
  }
}

}  // namespace

const cpu::GemmIsa kGemmIsa = {
    {&kInt8Engine, &kBF16Engine, &kF32Engine}, unpack, lookup8, lookup32, to_float, to_bf16, sum8, transpose, finish,
};
const cpu::GemmIsa kGemmIsaFma = {
    {&kInt8Engine, &kBF16FmaEngine, &kF32Engine}, unpack, lookup8, lookup32, to_float, to_bf16, sum8, transpose, finish,
};

}  // namespace lowbit::avx512
