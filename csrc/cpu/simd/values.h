// A vector of floats from and to any float dtype, rounded as common/matrix.h does. Static, as all of this folder's
// headers.
#pragma once

#include "cpu/simd/vector.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

LOWBIT_INLINE Floats from_bf16(Halves v) { return as_floats(shift_left(widen(v), 16)); }

// Nearest, ties to even; NaN stays a quiet NaN. (vcvtneps2bf16 flushes denormals.)
LOWBIT_INLINE Halves to_bf16(Floats v) {
  const Ints b = as_ints(v);
  const Ints odd = bit_and(shift_right(b, 16), ints(1));
  const Ints rounded = add(b, add(odd, ints(0x7fff)));
  return narrow(shift_right(select(is_nan(v), bit_or(b, ints(0x400000)), rounded), 16));
}

// kLanes from index i of the `dtype` data, of which n are there.
LOWBIT_INLINE Floats load_as_floats(const void* data, DType t, int64_t i, int64_t n) {
  if (t == DType::kF32) return load(static_cast<const float*>(data) + i, n);
  const Halves half = load_halves(static_cast<const uint16_t*>(data) + i, n);
  return t == DType::kBF16 ? from_bf16(half) : from_f16(half);
}
LOWBIT_INLINE void store_as(void* data, DType t, int64_t i, int64_t n, Floats v) {
  if (t == DType::kF32) return store(static_cast<float*>(data) + i, n, v);
  store_halves(static_cast<uint16_t*>(data) + i, n, t == DType::kBF16 ? to_bf16(v) : to_f16(v));
}

// Elements [c, c + n) of a row of any stride, as floats.
inline void load_row(const Matrix& x, int64_t r, int64_t c, int64_t n, float* out) {
  if (x.col_stride == 1) {
    for (int64_t i = 0; i < n; i += kLanes) {
      store(out + i, n - i, load_as_floats(x.data, x.dtype, r * x.row_stride + c + i, n - i));
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
}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
