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

#include "cuda/tile/gemm_steps.cuh"

namespace lowbit::cuda {

struct Wide {
  static constexpr int kThreads = 128, kRowsW = 128, kRowsX = 64;
  template <int kBits>
  static constexpr int stages() {
    return kBits > 0 ? 4 : 2;
  }
};

// Scales of a step: [slot][...] floats or integers.
struct WideScales {
  float w[4][Wide::kRowsW];
  float w_zero[4][Wide::kRowsW];  // float engines; of byte engines where it is a float
  int32_t w_int[4][Wide::kRowsW];
  float x[4][Wide::kRowsX];
  int32_t x_int[4][Wide::kRowsX];
};

template <class E, int kBits>
struct WideShared {
  Step steps[Wide::stages<kBits>() + 2];
  Tables<E> tables;
  WideScales scales[Wide::stages<kBits>()];

  static constexpr int64_t weights(int terms) {
    return kBits > 0 ? Wide::kRowsW / 16 * 128 * kBits : Wide::kRowsW * E::kRowBytes * terms;
  }
  static constexpr int64_t rows(int terms) { return Wide::kRowsX * E::kRowBytes * terms; }
  static constexpr int64_t header() { return (static_cast<int64_t>(sizeof(WideShared)) + 127) / 128 * 128; }
  static constexpr int64_t bytes(int w_terms, int x_terms) {
    return header() + Wide::stages<kBits>() * (weights(w_terms) + rows(x_terms));
  }
};

template <class E, int kBits>
class WideGemm {
  static constexpr int kStages = Wide::stages<kBits>();
  using Sum = typename E::Sum;
  using Shared = WideShared<E, kBits>;

 public:
  __device__ __forceinline__ WideGemm(const GemmParams& params, Shared* s)
      : p(params), shared(*s), data(reinterpret_cast<uint4*>(reinterpret_cast<uint8_t*>(s) + Shared::header())) {}

  __device__ __forceinline__ void run() {
    n0 = static_cast<int32_t>(blockIdx.x) * Wide::kRowsW;
    if (!place(static_cast<int32_t>(blockIdx.y))) return;
    // Without an order the walk knows how many steps there are only at its end.
    if (threadIdx.x == 0) {
      walker.start(p, 0, p.k, !E::kInteger);
      for (int i = 0; i <= kStages; ++i) walker.next(p, !E::kInteger, &shared.steps[i]);
    }
    fill_tables(p, &shared.tables, static_cast<int>(threadIdx.x), Wide::kThreads);
    __syncthreads();
    for (int s = 0; s < kStages - 1; ++s) {
      fill(s);
      scales_load(s);
      scales_store(s);
      ptx::cp_async_commit_group();
    }
    for (int32_t s = 0;; ++s) {
      ptx::cp_async_wait_group<kStages - 2>();
      __syncthreads();
      const Step& step = shared.steps[s % (kStages + 2)];
      if (step.pieces[0].length == 0) break;  // the same for all
      // visible to all behind the next barrier, before which nobody reads its place
      if (threadIdx.x == 0) walker.next(p, !E::kInteger, &shared.steps[(s + kStages + 1) % (kStages + 2)]);
      scales_load(s + kStages - 1);
      fill(s + kStages - 1);
      ptx::cp_async_commit_group();
      compute(step, s % kStages);
      scales_store(s + kStages - 1);
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
    advance(&p.w.low.codes.data, p.w_step);
    advance(&p.w.scale.data, p.w_scale_step);
    advance(&p.w.scale.codes.data, p.w_scale_step);
    advance(&p.w.scale.second, p.w_second_step);
    advance(&p.w.zero.data, p.w_zero_step);
    return true;
  }
  template <class T>
  __device__ __forceinline__ void advance(T** pointer, int64_t step) {
    if (*pointer == nullptr) return;
    *pointer = reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(*pointer) + static_cast<uintptr_t>(expert * step));
  }

  __device__ __forceinline__ uint4* weights(int stage) const {
    return data + stage * ((Shared::weights(p.w_terms) + Shared::rows(p.x_terms)) / 16);
  }
  __device__ __forceinline__ uint4* rows(int stage) const { return weights(stage) + Shared::weights(p.w_terms) / 16; }

  __device__ __forceinline__ void fill(int32_t s) {
    const Step& step = shared.steps[s % (kStages + 2)];
    if (step.pieces[0].length == 0) return;
    const int stage = s % kStages, thread = static_cast<int>(threadIdx.x);
    if constexpr (kBits > 0) {
      copy_weights<kBits>(static_cast<const uint8_t*>(p.w.low.codes.data), p.n, p.k, n0 / 16, Wide::kRowsW / 16, s,
                          weights(stage), thread, Wide::kThreads);
    } else {
      stage_rows<E>(p.w, shared.tables.w[0], p.w_terms, n0, Wide::kRowsW, p.n, step, p.chunk, weights(stage), thread,
                    Wide::kThreads);
    }
    if (p.x_async) {
      copy_rows<E>(p.x, p.k, m0, Wide::kRowsX, row_end, s, rows(stage), thread, Wide::kThreads);
    } else {
      stage_rows<E>(p.x, shared.tables.x, p.x_terms, m0, Wide::kRowsX, row_end, step, p.chunk, rows(stage), thread,
                    Wide::kThreads);
    }
  }

  // A thread has one row of w, and one of x where it is below 64: their scales go through registers, so that the loads
  // are under way while the step before is multiplied.
  __device__ __forceinline__ void scales_load(int32_t s) {
    const Step& step = shared.steps[s % (kStages + 2)];
    const int thread = static_cast<int>(threadIdx.x);
    const int32_t r = min(n0 + thread, p.n - 1), m = min(m0 + thread, row_end - 1);
    const bool has_x = thread < Wide::kRowsX && (p.x_scale_joins || p.x_sums || p.w_sums);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int32_t c = step.slot_column[i];
      if (c < 0) continue;
      loaded.w[i] = p.w.scale_at(r, c);
      if (p.w.has_zero) {
        if (!E::kInteger || p.w.zero_is_float) loaded.w_zero[i] = p.w.zero_at(r, c);
        if (E::kInteger) loaded.w_int[i] = p.w.integer_zero_at(r, c);
      }
      if (has_x) {
        loaded.x[i] = p.x_scale_joins ? p.x.scale_at(m, c) : 1.0f;
        if (E::kInteger) loaded.x_int[i] = p.x.integer_zero_at(m, c);
      }
    }
  }
  __device__ __forceinline__ void scales_store(int32_t s) {
    const Step& step = shared.steps[s % (kStages + 2)];
    WideScales& to = shared.scales[s % kStages];
    const int thread = static_cast<int>(threadIdx.x);
    const bool has_x = thread < Wide::kRowsX && (p.x_scale_joins || p.x_sums || p.w_sums);
    const float w_unit = E::kInteger ? power_of_two(-p.w.bytes.shift) : 1.0f;
    const float x_unit = E::kInteger ? power_of_two(-p.x.bytes.shift) : 1.0f;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (step.slot_column[i] < 0) continue;
      to.w[i][thread] = loaded.w[i] * w_unit;
      if (p.w.has_zero) {
        if (!E::kInteger || p.w.zero_is_float) {
          to.w_zero[i][thread] = loaded.w_zero[i] * static_cast<float>(E::kInteger ? 1 << p.w.bytes.shift : 1);
        }
        if (E::kInteger) to.w_int[i][thread] = loaded.w_int[i] * (1 << p.w.bytes.shift);
      }
      if (has_x) {
        to.x[i][thread] = loaded.x[i] * x_unit;
        if (E::kInteger) to.x_int[i][thread] = loaded.x_int[i] * (1 << p.x.bytes.shift);
      }
    }
  }

  __device__ __forceinline__ void compute(const Step& step, int stage) {
    const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
    const int g = lane / 4, t = lane % 4;
    const WideScales& scales = shared.scales[stage];
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
              zero[0] = scales.w_zero[piece.slot][row], zero[1] = scales.w_zero[piece.slot][row + 8];
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
      if (piece.joins) join(piece, scales, lane, warp);
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
    const int g = lane / 4, t = lane % 4, slot = piece.slot;
    const bool sums = E::kInteger && (p.w_sums || p.x_sums);
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
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int row = 32 * warp + 16 * i + g + 8 * (e / 2), col = 8 * q + 2 * t + e % 2;
          JoinValues v{};
          v.scale = scales.w[slot][row];
          if (p.x_scale_joins) v.scale *= scales.x[slot][col];
          float& y = result[i][q][e];
          if constexpr (E::kInteger) {
            v.length = piece.joined;
            if (sums) {
              if (p.w.has_zero) v.w_zero = scales.w_int[slot][row];
              v.x_zero = scales.x_int[slot][col];
              if (p.w.zero_is_float) v.w_float_zero = scales.w_zero[slot][row];
              v.w_sum = w_sums[i][e / 2], v.x_sum = x_sum[e % 2];
            }
            const int64_t total = corrected(p, sum[i][q][e], v);
            y = p.raw ? from_bits(to_bits(y) + static_cast<uint32_t>(total)) : joined(p, total, v, y);
          } else {
            y = __fmaf_rn(sum[i][q][e], v.scale, y);
          }
          sum[i][q][e] = 0;
        }
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) w_sums[i][0] = w_sums[i][1] = 0;
  }

  __device__ __forceinline__ void write() const {
    const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int q = 0; q < 8; ++q) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int32_t n = n0 + 32 * warp + 16 * i + lane / 4 + 8 * (e / 2), m = m0 + 8 * q + lane % 4 * 2 + e % 2;
          if (n < p.n && m < row_end) finish(p, m, n, expert, result[i][q][e]);
        }
      }
    }
  }

  GemmParams p;
  Shared& shared;
  uint4* data;
  Walker walker;  // of thread 0
  int32_t n0, m0, row_end, expert;
  struct {
    float w[4], w_zero[4], x[4];
    int32_t w_int[4], x_int[4];
  } loaded;
  Sum sum[2][8][4] = {};
  float result[2][8][4] = {};
  int32_t w_sums[2][2] = {}, x_sums[8] = {};
};

template <class E, int kBits>
__global__ void __launch_bounds__(Wide::kThreads) gemm_wide(GemmParams p) {
  extern __shared__ __align__(128) uint8_t memory[];
  WideGemm<E, kBits>(p, reinterpret_cast<WideShared<E, kBits>*>(memory)).run();
}

}  // namespace lowbit::cuda
