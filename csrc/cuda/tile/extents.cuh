// The extents of the blocks of a matrix (ref/scaling.h), by one read of it. Values are kept as the bits of magnitudes,
// whose order as integers is that of the floats: atomicMax is exact, so the result does not depend on who comes first.
#pragma once

#include <cstdint>

#include "common/spec.h"
#include "cuda/launch.h"
#include "cuda/ptx/bits.cuh"
#include "cuda/tile/tiling.cuh"

namespace lowbit::cuda {

// Of some elements: bits of the largest magnitude; asymmetric: of the largest value and of the least one's magnitude,
// the range widened to hold 0. Anything not finite gives at least the bits of infinity.
struct Extent {
  uint32_t most = 0, least = 0;

  __device__ __forceinline__ void add(float v, bool asymmetric) {
    const uint32_t m = magnitude_bits(v);
    if (asymmetric && v < 0) {
      least = max(least, m);
    } else {
      most = max(most, m);
    }
  }
  __device__ __forceinline__ void add(const float (&v)[kVector], bool asymmetric) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) add(v[i], asymmetric);
  }
  __device__ __forceinline__ void join(const Extent& o) { most = max(most, o.most), least = max(least, o.least); }
  // Over `lanes` neighbouring lanes, a power of two; all 32 call it.
  __device__ __forceinline__ void join_lanes(int lanes, bool asymmetric) {
    for (int d = lanes / 2; d > 0; d /= 2) {
      most = max(most, __shfl_xor_sync(0xffffffffu, most, d));
      if (asymmetric) least = max(least, __shfl_xor_sync(0xffffffffu, least, d));
    }
  }
  __device__ __forceinline__ bool finite() const { return max(most, least) < 0x7f800000u; }
  __device__ __forceinline__ float low() const { return -from_bits(least); }
  __device__ __forceinline__ float width() const { return from_bits(most) + from_bits(least); }
};

// Extents in device memory, zeroed: one per block, row by row.
struct ExtentStore {
  uint32_t* most = nullptr;
  uint32_t* least = nullptr;  // asymmetric only
  Divisor block_rows, block_cols;
  int32_t cols = 0;  // blocks in a row

  __device__ __forceinline__ void add(int64_t at, const Extent& e) const {
    if (e.most != 0) atomicMax(most + at, e.most);
    if (least != nullptr && e.least != 0) atomicMax(least + at, e.least);
  }
  __device__ __forceinline__ Extent get(int64_t at) const { return {most[at], least != nullptr ? least[at] : 0u}; }
};

struct ExtentJob {
  Tiling tiling;
  int32_t rows = 0, cols = 0;
  int32_t run = 1;  // tiles one below the other that a block of threads walks through
  int lanes = 1;    // neighbouring lanes that always share a block
  ExtentStore store;
  int32_t* findings = nullptr;

  ExtentJob(int64_t rows_, int64_t cols_, const ExtentStore& store_, int least_vectors, int32_t* found)
      : tiling(Tiling::of(rows_, cols_, least_vectors)),
        rows(static_cast<int32_t>(rows_)),
        cols(static_cast<int32_t>(cols_)),
        store(store_),
        findings(found) {
    const int high = store.block_rows.size, wide = store.block_cols.size;
    const int width = wide == 0 ? kVector << tiling.log2 : wide;
    while (lanes < 32 && lanes < 1 << tiling.log2 && width % (2 * lanes * kVector) == 0) lanes *= 2;
    if (high == 0) {  // few blocks of threads, so few atomics on the one word of a column of blocks
      run = static_cast<int32_t>(ceil_divide(tiling.grid(), 2048));
    } else if (high % tiling.rows() == 0) {
      run = high / tiling.rows();
    }
  }
  unsigned grid() const { return static_cast<unsigned>(tiling.col_tiles * ceil_divide(tiling.row_tiles, run)); }
};

// `source(r, c, valid, v)` gives elements [c, c + 8) of row r, zeros where there are none; all threads call it.
template <class Source>
__device__ __forceinline__ void find_extents(const ExtentJob& job, const Source& source) {
  const ExtentStore& store = job.store;
  const bool asymmetric = store.least != nullptr;
  const bool whole = store.block_cols.size % kVector == 0;
  const int32_t run = job.tiling.by_col_tiles(static_cast<int32_t>(blockIdx.x));
  const int32_t col_tile = static_cast<int32_t>(blockIdx.x) - run * job.tiling.col_tiles;
  const int32_t end = min((run + 1) * job.run, job.tiling.row_tiles);
  int64_t current = -1;
  Extent extent;
#pragma unroll 1
  for (int32_t row_tile = run * job.run; row_tile <= end; ++row_tile) {
    const Place p(job.tiling, row_tile, col_tile);
    const bool valid = row_tile < end && p.r < job.rows;
    const int64_t row = int64_t{store.block_rows(p.r)} * store.cols;
    const int64_t here = whole && valid && p.c < job.cols ? row + store.block_cols(p.c) : -1;
    // what was gathered leaves when the block changes, and after the last tile
    if (__any_sync(0xffffffffu, row_tile == end || here != current)) {
      if (!extent.finite()) report(job.findings, kNonFinite);
      const int64_t first = __shfl_sync(0xffffffffu, current, 0);
      if (__all_sync(0xffffffffu, current == first)) {
        extent.most = ptx::redux_max_u32(extent.most);
        if (asymmetric) extent.least = ptx::redux_max_u32(extent.least);
        if (threadIdx.x % 32 == 0 && current >= 0) store.add(current, extent);
      } else {
        extent.join_lanes(job.lanes, asymmetric);
        if (threadIdx.x % static_cast<unsigned>(job.lanes) == 0 && current >= 0) store.add(current, extent);
      }
      current = here;
      extent = Extent();
    }
    if (row_tile == end) break;
    float v[kVector];
    source(p.r, p.c, valid, v);
    if (whole) {
      extent.add(v, asymmetric);
      continue;
    }
#pragma unroll 1
    for (int i = 0; i < kVector && valid && p.c + i < job.cols; ++i) {
      Extent own;
      own.add(v[0], asymmetric);
      if (!own.finite()) report(job.findings, kNonFinite);
      store.add(row + store.block_cols(p.c + i), own);
      turn(v);
    }
  }
}

}  // namespace lowbit::cuda
