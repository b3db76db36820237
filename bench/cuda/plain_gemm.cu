// A GEMM without library: one shared tile, 32-bit loads of the fragments, mma.sync. D[m, n] = A[m, k] * B[n, k]^T with
// m and n multiples of 64 and k of a tile; a workload of bench/emulator.py.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace {

// of the block: 64 x 64 outputs, 64 bytes of each row at a time
constexpr int kTile = 64, kBytesK = 64, kThreads = 128;
constexpr int kPitch = kBytesK + 16;  // rows apart by 20 words: fragments meet no bank twice

template <class T>
struct Mma;
template <>
struct Mma<int8_t> {
  using Sum = int;
  static __device__ void run(Sum (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};
template <>
struct Mma<half> {
  using Sum = float;
  static __device__ void run(Sum (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads) gemm(int n, int k, const T* a, const T* b, typename Mma<T>::Sum* d) {
  __shared__ __align__(16) uint8_t tile_a[kTile * kPitch], tile_b[kTile * kPitch];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, row = lane / 4, word = lane % 4 * 4;
  const int m0 = blockIdx.y * kTile, n0 = blockIdx.x * kTile, warp_m = warp / 2 * 32, warp_n = warp % 2 * 32;
  const size_t row_bytes = size_t(k) * sizeof(T);
  const auto* bytes_a = reinterpret_cast<const uint8_t*>(a) + m0 * row_bytes;
  const auto* bytes_b = reinterpret_cast<const uint8_t*>(b) + n0 * row_bytes;
  typename Mma<T>::Sum sums[2][4][4] = {};
  for (size_t k0 = 0; k0 < row_bytes; k0 += kBytesK) {
    for (int i = threadIdx.x; i < kTile * kBytesK / 16; i += kThreads) {
      const int r = i / (kBytesK / 16), c = i % (kBytesK / 16) * 16;
      *reinterpret_cast<int4*>(tile_a + r * kPitch + c) =
          *reinterpret_cast<const int4*>(bytes_a + r * row_bytes + k0 + c);
      *reinterpret_cast<int4*>(tile_b + r * kPitch + c) =
          *reinterpret_cast<const int4*>(bytes_b + r * row_bytes + k0 + c);
    }
    __syncthreads();
#pragma unroll
    for (int step = 0; step < kBytesK; step += 32) {
      const auto at = [&](const uint8_t* tile, int r, int c) {
        return *reinterpret_cast<const uint32_t*>(tile + r * kPitch + step + c + word);
      };
      uint32_t fragment_a[2][4], fragment_b[4][2];
      for (int i = 0; i < 2; ++i) {
        const int r = warp_m + i * 16 + row;
        fragment_a[i][0] = at(tile_a, r, 0), fragment_a[i][1] = at(tile_a, r + 8, 0);
        fragment_a[i][2] = at(tile_a, r, 16), fragment_a[i][3] = at(tile_a, r + 8, 16);
      }
      for (int j = 0; j < 4; ++j) {
        const int r = warp_n + j * 8 + row;
        fragment_b[j][0] = at(tile_b, r, 0), fragment_b[j][1] = at(tile_b, r, 16);
      }
      for (int i = 0; i < 2; ++i) {
        for (int j = 0; j < 4; ++j) Mma<T>::run(sums[i][j], fragment_a[i], fragment_b[j]);
      }
    }
    __syncthreads();
  }
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 4; ++j) {
      for (int e = 0; e < 4; ++e) {
        const int r = m0 + warp_m + i * 16 + row + e / 2 * 8, c = n0 + warp_n + j * 8 + lane % 4 * 2 + e % 2;
        d[size_t(r) * n + c] = sums[i][j][e];
      }
    }
  }
}

}  // namespace

extern "C" int gemm_s8(int m, int n, int k, const void* a, const void* b, void* d) {
  gemm<int8_t><<<dim3(n / kTile, m / kTile), kThreads>>>(n, k, static_cast<const int8_t*>(a),
                                                         static_cast<const int8_t*>(b), static_cast<int*>(d));
  return static_cast<int>(cudaDeviceSynchronize());
}

extern "C" int gemm_f16(int m, int n, int k, const void* a, const void* b, void* d) {
  gemm<half><<<dim3(n / kTile, m / kTile), kThreads>>>(n, k, static_cast<const half*>(a), static_cast<const half*>(b),
                                                       static_cast<float*>(d));
  return static_cast<int>(cudaDeviceSynchronize());
}
