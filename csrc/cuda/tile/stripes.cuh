// What a block of the wide loop leaves in the workspace where K is shared: a stripe of K is whole parts, and each part
// a record of its sums as they come out of the tensor cores, with the values that its join takes. stripe_join.cuh joins
// the records of a tile in the order of K, so that no number of stripes changes a bit.
//
// Stripe 0 has the beginning of the order: where it ends with a segment it joins its own parts and leaves the results,
// one record. So does every stripe of a raw product, whose sums are added modulo 2^32.
//
//   counts[tile * stripes + stripe]   records that the stripe has left, where these are parts
//   records[tile][...]                those of stripe 0, 1, ..., room for stripe_parts each; of stripe 0 that joins,
//   one
#pragma once

#include <cstdint>

#include "cuda/tile/gemm_params.h"
#include "cuda/tile/gemm_shape.h"

namespace lowbit::cuda {

// Values that the product has none of are not written.
struct StripeRecord {
  float w_scale[kWideTile], w_float_zero[kWideTile];
  int32_t w_zero[kWideTile], w_sum[kWideTile];  // zeros as they are stored, sums of bytes
  float x_scale[kWideColumns];
  int32_t x_zero[kWideColumns], x_sum[kWideColumns];
  int32_t length, closes;  // columns; the segment ends here
  int32_t pad[2];

  // Behind it, by fragment and thread: words c[0 .. 3] of fragments 2 q + i, rows 16 i .. + 15 of a warp's 32 rows of w
  // by rows 8 q .. + 7 of x. Those of rows of x that are not there come last and are left out.
  static constexpr __host__ __device__ int fragments(int64_t rows) {
    return 2 * static_cast<int>((rows < kWideColumns ? rows + 7 : kWideColumns) / 8);
  }
  static constexpr __host__ __device__ int64_t bytes(int64_t rows) {
    return static_cast<int64_t>(sizeof(StripeRecord)) + int64_t{16} * kWideThreads * fragments(rows);
  }
  __device__ __forceinline__ uint4* words(int fragment, int thread) {
    return reinterpret_cast<uint4*>(this + 1) + fragment * kWideThreads + thread;
  }
  __device__ __forceinline__ const uint4* words(int fragment, int thread) const {
    return reinterpret_cast<const uint4*>(this + 1) + fragment * kWideThreads + thread;
  }
};
static_assert(sizeof(StripeRecord) % 16 == 0);

// Whether stripe `stripe` leaves results; the others leave parts.
__device__ __forceinline__ bool leaves_results(const GemmParams& p, int32_t stripe) {
  return p.raw || (p.first_joins && stripe == 0);
}

__device__ __forceinline__ bool shares_k(const GemmParams& p) { return p.stripe_parts > 0; }
// Of a block of the wide loop: parts are left, not joined.
__device__ __forceinline__ bool leaves_parts(const GemmParams& p) {
  return shares_k(p) && !leaves_results(p, static_cast<int32_t>(blockIdx.y));
}

// Record 0 of a stripe of a tile.
__device__ __forceinline__ StripeRecord* stripe_records(const GemmParams& p, int32_t tile, int32_t stripe,
                                                        int32_t stripes) {
  const int64_t spared = p.first_joins ? p.stripe_parts - 1 : 0;  // room that stripe 0 has no need of
  const int64_t all = int64_t{stripes} * p.stripe_parts - spared;
  const int64_t first = tile * all + (stripe > 0 ? int64_t{stripe} * p.stripe_parts - spared : 0);
  return reinterpret_cast<StripeRecord*>(static_cast<uint8_t*>(p.parts) + first * StripeRecord::bytes(p.m));
}
__device__ __forceinline__ StripeRecord* own_records(const GemmParams& p) {
  return stripe_records(p, static_cast<int32_t>(blockIdx.x), static_cast<int32_t>(blockIdx.y),
                        static_cast<int32_t>(gridDim.y));
}
// The record so many further on.
__device__ __forceinline__ StripeRecord* record_behind(const GemmParams& p, StripeRecord* record, int32_t count) {
  return reinterpret_cast<StripeRecord*>(reinterpret_cast<uint8_t*>(record) + count * StripeRecord::bytes(p.m));
}

}  // namespace lowbit::cuda
