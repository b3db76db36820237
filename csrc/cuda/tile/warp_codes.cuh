// Bit planes of the 16 rows of w that a warp of the narrow loop has, on their way through shared memory: whole sectors,
// 256 columns of a row of a plane, which serve four steps. A warp walks its own columns, so it has windows of its own:
// a ring of two for each matrix (two matrices where widths are mixed), the one that becomes rows and the one behind it.
//
//   in a window: plane b from word 128 b on, of it words 4 i .. 4 i + 3 of row r at 8 r + 4 (i ^ r / 4 % 2): the lanes
//   of a copy (four rows, or four rows of chunks) and of a read (eight rows, two words of each) meet all banks
#pragma once

#include <cstdint>

#include "cuda/tile/gemm_shape.h"
#include "cuda/tile/operand.cuh"

namespace lowbit::cuda {

struct WarpCodes {
  static constexpr int kColumns = 32 * kWindowWords, kPlane = kNarrowTile * kWindowWords;

  // The codes of a step: the window they lie in, and the first column as the matrix counts.
  struct Step {
    const uint32_t* window = nullptr;
    int32_t column = 0;
    int source = 0;
  };

  // Of a warp.
  static constexpr __host__ __device__ int64_t bytes(const Operand& o) {
    return int64_t{4} * kPlane * 2 * (o.low.format.row.bits + (o.high_groups != nullptr ? o.high.format.row.bits : 0));
  }

  // Which windows one that walks the columns has met: the last one of each matrix, and how many.
  struct Place {
    int32_t last[2] = {-1, -1};
    int32_t count[2] = {0, 0};

    __device__ __forceinline__ bool is_new(int source, int32_t index) const {
      return index != (source != 0 ? last[1] : last[0]);
    }
    __device__ __forceinline__ int32_t count_of(int source) const { return source != 0 ? count[1] : count[0]; }
    __device__ __forceinline__ void meet(int source, int32_t index) {
      if (source != 0) {
        count[1] += index != last[1], last[1] = index;
      } else {
        count[0] += index != last[0], last[0] = index;
      }
    }
  };

  static __device__ __forceinline__ Operand::Column column_of(const Operand& o, int32_t c) {
    return o.high_groups != nullptr ? o.column_of(c) : Operand::Column{c, 0};
  }
  // The ring's place of the `count`-th window, from 1.
  static __device__ __forceinline__ uint32_t* window(const Operand& o, uint32_t* rings, int source, int32_t count) {
    const int low = o.low.format.row.bits, bits = source != 0 ? o.high.format.row.bits : low;
    return rings + kPlane * ((source != 0 ? 2 * low : 0) + (count & 1) * bits);
  }

  // The warp brings window `index` of the rows from row0 on; those from row_end on are copies of the last.
  static __device__ __forceinline__ void copy(const Operand& o, int source, int32_t index, int32_t row0,
                                              int32_t row_end, uint32_t* to, int lane) {
    const CodeLayout& codes = source != 0 ? o.high.codes : o.low.codes;
    const auto* data = static_cast<const uint32_t*>(codes.data);
    const int32_t words = (static_cast<int32_t>(codes.cols) + 31) / 32;
    const bool chunks =
        reinterpret_cast<uintptr_t>(data) % 16 == 0 && codes.row_stride % 4 == 0 && codes.plane_stride % 4 == 0;
    const int each = chunks ? 4 : 1, across = kWindowWords / each;  // words that a lane moves, lanes of a row
    const int at = lane % across * each, first = lane / across;
    const int32_t left = words - (index * kWindowWords + at);
    const int bytes = 4 * min(max(left, 0), each);
    const uint32_t* from = data + (bytes > 0 ? index * kWindowWords + at : 0);
#pragma unroll 1
    for (int b = 0; b < codes.bits; ++b, from += codes.plane_stride, to += kPlane) {
#pragma unroll 1
      for (int row = first; row < kNarrowTile; row += 32 / across) {
        const uint32_t* of_row = from + min(row0 + row, row_end - 1) * codes.row_stride;
        const uint32_t place = ptx::shared_address(to + word_at(row, at));
        if (chunks) {
          ptx::cp_async_cg_16(place, of_row, bytes);
        } else {
          ptx::cp_async_ca_4(place, of_row, bytes);
        }
      }
    }
  }

  // Columns slot .. slot + n - 1 of the step, slot a multiple of 16, of row `row` of the windows.
  static __device__ __forceinline__ Codes16 read(const Operand& o, const Step& step, int row, int slot, int n) {
    Codes16 out;
    out.source = step.source;
    const int bits = step.source != 0 ? o.high.format.row.bits : o.low.format.row.bits;
    const int32_t c = step.column + slot;
    const uint32_t* from = step.window + word_at(row, c / 32 % kWindowWords);
    const int shift = c % 32;
#pragma unroll 1
    for (int b = 0; b < bits; ++b, from += kPlane) out.push_plane(*from >> shift, n);
    return out;
  }

 private:
  static __device__ __forceinline__ int word_at(int row, int word) { return 8 * row + (word ^ (row / 4 % 2 * 4)); }
};

}  // namespace lowbit::cuda
