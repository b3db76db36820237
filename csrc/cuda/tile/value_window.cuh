// Scales and zero points of a tile of rows on their way through shared memory. Values of one row lie side by side along
// K, those of the next row far off: lanes that read one value of their row each touch a sector of 32 bytes for it,
// again for every group. So cp.async brings a window at a time, the sector of each row, which serves `span` columns of
// K, and windows ahead of the step that is multiplied form a ring.
//
//   in a window: word j (0 .. 7) of row r is word j * (rows + 4) + r: a warp that copies eight words of four rows and
//   one that reads the same word of 32 rows both meet all banks
#pragma once

#include <cstdint>

#include "cuda/ptx/memory.cuh"
#include "cuda/tile/blocks.cuh"

namespace lowbit::cuda {

inline constexpr int kWindowWords = 8;

struct ValueWindow {
  int32_t span = 0;  // columns under a window
  int32_t ring = 0;  // windows in shared memory, a power of two; 0: values are read where they lie
  int32_t log2_size = 0;
  int32_t row_bytes = 0;
  int64_t row_stride = 0;  // bytes

  ValueWindow() = default;
  // Values of single rows that change along K and whose rows are aligned to words.
  ValueWindow(const DeviceValues& v, int64_t cols) {
    const int64_t block = v.block_cols.size, size = v.coded ? 1 : size_of(v.dtype);
    if (v.data == nullptr || v.block_rows.size != 1 || block == 0 || block >= cols) return;
    if (v.coded ? v.codes.kind != Canonical::kBytes : v.col_stride != 1) return;
    row_stride = v.coded ? v.codes.row_stride : v.row_stride * size;
    if (reinterpret_cast<uintptr_t>(v.data) % 4 != 0 || row_stride % 4 != 0) return;
    const int64_t columns = block * (4 * kWindowWords / size);
    if (columns < kLeastSpan || columns > INT32_MAX) return;
    span = static_cast<int32_t>(columns);
    row_bytes = static_cast<int32_t>((cols + block - 1) / block * size);
    log2_size = size == 4 ? 2 : size == 2 ? 1 : 0;
    ring = span >= kAhead ? 2 : 4;
  }

  // As many windows as `columns` of K can meet.
  void set_ring(int64_t columns) {
    if (ring == 0) return;
    for (ring = 1; ring * int64_t{span} < columns + span;) ring *= 2;
  }

  template <int kRows>
  static constexpr int kWords = kWindowWords * (kRows + 4);

  // All threads bring window `index` of the rows from row0 on; those from row_end on are copies of the last.
  template <int kRows, int kThreads>
  __device__ __forceinline__ void copy(const void* values, int64_t step, int32_t index, int32_t row0, int32_t row_end,
                                       uint32_t* windows, int thread) const {
    const int word = thread % kWindowWords;
    const int64_t byte = int64_t{4 * kWindowWords} * index + 4 * word;
    const int bytes = static_cast<int>(min(max(row_bytes - byte, int64_t{0}), int64_t{4}));
    const uint8_t* from = static_cast<const uint8_t*>(values) + step + (bytes > 0 ? byte : 0);
    uint32_t* to = windows + (index & (ring - 1)) * kWords<kRows> + word * (kRows + 4);
#pragma unroll 1
    for (int row = thread / kWindowWords; row < kRows; row += kThreads / kWindowWords) {
      const int32_t r = min(row0 + row, row_end - 1);
      ptx::cp_async_ca_4(ptx::shared_address(to + row), from + r * row_stride, bytes);
    }
  }
  // The word with value j of a row is [r] of these, from bit `shift(j)` on.
  template <int kRows>
  __device__ __forceinline__ const uint32_t* words(const uint32_t* windows, int32_t j) const {
    const int32_t word = j >> (2 - log2_size);
    return windows + (word / kWindowWords & (ring - 1)) * kWords<kRows> + word % kWindowWords * (kRows + 4);
  }
  __device__ __forceinline__ int shift(int32_t j) const { return (j << (3 + log2_size)) & 31; }

 private:
  // Columns that are on the way at most, and those that fewer windows than four serve: 4 steps of 64.
  static constexpr int32_t kAhead = 256, kLeastSpan = 128;
};

}  // namespace lowbit::cuda
