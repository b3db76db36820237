// Codes times codes by bit planes on the binary tensor cores (b1 mma, AND + popcount):
//   sum cw cx = sum over planes i of w, j of x of  a_i b_j popcount(W_i AND X_j),   a, b = 2^place, negative on top of
//   signed codes
//
// The planes of x are stacked as columns: column c of a block is plane c % q of row c / q of x, so that one row of
// 8-bit x fills the eight columns of an instruction and nothing is multiplied for rows that are not there. A warp has
// 16 rows of w with all their planes, whose weighted sum is taken in registers; the q columns of an output are added at
// the end of a segment, by way of shared memory.
//
//   block     64 rows of w, kColumns / q rows of x;  warp i: rows 16 i .. 16 i + 15, all columns
//   step      512 columns of K = 64 bytes of a row of a plane: two multiplies of 16 x 8 x 256
//
// Segments are multiples of 128 columns: a step that one ends in is multiplied in quarters, the rest masked off.
//
// Floors of a step: 2 kPlanes multiplies for 16 rows x 8 columns; kPlanes x 4 KB of w and 4 KB of x from memory.
#pragma once

#include "cuda/tile/gemm_shape.h"
#include "cuda/tile/gemm_steps.cuh"

namespace lowbit::cuda {

struct BinaryParams {
  const uint32_t* w;  // planes [p][n][words], most significant first
  const uint32_t* x;
  int64_t w_row, w_plane, x_row, x_plane;  // words
  int32_t x_planes;
  bool w_signed, x_signed;
  bool w_wide, x_wide;  // rows can be copied 16 bytes at a time
  GemmParams gemm;      // the join; cuts, chunk and unit are not used here
  int32_t segment;      // columns; K where there is one
};

struct Binary {
  static constexpr int kThreads = 128, kRowsW = 64, kColumns = kBinaryColumns, kStages = 3;
  static constexpr int kStepBits = 512, kChunks = 4;  // of 16 bytes
  template <int kPlanes>
  static constexpr int64_t bytes() {
    return int64_t{16} * kChunks * kStages * (kPlanes * kRowsW + kColumns) + int64_t{4} * kColumns * (2 * kRowsW + 4) +
           int64_t{4} * (kRowsW + kColumns);
  }
};

#if LOWBIT_HAS_B1_MMA

template <int kPlanes>
class BinaryGemm {
 public:
  __device__ __forceinline__ BinaryGemm(const BinaryParams& params, uint8_t* memory)
      : p(params),
        lane(static_cast<int>(threadIdx.x % 32)),
        warp(static_cast<int>(threadIdx.x / 32)),
        rows_x(Binary::kColumns / params.x_planes),
        row_tile(params.gemm.across(static_cast<int32_t>(blockIdx.x))),
        n0((static_cast<int32_t>(blockIdx.x) - row_tile * params.gemm.across.size) * Binary::kRowsW),
        m0(row_tile * rows_x),
        stages(reinterpret_cast<uint4*>(memory)),
        sums(reinterpret_cast<int32_t*>(stages + Binary::kStages * kStageChunks)),
        results(reinterpret_cast<float*>(sums + Binary::kColumns * (Binary::kRowsW + 4))),
        w_sums(reinterpret_cast<int32_t*>(results + Binary::kColumns * Binary::kRowsW)),
        x_sums(w_sums + Binary::kRowsW) {}

  __device__ __forceinline__ void run() {
    const int32_t steps = (p.gemm.k + Binary::kStepBits - 1) / Binary::kStepBits;
    int32_t begin = 0;  // of the segment
#pragma unroll 1
    for (int32_t s = 1 - Binary::kStages; s < steps; ++s) {
      if (s >= 0) {
        ptx::cp_async_wait_group<Binary::kStages - 2>();
        __syncthreads();
      }
      const int32_t ahead = s + Binary::kStages - 1;
      if (ahead < steps) fill(ahead);
      ptx::cp_async_commit_group();
      if (s < 0) continue;
      const int32_t base = s * Binary::kStepBits;
      for (int32_t from = base; from < min(base + Binary::kStepBits, p.gemm.k);) {
        const int32_t segment_end = begin + min(p.segment, p.gemm.k - begin);
        const int32_t to = min(segment_end, base + Binary::kStepBits);
        multiply(s % Binary::kStages, (from - base) / 128, (to - base + 127) / 128);
        if (to == segment_end) {
          join(begin, to - begin);
          begin = to;
        }
        from = to;
      }
    }
    ptx::cp_async_wait_group<0>();
    write();
  }

 private:
  static constexpr int kStageChunks = Binary::kChunks * (kPlanes * Binary::kRowsW + Binary::kColumns);
  static constexpr int kTiles = Binary::kColumns / 8;
  static constexpr int kRowsAtOnce = Binary::kThreads / Binary::kRowsW;

  // Chunks of row `row` of a plane, zeros past `words`.
  __device__ __forceinline__ void copy(const uint32_t* base, bool live, bool wide, int32_t word, uint4* to) {
    const int32_t words = (p.gemm.k + 31) / 32;
    const int left = live ? max(0, min(4, words - word)) : 0;
    const uint32_t* from = left > 0 ? base + word : base;
    const uint32_t address = ptx::shared_address(to);
    if (wide) {
      ptx::cp_async_cg_16(address, from, 4 * left);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) ptx::cp_async_ca_4(address + 4 * i, i < left ? from + i : base, i < left ? 4 : 0);
    }
  }
  __device__ __forceinline__ void fill(int32_t step) {
    uint4* w = stages + step % Binary::kStages * kStageChunks;
    uint4* x = w + Binary::kChunks * kPlanes * Binary::kRowsW;
    const int32_t word = step * (Binary::kStepBits / 32);
#pragma unroll
    for (int i = 0; i < kPlanes; ++i) {
      for (int at = static_cast<int>(threadIdx.x); at < Binary::kRowsW * Binary::kChunks; at += Binary::kThreads) {
        const int row = at / Binary::kChunks, chunk = at % Binary::kChunks;
        const bool live = n0 + row < p.gemm.n;
        copy(p.w + i * p.w_plane + (live ? (n0 + row) * p.w_row : 0), live, p.w_wide, word + 4 * chunk,
             w + i * Binary::kRowsW * Binary::kChunks + swizzle<Binary::kChunks>(row, chunk));
      }
    }
    for (int at = static_cast<int>(threadIdx.x); at < Binary::kColumns * Binary::kChunks; at += Binary::kThreads) {
      const int column = at / Binary::kChunks, chunk = at % Binary::kChunks;
      const int32_t m = m0 + column / p.x_planes;
      const bool live = column / p.x_planes < rows_x && m < p.gemm.m;
      copy(p.x + (live ? column % p.x_planes * p.x_plane + m * p.x_row : 0), live, p.x_wide, word + 4 * chunk,
           x + swizzle<Binary::kChunks>(column, chunk));
    }
  }

  // Chunks of 128 columns [from, to) of a step.
  __device__ __forceinline__ void multiply(int stage, int from, int to) {
    const uint4* w = stages + stage * kStageChunks;
    const uint4* x = w + Binary::kChunks * kPlanes * Binary::kRowsW;
    const Chunk a_at = a_chunk(lane), b_at = b_chunk(lane);
#pragma unroll
    for (int half = 0; half < 2; ++half) {  // of 256 columns: chunks 2 half, 2 half + 1
      const bool first = from <= 2 * half && 2 * half < to, second = from <= 2 * half + 1 && 2 * half + 1 < to;
      if (!first && !second) continue;
      uint32_t a[kPlanes][4];
#pragma unroll
      for (int i = 0; i < kPlanes; ++i) {
        const uint4* plane = w + i * Binary::kRowsW * Binary::kChunks;
        ptx::ldmatrix_x4(
            a[i], ptx::shared_address(plane + swizzle<Binary::kChunks>(16 * warp + a_at.row, 2 * half + a_at.chunk)));
        if (!first) a[i][0] = a[i][1] = 0;
        if (!second) a[i][2] = a[i][3] = 0;
        if (p.gemm.w_sums) {
          w_count[0] += weight(p.w_signed, kPlanes, i) * (__popc(a[i][0]) + __popc(a[i][2]));
          w_count[1] += weight(p.w_signed, kPlanes, i) * (__popc(a[i][1]) + __popc(a[i][3]));
        }
      }
#pragma unroll
      for (int q = 0; q < kTiles / 2; ++q) {
        uint32_t b[4];
        ptx::ldmatrix_x4(b,
                         ptx::shared_address(x + swizzle<Binary::kChunks>(16 * q + b_at.row, 2 * half + b_at.chunk)));
        if (p.gemm.x_sums) {
          x_count[2 * q] += (first ? __popc(b[0]) : 0) + (second ? __popc(b[1]) : 0);
          x_count[2 * q + 1] += (first ? __popc(b[2]) : 0) + (second ? __popc(b[3]) : 0);
        }
#pragma unroll
        for (int i = 0; i < kPlanes; ++i) {
          ptx::mma_m16n8k256_b1_and_popc(sum[i][2 * q], a[i], {b[0], b[1]});
          ptx::mma_m16n8k256_b1_and_popc(sum[i][2 * q + 1], a[i], {b[2], b[3]});
        }
      }
    }
  }

  static __device__ __forceinline__ int32_t weight(bool is_signed, int planes, int plane) {
    const int32_t v = 1 << (planes - 1 - plane);
    return is_signed && plane == 0 ? -v : v;
  }

  // The sums of `length` columns from `begin` join the results.
  __device__ __forceinline__ void join(int32_t begin, int32_t length) {
    constexpr int kStride = Binary::kRowsW + 4;  // the columns 2 t of the lanes fall into different banks
    const int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int q = 0; q < kTiles; ++q) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        int32_t v = 0;
#pragma unroll
        for (int i = 0; i < kPlanes; ++i) {
          v += weight(p.w_signed, kPlanes, i) * sum[i][q][e];
          sum[i][q][e] = 0;
        }
        sums[(8 * q + 2 * t + e % 2) * kStride + 16 * warp + g + 8 * (e / 2)] = v;
      }
      int32_t x = x_count[q];
      x += __shfl_xor_sync(0xffffffffu, x, 1);
      x += __shfl_xor_sync(0xffffffffu, x, 2);
      if (warp == 0 && t == 0) x_sums[8 * q + g] = x;
      x_count[q] = 0;
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      w_count[h] += __shfl_xor_sync(0xffffffffu, w_count[h], 1);
      w_count[h] += __shfl_xor_sync(0xffffffffu, w_count[h], 2);
      if (t == 0) w_sums[16 * warp + g + 8 * h] = w_count[h];
      w_count[h] = 0;
    }
    __syncthreads();
    // a thread keeps its outputs from segment to segment: row threadIdx.x % 64, every other row of x
    const int row = static_cast<int>(threadIdx.x) % Binary::kRowsW;
    const int32_t n = n0 + row;
#pragma unroll 1
    for (int m = static_cast<int>(threadIdx.x) / Binary::kRowsW; is_output(m, n); m += kRowsAtOnce) {
      JoinValues v{};
      int32_t dot = 0;
      for (int j = 0; j < p.x_planes; ++j) {
        const int32_t b = weight(p.x_signed, p.x_planes, j);
        dot += b * sums[(m * p.x_planes + j) * kStride + row];
        v.x_sum += b * x_sums[m * p.x_planes + j];
      }
      v.w_sum = w_sums[row];
      v.length = length;
      v.scale = p.gemm.w.scale_at(n, begin);
      if (p.gemm.x_scale_joins) v.scale *= p.gemm.x.scale_at(m0 + m, begin);
      v.w_zero = p.gemm.w.integer_zero_at(n, begin);
      v.x_zero = p.gemm.x.integer_zero_at(m0 + m, begin);
      if (p.gemm.w.zero_is_float) v.w_float_zero = p.gemm.w.zero_at(n, begin);
      float& y = results[m * Binary::kRowsW + row];
      y = join_corrected(p.gemm, dot, v, begin == 0 ? 0.0f : y);
    }
    __syncthreads();
  }
  __device__ __forceinline__ bool is_output(int m, int32_t n) const {
    return m < rows_x && m0 + m < p.gemm.m && n < p.gemm.n;
  }

  __device__ __forceinline__ void write() const {
    const int row = static_cast<int>(threadIdx.x) % Binary::kRowsW;
#pragma unroll 1
    for (int m = static_cast<int>(threadIdx.x) / Binary::kRowsW; is_output(m, n0 + row); m += kRowsAtOnce) {
      finish(p.gemm, m0 + m, n0 + row, last_scale(p.gemm, nullptr, m0 + m), bias_at(p.gemm, n0 + row, 0),
             results[m * Binary::kRowsW + row]);
    }
  }

  const BinaryParams& p;
  const int lane, warp, rows_x;
  const int32_t row_tile, n0, m0;
  uint4* stages;
  int32_t* sums;
  float* results;
  int32_t *w_sums, *x_sums;
  int32_t sum[kPlanes][kTiles][4] = {};
  int32_t w_count[2] = {}, x_count[kTiles] = {};
};

#endif

template <int kPlanes>
__global__ void __launch_bounds__(Binary::kThreads, 2) binary_gemm(const __grid_constant__ BinaryParams p) {
#if LOWBIT_HAS_B1_MMA
  extern __shared__ __align__(128) uint8_t memory[];
  BinaryGemm<kPlanes>(p, memory).run();
#endif
}

}  // namespace lowbit::cuda
