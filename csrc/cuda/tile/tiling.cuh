// How elementwise kernels cut a matrix: a thread holds eight columns, a block of threads a tile of rows x 8 `vectors`
// columns, where `vectors` is a power of two. Consecutive lanes hold consecutive columns, so that any power of two of
// lanes up to min(32, vectors) holds a whole aligned run of columns.
#pragma once

#include <cstdint>

#include "cuda/tile/values.cuh"

namespace lowbit::cuda {

// n / d for 0 <= n < 2^31 by a product and a shift (Granlund and Montgomery 1994); d = 0 gives 0, as a block rule that
// covers everything wants.
struct Divisor {
  uint32_t factor = 0, shift = 31;
  int32_t size = 0;

  Divisor() = default;
  explicit Divisor(int64_t d) : size(static_cast<int32_t>(d)) {
    if (d == 0) return;
    while ((int64_t{1} << (shift - 31)) < d) ++shift;
    factor = static_cast<uint32_t>(((uint64_t{1} << shift) + static_cast<uint64_t>(d) - 1) / static_cast<uint64_t>(d));
  }
  __host__ __device__ __forceinline__ int32_t operator()(int32_t n) const {
    return static_cast<int32_t>(static_cast<uint64_t>(static_cast<uint32_t>(n)) * factor >> shift);
  }
};

__host__ __device__ constexpr int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Tiling {
  int threads = 256;
  int log2 = 2;  // of the vectors in a row of a tile; four lanes make a plane word
  int32_t col_tiles = 0, row_tiles = 0;
  Divisor by_col_tiles;

  // For rows x cols elements, with at least `least` vectors side by side. The widest tile that leaves at most an eighth
  // of its threads without a column.
  static Tiling of(int64_t rows, int64_t cols, int least = 1) {
    Tiling t;
    const int64_t vectors = ceil_divide(cols, kVector);
    int lowest = 2;
    while ((1 << lowest) < least) ++lowest;
    if ((1 << lowest) > t.threads) t.threads = 1 << lowest;
    t.log2 = lowest > 8 ? lowest : 8;
    const auto wasted = [&] { return (ceil_divide(vectors, int64_t{1} << t.log2) << t.log2) - vectors; };
    while (t.log2 > lowest && 8 * wasted() > vectors) --t.log2;
    t.col_tiles = static_cast<int32_t>(ceil_divide(vectors, int64_t{1} << t.log2));
    t.row_tiles = static_cast<int32_t>(ceil_divide(rows, t.rows()));
    t.by_col_tiles = Divisor(t.col_tiles);
    return t;
  }
  __host__ __device__ int32_t rows() const { return threads >> log2; }
  // A tile has at least 2,048 elements: no grid is larger than 2^31 - 1.
  unsigned grid() const { return static_cast<unsigned>(col_tiles) * static_cast<unsigned>(row_tiles); }
};

// The thread's place in a tile: row r, columns c .. c + 7.
struct Place {
  int32_t r, c;

  __device__ __forceinline__ Place(const Tiling& t, int32_t row_tile, int32_t col_tile) {
    r = row_tile * t.rows() + static_cast<int32_t>(threadIdx.x >> t.log2);
    c = ((col_tile << t.log2) + static_cast<int32_t>(threadIdx.x & ((1u << t.log2) - 1u))) * kVector;
  }
  __device__ __forceinline__ Place(const Tiling& t, int32_t tile) {
    const int32_t row_tile = t.by_col_tiles(tile);
    *this = Place(t, row_tile, tile - row_tile * t.col_tiles);
  }
};

__device__ __forceinline__ void report(int32_t* findings, int32_t bits) {
  if (findings != nullptr && bits != 0) atomicOr(findings, bits);
}

}  // namespace lowbit::cuda
