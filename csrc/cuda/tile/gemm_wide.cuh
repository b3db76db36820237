// The GEMM for many rows of x: a block of four warps computes 128 rows of w by 64 rows of x, a warp 32 by 64; sums of
// the current part and results stay in registers. w is the 16-row operand, so the output tile is transposed:
//
//   warp i: rows 32 i .. 32 i + 31 of w (two fragments), all 64 rows of x (eight fragments)
//   lane l: rows l / 4 + 8 h of each w fragment, rows 2 (l % 4) + j of each x fragment       (c[2 h + j])
//
// kBits > 0: mma64 weights come by cp.async and are unpacked in registers while the next steps are under way; the
// scales (their second level included) are decoded for the step after those. kBits == 0: any layout and any cut of K,
// by way of registers into rows.
//
// Floors of a 128 x 64 x 64 step, bytes: 128 multiplies of 16 x 8 x 32; kBits KB of weights and 4 KB of x from L2 or
// DRAM; kBits KB read once and 4 KB read four times from shared memory.
#pragma once

#include "cuda/tile/gemm_shape.h"
#include "cuda/tile/gemm_steps.cuh"

namespace lowbit::cuda {

struct Wide {
  static constexpr int kThreads = kWideThreads, kRowsW = kWideTile, kRowsX = kWideColumns;
};

// Scales of one segment in a step.
struct WideScales {
  float w[Wide::kRowsW];
  float w_zero[Wide::kRowsW];  // float engines; of byte engines where it is a float
  int32_t w_int[Wide::kRowsW];
  float x[Wide::kRowsX];
  int32_t x_int[Wide::kRowsX];
};

// Shared memory: this, the stages (weights, rows of x), the scales of the stages. The output tile of fp32 takes the
// place of the stages.
template <class E, int kBits>
struct WideShared {
  Step steps[kStepRing];
  Tables<E> tables;
  // of integer engines: see join_out_of_line
  int32_t sums[E::kInteger ? 8 : 1][Wide::kThreads];
  float results[E::kInteger ? 8 : 1][Wide::kThreads];

  static constexpr int64_t weights(int terms) {
    return kBits > 0 ? Wide::kRowsW / 16 * 128 * kBits : Wide::kRowsW * E::kRowBytes * terms;
  }
  static constexpr int64_t rows(int terms) { return Wide::kRowsX * E::kRowBytes * terms; }
  static constexpr int64_t header() { return (static_cast<int64_t>(sizeof(WideShared)) + 127) / 128 * 128; }
  static constexpr int64_t bytes(const GemmParams& p, int stages) {
    const int64_t ring =
        stages * (weights(p.w_terms) + rows(p.x_terms) + p.slots * static_cast<int64_t>(sizeof(WideScales)));
    const int64_t tile = int64_t{4} * Wide::kRowsX * (Wide::kRowsW + 4);
    return header() + (ring > tile ? ring : tile);
  }
};

template <class E, int kBits>
class WideGemm {
  using Sum = typename E::Sum;
  using Shared = WideShared<E, kBits>;

 public:
  __device__ __forceinline__ WideGemm(const GemmParams& params, Shared* s)
      : p(params), shared(*s), data(reinterpret_cast<uint4*>(reinterpret_cast<uint8_t*>(s) + Shared::header())) {}

  __device__ __forceinline__ void run() {
    n0 = static_cast<int32_t>(blockIdx.x) * Wide::kRowsW;
    if (!place(static_cast<int32_t>(blockIdx.y))) return;
    if (threadIdx.x == 0) {
      walker.start(p, 0, p.k, !E::kInteger);
      for (int i = 0; i <= p.stages; ++i) walker.next(p, !E::kInteger, &shared.steps[i]);
    }
    fill_tables(p, &shared.tables, static_cast<int>(threadIdx.x), Wide::kThreads);
    __syncthreads();
    // steps before 0 only fill
    int stage = 1, ahead_stage = 0;  // of steps s and s + stages - 1; stage 1 - stages + stages = 1
#pragma unroll 1
    for (int32_t s = 1 - p.stages;; ++s) {
      const Step& step = shared.steps[s & (kStepRing - 1)];
      const Step& ahead = shared.steps[(s + p.stages - 1) & (kStepRing - 1)];
      if (s >= 0) {
        wait_stages(p.stages - 2);
        __syncthreads();
        if (step.pieces[0].length == 0) break;  // the same for all
        // seen by all behind the next barrier; nobody reads its place before
        if (threadIdx.x == 0) walker.next(p, !E::kInteger, &shared.steps[(s + p.stages + 1) & (kStepRing - 1)]);
      }
      scales_load(ahead.slot_column[0]);
      fill(ahead, s + p.stages - 1, ahead_stage);
      ptx::cp_async_commit_group();
      if (s >= 0) compute(step, stage);
      scales_store(ahead, ahead_stage);
      stage = stage + 1 == p.stages ? 0 : stage + 1;
      ahead_stage = ahead_stage + 1 == p.stages ? 0 : ahead_stage + 1;
    }
    ptx::cp_async_wait_group<0>();
    write();
  }

 private:
  // Which rows of x, of which expert. False: none.
  __device__ __forceinline__ bool place(int32_t tile) {
    row_end = p.m;
    expert = 0;
    m0 = tile * Wide::kRowsX;
    if (p.offs == nullptr) return true;
    int32_t begin = 0;
    for (; expert < p.experts; ++expert) {
      row_end = p.offs[expert];
      const int32_t tiles = (row_end - begin + Wide::kRowsX - 1) / Wide::kRowsX;
      if (tile < tiles) break;
      tile -= tiles;
      begin = row_end;
    }
    if (expert == p.experts) return false;
    m0 = begin + tile * Wide::kRowsX;
    return true;
  }

  __device__ __forceinline__ uint4* weights(int stage) const {
    return data + stage * ((Shared::weights(p.w_terms) + Shared::rows(p.x_terms)) / 16);
  }
  __device__ __forceinline__ WideScales* scales(int stage) const {
    const int64_t at = p.stages * (Shared::weights(p.w_terms) + Shared::rows(p.x_terms)) / 16;
    return reinterpret_cast<WideScales*>(data + at) + stage * p.slots;
  }
  __device__ __forceinline__ uint4* rows(int stage) const { return weights(stage) + Shared::weights(p.w_terms) / 16; }

  __device__ __forceinline__ void fill(const Step& step, int32_t s, int stage) {
    if (step.pieces[0].length == 0) return;
    const int thread = static_cast<int>(threadIdx.x);
    if constexpr (kBits > 0) {
      copy_weights<kBits>(static_cast<const uint8_t*>(p.w.low.codes.data) + expert * p.w_step, p.n, p.k, n0 / 16,
                          Wide::kRowsW / 16, s, weights(stage), thread, Wide::kThreads);
    } else {
      stage_rows<E>(p.w, expert * p.w_step, expert * p.w_zero_step, shared.tables.w[0], p.w_terms, n0, Wide::kRowsW,
                    p.n, step, p.chunk, weights(stage), thread, Wide::kThreads);
    }
    if (p.x_async) {
      copy_rows<E>(p.x, p.k, m0, Wide::kRowsX, row_end, s, rows(stage), thread, Wide::kThreads);
    } else {
      stage_rows<E>(p.x, 0, 0, shared.tables.x, p.x_terms, m0, Wide::kRowsX, row_end, step, p.chunk, rows(stage),
                    thread, Wide::kThreads);
    }
  }

  // A thread has one row of w, and one of x where it is below 64. The first scales of a step, mostly its only ones, go
  // through registers, so that their loads are under way while the step before is multiplied.
  struct Scales {
    float w, w_zero, x;
    int32_t w_int, x_int;
  };
  __device__ __forceinline__ bool has_x_values() const {
    return static_cast<int>(threadIdx.x) < Wide::kRowsX && (p.x_scale_joins || p.x_sums || p.w_sums);
  }
  __device__ __forceinline__ void scales_load(int32_t c) {
    if (c < 0) return;
    const int thread = static_cast<int>(threadIdx.x);
    const int32_t r = min(n0 + thread, p.n - 1), m = min(m0 + thread, row_end - 1);
    loaded.w = p.w.scale_at(r, c, expert * p.w_scale_step, expert * p.w_second_step);
    if (p.w.has_zero) {
      if (!E::kInteger || p.w.zero_is_float) loaded.w_zero = p.w.zero_at(r, c, expert * p.w_zero_step);
      if (E::kInteger) loaded.w_int = p.w.integer_zero_at(r, c, expert * p.w_zero_step);
    }
    if (has_x_values()) {
      loaded.x = p.x_scale_joins ? p.x.scale_at(m, c) : 1.0f;
      if (E::kInteger) loaded.x_int = p.x.integer_zero_at(m, c);
    }
  }
  __device__ __forceinline__ void scales_store(const Step& step, int stage) {
    WideScales* to = scales(stage);
    const int thread = static_cast<int>(threadIdx.x);
    const float w_unit = E::kInteger ? power_of_two(-p.w.bytes.shift) : 1.0f;
    const float x_unit = E::kInteger ? power_of_two(-p.x.bytes.shift) : 1.0f;
#pragma unroll 1
    for (int i = 0; i < 4 && step.slot_column[i] >= 0; ++i) {
      if (i > 0) scales_load(step.slot_column[i]);
      to[i].w[thread] = loaded.w * w_unit;
      if (p.w.has_zero) {
        if (!E::kInteger || p.w.zero_is_float) {
          to[i].w_zero[thread] = loaded.w_zero * static_cast<float>(E::kInteger ? 1 << p.w.bytes.shift : 1);
        }
        if (E::kInteger) to[i].w_int[thread] = loaded.w_int * (1 << p.w.bytes.shift);
      }
      if (has_x_values()) {
        to[i].x[thread] = loaded.x * x_unit;
        if (E::kInteger) to[i].x_int[thread] = loaded.x_int * (1 << p.x.bytes.shift);
      }
    }
  }

  __device__ __forceinline__ void compute(const Step& step, int stage) {
    const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
    const int g = lane / 4, t = lane % 4;
    const WideScales* values = scales(stage);
    uint32_t words[2][kBits > 0 ? kBits : 1];
    if constexpr (kBits > 0) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        load_words<kBits>(reinterpret_cast<const uint32_t*>(weights(stage)) + (2 * warp + i) * 32 * kBits, lane,
                          words[i]);
      }
    }
    const int pieces = kStepSlots / p.chunk;
#pragma unroll 1
    for (int j = 0; j < pieces; ++j) {
      const Piece piece = step.pieces[j];
      if (piece.length == 0) break;
      for (int tw = 0; tw < p.w_terms; ++tw) {
        uint32_t a[2][4];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          if constexpr (kBits > 0) {
            float zero[2] = {0.0f, 0.0f};
            if (!E::kInteger && p.w.has_zero) {
              const int row = 32 * warp + 16 * i + g;
              zero[0] = values[piece.slot].w_zero[row], zero[1] = values[piece.slot].w_zero[row + 8];
            }
            weight_fragment<E, kBits>(p, words[i], j, zero, a[i]);
          } else {
            row_fragment<E>(p.chunk, weights(stage) + tw * Wide::kRowsW * 8, 32 * warp + 16 * i, j, lane, a[i]);
          }
        }
        if (E::kInteger && p.w_sums) add_weight_sums(a, piece.length, t);
        for (int tx = 0; tx < p.x_terms && tw + tx < kMaxTerms; ++tx) {
          const uint4* x = rows(stage) + tx * Wide::kRowsX * 8;
#pragma unroll
          for (int q = 0; q < 4; ++q) {
            uint32_t b[2][2];
            const uint32_t flip = p.x_async && p.x.bytes.offset != 0 ? 0x80808080u : 0u;
            x_fragments<E, (kBits > 0)>(p.chunk, x, 16 * q, j, lane, piece.length, flip, b);
#pragma unroll
            for (int h = 0; h < 2; ++h) {
              if (E::kInteger && p.x_sums) {
                x_sums[2 * q + h] = __dp4a(static_cast<int>(b[h][0]), 0x01010101, x_sums[2 * q + h]);
                if (p.chunk == 32) x_sums[2 * q + h] = __dp4a(static_cast<int>(b[h][1]), 0x01010101, x_sums[2 * q + h]);
              }
#pragma unroll
              for (int i = 0; i < 2; ++i) multiply<E>(p.chunk, sum[i][2 * q + h], a[i], b[h]);
            }
          }
        }
      }
      if (piece.joins) join(piece, values[piece.slot], lane, warp);
    }
  }

  __device__ __forceinline__ void add_weight_sums(const uint32_t (&a)[2][4], int length, int t) {
    const int low = static_cast<int>(ones(length - 4 * t)), high = static_cast<int>(ones(length - 16 - 4 * t));
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        w_sums[i][h] = __dp4a(static_cast<int>(a[i][h]), low, w_sums[i][h]);
        if (p.chunk == 32) w_sums[i][h] = __dp4a(static_cast<int>(a[i][2 + h]), high, w_sums[i][h]);
      }
    }
  }

  __device__ __forceinline__ void join(const Piece& piece, const WideScales& scales, int lane, int warp) {
    const int g = lane / 4, t = lane % 4;
    const bool sums = E::kInteger && (p.w_sums || p.x_sums);
    const bool factors = p.w.bytes.factor * p.x.bytes.factor != 1;
    if (sums) {  // over the four lanes of a row
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          w_sums[i][h] += __shfl_xor_sync(0xffffffffu, w_sums[i][h], 1);
          w_sums[i][h] += __shfl_xor_sync(0xffffffffu, w_sums[i][h], 2);
        }
      }
    }
#pragma unroll
    for (int q = 0; q < 8; ++q) {
      int32_t x_sum[2] = {0, 0};
      if (sums) {
        int32_t v = x_sums[q];
        v += __shfl_xor_sync(0xffffffffu, v, 1);
        v += __shfl_xor_sync(0xffffffffu, v, 2);
        x_sum[0] = __shfl_sync(0xffffffffu, v, 8 * t);
        x_sum[1] = __shfl_sync(0xffffffffu, v, 8 * t + 4);
        x_sums[q] = 0;
      }
      if (E::kInteger && (sums || p.raw || factors)) {
        join_out_of_line(q, piece, scales, lane, warp, x_sum);
        continue;
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          float scale = scales.w[32 * warp + 16 * i + g + 8 * (e / 2)];
          if (p.x_scale_joins) scale *= scales.x[8 * q + 2 * t + e % 2];
          result[i][q][e] = __fmaf_rn(static_cast<float>(sum[i][q][e]), scale, result[i][q][e]);
          sum[i][q][e] = 0;
        }
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) w_sums[i][0] = w_sums[i][1] = 0;
  }

  // The eight sums of fragment q of x by way of shared memory, so that the long arithmetic stands in a loop.
  __device__ __forceinline__ void join_out_of_line(int q, const Piece& piece, const WideScales& scales, int lane,
                                                   int warp, const int32_t (&x_sum)[2]) {
    int32_t (*sums)[Wide::kThreads] = shared.sums;
    float (*ys)[Wide::kThreads] = shared.results;
    const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      sums[j][thread] = static_cast<int32_t>(sum[j / 4][q][j % 4]);
      ys[j][thread] = result[j / 4][q][j % 4];
      sum[j / 4][q][j % 4] = 0;
    }
#pragma unroll 1
    for (int j = 0; j < 8; ++j) {
      const int half = j % 4 / 2;
      const int row = 32 * warp + 16 * (j / 4) + lane / 4 + 8 * half, col = 8 * q + lane % 4 * 2 + j % 2;
      JoinValues v{};
      v.scale = scales.w[row];
      if (p.x_scale_joins) v.scale *= scales.x[col];
      v.length = piece.joined;
      if (p.w_sums || p.x_sums) {
        if (p.w.has_zero && !p.w.zero_is_float) v.w_zero = scales.w_int[row];
        if (p.w.zero_is_float) v.w_float_zero = scales.w_zero[row];
        v.x_zero = scales.x_int[col];
        v.x_sum = j % 2 ? x_sum[1] : x_sum[0];
        v.w_sum = j < 4 ? (half ? w_sums[0][1] : w_sums[0][0]) : (half ? w_sums[1][1] : w_sums[1][0]);
      }
      ys[j][thread] = join_corrected(p, sums[j][thread], v, ys[j][thread]);
    }
#pragma unroll
    for (int j = 0; j < 8; ++j) result[j / 4][q][j % 4] = ys[j][thread];
  }

  // Through shared memory: neighbouring threads then write neighbouring columns of the output, and the rest of the
  // arithmetic stands once.
  __device__ __forceinline__ void write() {
    constexpr int kStride = Wide::kRowsW + 4;  // four rows of x fall into different banks
    const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
    auto* tile = reinterpret_cast<float*>(data);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int q = 0; q < 8; ++q) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          tile[(8 * q + lane % 4 * 2 + e % 2) * kStride + 32 * warp + 16 * i + lane / 4 + 8 * (e / 2)] =
              result[i][q][e];
        }
      }
    }
    __syncthreads();
    const int32_t n = n0 + static_cast<int32_t>(threadIdx.x);
    if (n >= p.n) return;
#pragma unroll 1
    for (int row = 0; row < Wide::kRowsX && m0 + row < row_end; ++row) {
      finish(p, m0 + row, n, expert, tile[row * kStride + static_cast<int>(threadIdx.x)]);
    }
  }

  const GemmParams& p;
  Shared& shared;
  uint4* data;
  Walker walker;  // of thread 0
  int32_t n0, m0, row_end, expert;
  Scales loaded;
  Sum sum[2][8][4] = {};
  float result[2][8][4] = {};
  int32_t w_sums[2][2] = {}, x_sums[8] = {};
};

template <class E, int kBits>
__global__ void __launch_bounds__(Wide::kThreads) gemm_wide(const __grid_constant__ GemmParams p) {
  if constexpr (is_native<E>()) {
    extern __shared__ __align__(128) uint8_t memory[];
    WideGemm<E, kBits>(p, reinterpret_cast<WideShared<E, kBits>*>(memory)).run();
  }
}

}  // namespace lowbit::cuda
