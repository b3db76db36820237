// Runs of consecutive elements of a row, eight or sixteen a thread, to and from memory as float32.
//
// A lane that moved 32 bytes by itself, in two accesses of 16, would touch a sector in each of them and use half of it.
// So two neighbouring lanes whose runs lie one behind the other move them together (sectors.cuh): each access covers
// whole sectors. Which lanes these are is seen from their addresses, so that any way to place runs on lanes will do.
#pragma once

#include <cstdint>

#include "common/matrix.h"
#include "cuda/tile/sectors.cuh"
#include "cuda/tile/values.cuh"

namespace lowbit::cuda {

// Whether runs that start at multiples of eight columns can be moved by 16-byte accesses.
inline bool is_vector_aligned(const Matrix& m) {
  const auto address = reinterpret_cast<uintptr_t>(m.data);
  return m.col_stride == 1 && address % 16 == 0 && m.row_stride * size_of(m.dtype) % 16 == 0;
}

// Whether the run of kBytes at p is followed (odd lanes: preceded) by that of the neighbouring lane; nullptr is no run.
template <int kBytes>
__device__ __forceinline__ bool is_paired(const uint8_t* p) {
  const uint8_t* expected = threadIdx.x & 1 ? p - kBytes : p + kBytes;
  const auto other = __shfl_xor_sync(0xffffffffu, static_cast<unsigned long long>(reinterpret_cast<uintptr_t>(p)), 1);
  return p != nullptr && other == static_cast<unsigned long long>(reinterpret_cast<uintptr_t>(expected));
}

// kBytes at p, aligned to 16; nullptr: nothing is moved, and the words keep their values. All 32 lanes call these.
template <int kBytes>
__device__ __forceinline__ void load_run(const uint8_t* p, uint32_t (&w)[kBytes / 4]) {
  if constexpr (kBytes == 16) {
    if (p == nullptr) return;
    const uint4 q = *reinterpret_cast<const uint4*>(p);
    w[0] = q.x, w[1] = q.y, w[2] = q.z, w[3] = q.w;
  } else {
    const bool paired = is_paired<kBytes>(p);
#pragma unroll
    for (int from = 0; from < kBytes; from += 32) {
      uint32_t v[8];
      load_pair<kBytes>(p + from, paired, v);
      if (paired) {
#pragma unroll
        for (int i = 0; i < 8; ++i) w[from / 4 + i] = v[i];
      } else if (p != nullptr) {
        const auto* q = reinterpret_cast<const uint4*>(p + from);
        const uint4 a = q[0], b = q[1];
        w[from / 4] = a.x, w[from / 4 + 1] = a.y, w[from / 4 + 2] = a.z, w[from / 4 + 3] = a.w;
        w[from / 4 + 4] = b.x, w[from / 4 + 5] = b.y, w[from / 4 + 6] = b.z, w[from / 4 + 7] = b.w;
      }
    }
  }
}
template <int kBytes>
__device__ __forceinline__ void store_run(uint8_t* p, const uint32_t (&w)[kBytes / 4]) {
  if constexpr (kBytes == 16) {
    if (p != nullptr) *reinterpret_cast<uint4*>(p) = make_uint4(w[0], w[1], w[2], w[3]);
  } else {
    const bool paired = is_paired<kBytes>(p);
#pragma unroll
    for (int from = 0; from < kBytes; from += 32) {
      uint32_t v[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) v[i] = w[from / 4 + i];
      store_pair<kBytes>(p + from, paired, v);
      if (!paired && p != nullptr) {
        auto* q = reinterpret_cast<uint4*>(p + from);
        q[0] = make_uint4(v[0], v[1], v[2], v[3]);
        q[1] = make_uint4(v[4], v[5], v[6], v[7]);
      }
    }
  }
}

// Elements [c, c + kCount) of row r of a matrix of `m.cols` columns, c a multiple of 8; zeros past the end, and where
// the lane has no row (not `valid`). All 32 lanes call these.
template <int kCount>
__device__ __forceinline__ void load_vector(const Matrix& m, bool aligned, int32_t r, int32_t c, bool valid,
                                            float (&v)[kCount]) {
  const int64_t at = r * m.row_stride + c * m.col_stride;
#pragma unroll
  for (int i = 0; i < kCount; ++i) v[i] = 0.0f;
  valid = valid && c < m.cols;
  const bool whole = aligned && valid && c + kCount <= m.cols;
  if (aligned) {
    const auto* p = whole ? static_cast<const uint8_t*>(m.data) + at * (m.dtype == DType::kF32 ? 4 : 2) : nullptr;
    if (m.dtype == DType::kF32) {
      uint32_t w[kCount] = {};
      load_run<4 * kCount>(p, w);
#pragma unroll
      for (int i = 0; i < kCount; ++i) v[i] = from_bits(w[i]);
    } else {
      uint32_t w[kCount / 2] = {};
      load_run<2 * kCount>(p, w);
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const uint32_t half = w[i / 2] >> (i % 2 * 16) & 0xffffu;
        v[i] = m.dtype == DType::kBF16 ? bf16_value(half) : f16_value(half);
      }
    }
  }
  if (whole || !valid) return;
#pragma unroll 1
  for (int i = 0; i < kCount; ++i) {
    v[0] = c + i < m.cols ? load_value(m.data, m.dtype, at + i * m.col_stride) : 0.0f;
    turn(v);
  }
}
template <int kCount>
__device__ __forceinline__ void store_vector(const Matrix& m, bool aligned, int32_t r, int32_t c, bool valid,
                                             float (&v)[kCount]) {
  const int64_t at = r * m.row_stride + c * m.col_stride;
  valid = valid && c < m.cols;
  const bool whole = aligned && valid && c + kCount <= m.cols;
  if (aligned) {
    auto* p = whole ? static_cast<uint8_t*>(m.data) + at * (m.dtype == DType::kF32 ? 4 : 2) : nullptr;
    if (m.dtype == DType::kF32) {
      uint32_t w[kCount];
#pragma unroll
      for (int i = 0; i < kCount; ++i) w[i] = to_bits(v[i]);
      store_run<4 * kCount>(p, w);
    } else {
      const bool bf16 = m.dtype == DType::kBF16;
      uint32_t w[kCount / 2];
#pragma unroll
      for (int i = 0; i < kCount / 2; ++i) {
        const uint32_t low = bf16 ? bf16_of(v[2 * i]) : f16_of(v[2 * i]);
        const uint32_t high = bf16 ? bf16_of(v[2 * i + 1]) : f16_of(v[2 * i + 1]);
        w[i] = low | high << 16;
      }
      store_run<2 * kCount>(p, w);
    }
  }
  if (whole || !valid) return;
#pragma unroll 1
  for (int i = 0; i < kCount; ++i) {
    if (c + i < m.cols) store_value(m.data, m.dtype, at + i * m.col_stride, v[0]);
    turn(v);
  }
}

}  // namespace lowbit::cuda
