// The values of 32 codes: in registers for formats of up to 4 bits, else gathered. Static, as all of this folder's
// headers.
#pragma once

#include "cpu/simd/vector.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

// Up to 16 values.
struct FewValues {
  SixteenFloats values;

  explicit FewValues(const float* table) : values(table) {}
  LOWBIT_INLINE void operator()(Ints codes, Floats (&v)[4]) const {
    v[0] = values(widen_quarter<0>(codes));
    v[1] = values(widen_quarter<1>(codes));
    v[2] = values(widen_quarter<2>(codes));
    v[3] = values(widen_quarter<3>(codes));
  }
};

struct ManyValues {
  const float* table;

  LOWBIT_INLINE void operator()(Ints codes, Floats (&v)[4]) const {
    v[0] = gather(table, widen_quarter<0>(codes));
    v[1] = gather(table, widen_quarter<1>(codes));
    v[2] = gather(table, widen_quarter<2>(codes));
    v[3] = gather(table, widen_quarter<3>(codes));
  }
};

template <class F>
void with_lookup(const float (&values)[256], int bits, F f) {
  bits <= 4 ? f(FewValues(values)) : f(ManyValues{values});
}

// (x - low[code]) * per_step[code] to nearest even, in float64; *tie: some lane lies so close to a tie that only the
// quotient itself tells.
inline Ints steps_above(Floats x, Ints code, const float* low, const double* per_step, bool* tie) {
  const Floats from = gather(low, code);
  const auto half = [&](__m128 xs, __m128 lows, __m128i codes, __m128i* steps) {
    const __m256d distance = _mm256_sub_pd(_mm256_cvtps_pd(xs), _mm256_cvtps_pd(lows));
    const __m256d t = _mm256_mul_pd(distance, _mm256_i32gather_pd(per_step, codes, 8));
    const __m256d whole = _mm256_round_pd(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    *steps = _mm256_cvtpd_epi32(whole);
    const __m256d off = _mm256_andnot_pd(_mm256_set1_pd(-0.0), _mm256_sub_pd(t, whole));
    return _mm256_movemask_pd(_mm256_cmp_pd(off, _mm256_set1_pd(0.5 - 0x1p-30), _CMP_GT_OQ)) != 0;
  };
  __m128i steps[2];
  *tie = half(_mm256_castps256_ps128(x), _mm256_castps256_ps128(from), _mm256_castsi256_si128(code), &steps[0]);
  *tie |=
      half(_mm256_extractf128_ps(x, 1), _mm256_extractf128_ps(from, 1), _mm256_extracti128_si256(code, 1), &steps[1]);
  return _mm256_inserti128_si256(_mm256_castsi128_si256(steps[0]), steps[1], 1);
}

}  // namespace
}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
