// The block Hadamard transform of quantize.h in a tile of eight columns a thread: butterflies (a + b, a - b) of
// distance 1, 2, 4, ... in that order, in registers up to 4, by shuffles up to 128, by shared memory beyond; then one
// product.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/ptx/mma.cuh"
#include "cuda/tile/values.cuh"

namespace lowbit::cuda {

// Butterflies of distance kFrom, 2 kFrom, ... below `size` between the elements of one thread.
template <int kCount>
__device__ __forceinline__ void butterflies(float (&v)[kCount], int from, int size) {
#pragma unroll
  for (int h = 1; h < kCount; h *= 2) {
    if (h < from || h >= size) continue;
#pragma unroll
    for (int i = 0; i < kCount; i += 2 * h) {
#pragma unroll
      for (int j = i; j < i + h; ++j) {
        const float a = v[j], b = v[j + h];
        v[j] = a + b;
        v[j + h] = a - b;
      }
    }
  }
}

// The butterfly with the thread whose index differs in one bit: `upper` holds b.
template <int kCount>
__device__ __forceinline__ void butterfly_with(float (&v)[kCount], const float (&other)[kCount], bool upper) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) v[i] = upper ? other[i] - v[i] : v[i] + other[i];
}
template <int kCount>
__device__ __forceinline__ void butterfly_lanes(float (&v)[kCount], int distance) {
  const bool upper = (threadIdx.x & static_cast<unsigned>(distance)) != 0;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const float other = __shfl_xor_sync(0xffffffffu, v[i], distance);
    v[i] = upper ? other - v[i] : v[i] + other;
  }
}

// H_32 (and beyond, within a warp) of 16-bit values on tensor cores, the additions in fp32. `w` are the eight of a
// thread as they lie in memory, element e of lane l being index 8 l + e. One mma.m16n8k16 sums over the index bits 0, 1
// (e) and 3, 4 (l): as rows of A, bits 5 .. 7 are l / 4 and bit 2 is the upper eight; as columns, k = 8 (bit 1) + 2
// (bits 4, 3) + (bit 0), which is just where A has its registers; and C has them in the same places again, so that
// nothing moves. The inputs are exact, the products are +-x, and B is made of +-1.
__device__ __forceinline__ void butterflies_by_mma(const uint4& w, bool bf16, float (&v)[kVector]) {
  const uint32_t group = threadIdx.x / 4 % 8, k = 2 * (threadIdx.x % 4);
  const uint32_t one = bf16 ? 0x3f80u : 0x3c00u;
  const uint32_t signs = (__popc(group & k) & 1) << 15 | static_cast<uint32_t>(__popc(group & (k + 1)) & 1) << 31;
  const uint32_t row = (one | one << 16) ^ signs;
  const uint32_t a[4] = {w.x, w.z, w.y, w.w};
#pragma unroll
  for (int t = 0; t < 2; ++t) {
    const uint32_t b[2] = {row, t ? row ^ 0x80008000u : row};
    float c[4] = {};
    if (bf16) {
      ptx::mma_m16n8k16_bf16(c, a, b);
    } else {
      ptx::mma_m16n8k16_f16(c, a, b);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) v[4 * (i / 2) + 2 * t + i % 2] = c[i];
  }
}

struct FusedHadamard {
  int size = 0;  // 0: none
  float scale = 1.0f;

  FusedHadamard() = default;
  explicit FusedHadamard(int64_t n)
      : size(static_cast<int>(n)), scale(n > 0 ? static_cast<float>(1.0 / std::sqrt(static_cast<double>(n))) : 1.0f) {}

  // Threads side by side that hold one block.
  int vectors() const { return size <= kVector ? 1 : size / kVector; }
  // Shared memory for blocks that span warps.
  int64_t shared_bytes(int threads) const { return size > 32 * kVector ? threads * kVector * int64_t{4} : 0; }

  // All threads call it; `exchange` is 16-byte aligned and may be written again after the next barrier.
  __device__ __forceinline__ void operator()(float (&v)[kVector], float* exchange) const {
    if (size == 0) return;
    butterflies(v, 1, size);
    for (int h = kVector; h < size && h <= 16 * kVector; h *= 2) butterfly_lanes(v, h / kVector);
    for (int h = 32 * kVector; h < size; h *= 2) {
      auto* mine = reinterpret_cast<float4*>(exchange);
      const auto n = blockDim.x, other = threadIdx.x ^ static_cast<unsigned>(h / kVector);
      __syncthreads();
      mine[threadIdx.x] = make_float4(v[0], v[1], v[2], v[3]);
      mine[n + threadIdx.x] = make_float4(v[4], v[5], v[6], v[7]);
      __syncthreads();
      const float4 a = mine[other], b = mine[n + other];
      const float w[kVector] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
      butterfly_with(v, w, (threadIdx.x & static_cast<unsigned>(h / kVector)) != 0);
    }
#pragma unroll
    for (int i = 0; i < kVector; ++i) v[i] *= scale;
  }
};

}  // namespace lowbit::cuda
