// Joins what the stripes of the wide loop have left (stripes.cuh): a block has a fragment of four warps, 64 rows of w
// by 8 of x, a thread four outputs, as the lanes of the multiply had them. A kernel of its own: the records of a tile
// are spread over all multiprocessors, where the block that came last to the tile would read them alone, the counters
// that tell which block that is would have to be cleared by a launch too, and the loops keep no registers for it.
#pragma once

#include "cuda/tile/expert_rows.cuh"
#include "cuda/tile/gemm_steps.cuh"
#include "cuda/tile/narrow_join.cuh"
#include "cuda/tile/stripes.cuh"

namespace lowbit::cuda {

template <bool kInteger>
class StripeJoin {
 public:
  __device__ __forceinline__ explicit StripeJoin(const GemmParams& params)
      : p(params), thread(static_cast<int>(threadIdx.x)), fragment(static_cast<int>(blockIdx.y)) {}

  __device__ __forceinline__ void run(int32_t stripes) {
    const auto tile = static_cast<int32_t>(blockIdx.x), row_tile = p.across(tile);
    ExpertRows rows{0, row_tile * kWideColumns, p.m};
    if (p.offs != nullptr && !find_expert_rows(p.offs, p.experts, p.m, kWideColumns, row_tile, &rows)) return;
    if (rows.begin + fragment / 2 * 8 >= rows.end) return;
#pragma unroll 1
    for (int32_t stripe = 0; stripe < stripes; ++stripe) {
      StripeRecord* record = stripe_records(p, tile, stripe, stripes);
      if (leaves_results(p, stripe)) {
        take(*record);
      } else {
        join(record, p.counts[int64_t{tile} * stripes + stripe]);
      }
    }
    const int32_t n0 = (tile - row_tile * p.across.size) * kWideTile;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int32_t n = n0 + row(e / 2), m = rows.begin + column(e % 2);
      if (n < p.n && m < rows.end) finish(p, m, n, last_scale(p, m), bias_at(p, n, rows.expert), out[e].y);
    }
  }

 private:
  // Of the tile: the rows of w and of x that outputs 2 h + j have.
  __device__ __forceinline__ int row(int h) const {
    return thread / 32 * 32 + fragment % 2 * 16 + thread % 32 / 4 + 8 * h;
  }
  __device__ __forceinline__ int column(int j) const { return fragment / 2 * 8 + thread % 4 * 2 + j; }

  __device__ __forceinline__ void take(const StripeRecord& record) {
    const uint4 v = *record.words(fragment, thread);
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int e = 0; e < 4; ++e) out[e].y = from_bits(p.raw ? to_bits(out[e].y) + words[e] : words[e]);
  }

  // Loads of some records are under way at once: nothing that is joined says where the next one lies.
  __device__ __forceinline__ void join(StripeRecord* record, int32_t count) {
    const bool sums = p.w_sums || p.x_sums, whole_zeros = p.w.has_zero && !p.w.zero_is_float;
#pragma unroll 4
    for (int32_t i = 0; i < count; ++i) {
      const StripeRecord& r = *record_behind(p, record, i);
      const uint4 v = *r.words(fragment, thread);
      const uint32_t words[4] = {v.x, v.y, v.z, v.w};
      const float w_scale[2] = {r.w_scale[row(0)], r.w_scale[row(1)]};
      float x_scale[2] = {1.0f, 1.0f};
      if (p.x_scale_joins) x_scale[0] = r.x_scale[column(0)], x_scale[1] = r.x_scale[column(1)];
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int h = e / 2, j = e % 2;
        const float scale = w_scale[h] * x_scale[j];
        if constexpr (kInteger) {
          PartSums s{};
          if (sums) {
            if (whole_zeros) s.w_zero = r.w_zero[row(h)];
            if (p.x.has_zero) s.x_zero = r.x_zero[column(j)];
            s.w_sum = r.w_sum[row(h)], s.x_sum = r.x_sum[column(j)], s.length = r.length;
          }
          out[e].add(p, static_cast<int32_t>(words[e]), s);
          if (r.closes) out[e].close(p, scale, p.w.zero_is_float ? r.w_float_zero[row(h)] : 0.0f);
        } else {
          out[e].y = __fmaf_rn(from_bits(words[e]), scale, out[e].y);
        }
      }
    }
  }

  const GemmParams& p;
  const int thread, fragment;
  NarrowJoin out[4];
};

template <bool kInteger>
__global__ void __launch_bounds__(kWideThreads) join_stripes(const __grid_constant__ GemmParams p, int32_t stripes) {
  StripeJoin<kInteger>(p).run(stripes);
}

}  // namespace lowbit::cuda
