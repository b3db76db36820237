// Codes times codes by bit planes on the binary tensor cores (b1 mma, AND + popcount):
//   sum cw cx = sum over planes i of w, j of x of  a_i b_j popcount(W_i AND X_j),   a, b = 2^place, negative on top of
//   signed codes
//
// The planes of x are stacked as columns: column c of a block is plane c % q of row c / q of x, so that one row of
// 8-bit x fills the eight columns of an instruction and nothing is multiplied for rows that are not there. A warp has
// 16 rows of w with all their planes, whose weighted sum is taken in registers; the q columns of an output are added at
// the end of a segment, by way of shared memory.
//
//   block     64 rows of w, 8 kTiles / q rows of x;  warp i: rows 16 i .. 16 i + 15, all columns
//   step      512 columns of K = 64 bytes of a row of a plane: two multiplies of 16 x 8 x 256
//
// Segments are multiples of 128 columns: a step that one ends in is multiplied in quarters, the rest masked off.
//
// Where tiles are few, blocks share K by whole steps. Each leaves the sums of its pieces (a segment within the steps of
// a block) as records in the workspace; the block that comes last to a tile adds the pieces of a segment, which are
// integers, and joins the segments in the order of K. So the result has the same bits however K is shared.
//
// Floors of a step: 2 kPlanes multiplies for 16 rows x 8 columns; kPlanes x 4 KB of w and kTiles / 2 KB of x from
// memory.
#pragma once

#include "cuda/tile/gemm_shape.h"
#include "cuda/tile/gemm_steps.cuh"
#include "cuda/tile/row_window.cuh"

namespace lowbit::cuda {

struct BinaryParams {
  const uint32_t* w;  // planes [p][n][words], most significant first
  const uint32_t* x;
  int64_t w_row, w_plane, x_row, x_plane;  // words
  int32_t x_planes;
  bool w_signed, x_signed;
  bool w_wide, x_wide;      // rows can be copied 16 bytes at a time
  GemmParams gemm;          // the join, parts and arrivals; cuts, chunk and unit are not used here
  RowWindow scales, zeros;  // of w
  int32_t segment;          // columns; K where there is one
  int32_t share;            // steps of a block; gridDim.y blocks have K together
  int32_t shared_ends;      // segments and shares end together at the multiples of this
};

struct Binary {
  static constexpr int kThreads = 128, kRows = 64, kMostColumns = kBinaryColumns;
  static constexpr int kStepBits = 512, kChunks = kStepBits / 128;  // of 16 bytes
};

// Integers in a record of K shared by blocks: the sums of each row of x over the rows of w, then those of w alone, then
// those of x alone; whole sectors.
constexpr int64_t binary_record(int64_t rows_x) {
  return rows_x * Binary::kRows + Binary::kRows + (rows_x + 7) / 8 * 8;
}

// Shared memory: the stages, the sums of a segment, the results of the segments so far, the sums of w and of x alone,
// the windows of scales and zero points.
template <int kPlanes, int kTiles>
struct BinaryTile {
  static constexpr int kColumns = 8 * kTiles;
  static constexpr int kStageChunks = Binary::kChunks * (kPlanes * Binary::kRows + kColumns);
  // 32 KB on their way hide the latency of memory already where one block runs
  static constexpr int kStages = 2048 / kStageChunks < 3 ? 3 : 2048 / kStageChunks > 6 ? 6 : 2048 / kStageChunks;
  static constexpr int kStride = Binary::kRows + 4;  // of sums: the columns 2 t of the lanes meet different banks
  static constexpr int kBytes = 16 * kStageChunks * kStages + 4 * kColumns * (kStride + Binary::kRows) +
                                4 * (Binary::kRows + kColumns) + 8 * RowWindow::kSharedWords;
  static_assert(4 * binary_record(kColumns) <= 16 * kStageChunks * kStages, "a record fits where the stages were");
};

#if LOWBIT_HAS_B1_MMA

template <int kPlanes, int kTiles>
class BinaryGemm {
  using Tile = BinaryTile<kPlanes, kTiles>;
  static constexpr int kThreads = Binary::kThreads, kRows = Binary::kRows, kChunks = Binary::kChunks;
  static constexpr int kStepBits = Binary::kStepBits, kStages = Tile::kStages;
  static constexpr int kXLines = (Tile::kColumns + 31) / 32;  // columns that a thread copies chunks of

 public:
  __device__ __forceinline__ BinaryGemm(const BinaryParams& params, uint8_t* memory)
      : p(params),
        lane(static_cast<int>(threadIdx.x % 32)),
        warp(static_cast<int>(threadIdx.x / 32)),
        stages(reinterpret_cast<uint4*>(memory)),
        sums(reinterpret_cast<int32_t*>(stages + kStages * Tile::kStageChunks)),
        results(reinterpret_cast<float*>(sums + Tile::kColumns * Tile::kStride)),
        w_sums(reinterpret_cast<int32_t*>(results + Tile::kColumns * kRows)),
        x_sums(w_sums + kRows),
        windows(reinterpret_cast<uint32_t*>(x_sums + Tile::kColumns)) {
    const int32_t down = p.gemm.across(static_cast<int32_t>(blockIdx.x)), rows = Tile::kColumns / p.x_planes;
    n0 = (static_cast<int32_t>(blockIdx.x) - down * p.gemm.across.size) * kRows;
    m0 = down * rows;
    rows_w = min(kRows, p.gemm.n - n0), rows_x = min(rows, p.gemm.m - m0);
    columns = rows_x * p.x_planes;
  }

  __device__ __forceinline__ void run() {
    const bool split = gridDim.y > 1;
    const int32_t steps = (p.gemm.k - 1) / kStepBits + 1;
    const int32_t first = static_cast<int32_t>(blockIdx.y) * p.share, last = min(steps, first + p.share);
    int32_t column = first * kStepBits, begin = column / p.segment * p.segment;  // begin: of the segment
    int32_t* record = split ? records() + record_of(column) * binary_record(rows_x) : nullptr;
    set_lines();
    if (!split) load_windows(begin / p.segment);
#pragma unroll
    for (int i = 0; i < kStages - 1; ++i) {
      if (first + i < last) fill(first + i, i);
      ptx::cp_async_commit_group();
    }
    int stage = 0, ahead = kStages - 1;
#pragma unroll 1
    for (int32_t s = first; s < last; ++s) {
      ptx::cp_async_wait_group<kStages - 2>();
      __syncthreads();
      if (s + kStages - 1 < last) fill(s + kStages - 1, ahead);
      ptx::cp_async_commit_group();
      const int32_t base = s * kStepBits, step_end = end_of(base, kStepBits);
      while (column < step_end) {
        const int32_t segment_end = end_of(begin, p.segment), to = min(segment_end, step_end);
        multiply(stages + stage * Tile::kStageChunks, (column - base) / 128, (to - base + 127) / 128);
        column = to;
        const bool ends = to == segment_end;
        if (ends || (to == step_end && s + 1 == last)) {
          join(begin, segment_end - begin, record);
          if (split) record += binary_record(rows_x);
        }
        if (ends) begin = to;
      }
      stage = stage + 1 == kStages ? 0 : stage + 1;
      ahead = ahead + 1 == kStages ? 0 : ahead + 1;
    }
    ptx::cp_async_wait_group<0>();
    if (split) {
      if (!comes_last()) return;
      join_records();
    }
    write();
  }

 private:
  // K may be 2^31 - 1.
  __device__ __forceinline__ int32_t end_of(int32_t from, int32_t length) const {
    return static_cast<int32_t>(min(static_cast<int64_t>(from) + length, static_cast<int64_t>(p.gemm.k)));
  }

  // ---- copies into a stage: the planes of w, then the columns

  // Thread t copies chunk t % 4 of the rows t / 4 and t / 4 + 32 of each plane of w, and of such columns: four lanes
  // copy 64 bytes that lie together.
  __device__ __forceinline__ void set_lines() {
    const int row = static_cast<int>(threadIdx.x) / kChunks;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int r = row + 32 * i;
      w_lines[i] = r < rows_w ? p.w + static_cast<int64_t>(n0 + r) * p.w_row : nullptr;
    }
#pragma unroll
    for (int i = 0; i < kXLines; ++i) {
      const int c = row + 32 * i;
      x_lines[i] = c < columns ? x_line(c) : nullptr;
    }
  }
  __device__ __forceinline__ const uint32_t* x_line(int column) const {
    const int m = column / p.x_planes;
    return p.x + static_cast<int64_t>(m0 + m) * p.x_row + (column - m * p.x_planes) * p.x_plane;
  }

  __device__ __forceinline__ void fill(int32_t step, int stage) {
    uint4* w = stages + stage * Tile::kStageChunks;
    uint4* x = w + kChunks * kPlanes * kRows;
    const int32_t word = step * (kStepBits / 32), words = (p.gemm.k - 1) / 32 + 1 - word;  // words: left
    if (p.w_wide) {
#pragma unroll
      for (int i = 0; i < kPlanes; ++i)
        fill_chunks<2>(w_lines, i * p.w_plane + word, words, kRows, w + i * kChunks * kRows);
    } else {
#pragma unroll 1
      for (int i = 0; i < kPlanes; ++i) {
        fill_words(words, kRows, w + i * kChunks * kRows, [&](int row) {
          return row < rows_w ? p.w + static_cast<int64_t>(n0 + row) * p.w_row + i * p.w_plane + word : nullptr;
        });
      }
    }
    if (p.x_wide) {
      fill_chunks<kXLines>(x_lines, word, words, tiled_columns(), x);
    } else {
      fill_words(words, tiled_columns(), x,
                 [&](int column) { return column < columns ? x_line(column) + word : nullptr; });
    }
  }
  // Columns that are multiplied: whole instructions, in pairs where there are pairs.
  __device__ __forceinline__ int tiled_columns() const {
    return kTiles == 1 ? Tile::kColumns : (columns + 15) / 16 * 16;
  }

  // Rows t / 4 + 32 i below `rows`: 16 bytes at a time; zeros for the rows that are nullptr and past `words`.
  template <int kLines>
  __device__ __forceinline__ void fill_chunks(const uint32_t* const (&lines)[kLines], int64_t offset, int32_t words,
                                              int rows, uint4* to) {
    const int row = static_cast<int>(threadIdx.x) / kChunks, chunk = static_cast<int>(threadIdx.x) % kChunks;
    const int bytes = 4 * max(0, min(4, words - 4 * chunk));
#pragma unroll
    for (int i = 0; i < kLines; ++i) {
      if (row + 32 * i >= rows) break;
      const bool live = lines[i] != nullptr && bytes > 0;
      ptx::cp_async_cg_16(ptx::shared_address(to + swizzle<kChunks>(row + 32 * i, chunk)),
                          live ? lines[i] + offset + 4 * chunk : p.w, live ? bytes : 0);
    }
  }
  // The same a word a lane, 16 lanes a row. `line`: where the words of a row begin, or nullptr.
  template <class Line>
  __device__ __forceinline__ void fill_words(int32_t words, int rows, uint4* to, const Line& line) {
    const int word = static_cast<int>(threadIdx.x) % 16;
#pragma unroll 2
    for (int row = static_cast<int>(threadIdx.x) / 16; row < rows; row += kThreads / 16) {
      const uint32_t* from = line(row);
      const bool live = from != nullptr && word < words;
      ptx::cp_async_ca_4(ptx::shared_address(to + swizzle<kChunks>(row, word / 4)) + word % 4 * 4,
                         live ? from + word : p.w, live ? 4 : 0);
    }
  }

  // ---- multiplies

  // Chunks of 128 columns [from, to) of the step that begins at `w`.
  __device__ __forceinline__ void multiply(const uint4* w, int from, int to) {
    const uint4* x = w + kChunks * kPlanes * kRows;
    const Chunk a_at = a_chunk(lane), b_at = b_chunk(lane);
#pragma unroll
    for (int half = 0; half < 2; ++half) {  // of 256 columns: chunks 2 half, 2 half + 1
      const bool first = from <= 2 * half && 2 * half < to, second = from <= 2 * half + 1 && 2 * half + 1 < to;
      if (!first && !second) continue;
      uint32_t a[kPlanes][4];
#pragma unroll
      for (int i = 0; i < kPlanes; ++i) {
        const uint4* plane = w + i * kRows * kChunks;
        ptx::ldmatrix_x4(a[i],
                         ptx::shared_address(plane + swizzle<kChunks>(16 * warp + a_at.row, 2 * half + a_at.chunk)));
        if (!first) a[i][0] = a[i][1] = 0;
        if (!second) a[i][2] = a[i][3] = 0;
        if (p.gemm.w_sums) {
          w_count[0] += weight(p.w_signed, kPlanes, i) * (__popc(a[i][0]) + __popc(a[i][2]));
          w_count[1] += weight(p.w_signed, kPlanes, i) * (__popc(a[i][1]) + __popc(a[i][3]));
        }
      }
      if constexpr (kTiles == 1) {
        uint32_t b[2];
        ptx::ldmatrix_x2(b, ptx::shared_address(x + swizzle<kChunks>(lane % 8, 2 * half + lane / 8 % 2)));
        if (p.gemm.x_sums && warp == 0) x_count[0] += (first ? __popc(b[0]) : 0) + (second ? __popc(b[1]) : 0);
#pragma unroll
        for (int i = 0; i < kPlanes; ++i) ptx::mma_m16n8k256_b1_and_popc(sum[i][0], a[i], b);
      } else {
#pragma unroll
        for (int q = 0; q < kTiles / 2; ++q) {
          if (16 * q >= columns) break;
          uint32_t b[4];
          ptx::ldmatrix_x4(b, ptx::shared_address(x + swizzle<kChunks>(16 * q + b_at.row, 2 * half + b_at.chunk)));
          if (p.gemm.x_sums && warp == q) {  // each warp counts one pair of tiles
            x_count[0] += (first ? __popc(b[0]) : 0) + (second ? __popc(b[1]) : 0);
            x_count[1] += (first ? __popc(b[2]) : 0) + (second ? __popc(b[3]) : 0);
          }
#pragma unroll
          for (int i = 0; i < kPlanes; ++i) {
            ptx::mma_m16n8k256_b1_and_popc(sum[i][2 * q], a[i], {b[0], b[1]});
            ptx::mma_m16n8k256_b1_and_popc(sum[i][2 * q + 1], a[i], {b[2], b[3]});
          }
        }
      }
    }
  }

  static __device__ __forceinline__ int32_t weight(bool is_signed, int planes, int plane) {
    const int32_t v = 1 << (planes - 1 - plane);
    return is_signed && plane == 0 ? -v : v;
  }
  // Horner's rule over the planes, most significant first: get(j) is the value of plane j.
  template <class Get>
  static __device__ __forceinline__ int32_t over_planes(bool is_signed, int planes, const Get& get) {
    int32_t v = is_signed ? -get(0) : get(0);
    for (int j = 1; j < planes; ++j) v = 2 * v + get(j);
    return v;
  }

  // ---- sums of a segment

  // What has been summed since the last call joins the results, or goes to a record where K is shared. The segment has
  // `length` columns from `begin` on.
  __device__ __forceinline__ void join(int32_t begin, int32_t length, int32_t* record) {
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
        if (8 * q < columns) sums[(8 * q + 2 * t + e % 2) * Tile::kStride + 16 * warp + g + 8 * (e / 2)] = v;
      }
    }
    if (p.gemm.x_sums) {
#pragma unroll
      for (int i = 0; i < (kTiles > 1 ? 2 : 1); ++i) {
        const int32_t x = over_lanes(x_count[i]);
        if (warp < (kTiles + 1) / 2 && t == 0) x_sums[16 * warp + 8 * i + g] = x;
        x_count[i] = 0;
      }
    }
    if (p.gemm.w_sums) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int32_t w = over_lanes(w_count[h]);
        if (t == 0) w_sums[16 * warp + g + 8 * h] = w;
        w_count[h] = 0;
      }
    }
    if (record == nullptr) store_windows(begin / p.segment);
    __syncthreads();
    if (is_row()) {
      const int32_t w_sum = p.gemm.w_sums ? w_sums[row()] : 0;
      RowValues w{};
      if (record == nullptr) w = row_values(begin);
#pragma unroll 1
      for (int m = first_m(); m < rows_x; m += kAtOnce) {
        const int from = m * p.x_planes;
        const int32_t dot =
            over_planes(p.x_signed, p.x_planes, [&](int j) { return sums[(from + j) * Tile::kStride + row()]; });
        int32_t x_sum = 0;
        if (p.gemm.x_sums) x_sum = over_planes(p.x_signed, p.x_planes, [&](int j) { return x_sums[from + j]; });
        if (record != nullptr) {
          record[m * kRows + row()] = dot;
          if (p.gemm.w_sums && m == 0) record[rows_x * kRows + row()] = w_sum;
          if (p.gemm.x_sums && row() == 0) record[rows_x * kRows + kRows + m] = x_sum;
        } else {
          join_output(m, begin, length, w, dot, w_sum, x_sum);
        }
      }
    }
    __syncthreads();
  }
  static __device__ __forceinline__ int32_t over_lanes(int32_t v) {  // four
    v += __shfl_xor_sync(0xffffffffu, v, 1);
    return v + __shfl_xor_sync(0xffffffffu, v, 2);
  }

  // A thread keeps its outputs from segment to segment: one row of w, every other row of x.
  static constexpr int kAtOnce = kThreads / kRows;
  static __device__ __forceinline__ int row() { return static_cast<int>(threadIdx.x) % kRows; }
  static __device__ __forceinline__ int first_m() { return static_cast<int>(threadIdx.x) / kRows; }
  __device__ __forceinline__ bool is_row() const { return row() < rows_w; }

  // ---- the scale and the zero point of w in a segment

  struct RowValues {
    float scale, float_zero;
    int32_t zero;
  };
  // Segment `g` is the first that will be joined, the others follow one by one.
  __device__ __forceinline__ void load_windows(int32_t g) {
    if (p.scales.size != 0) p.scales.load(p.scales.window_of(g), n0, rows_w, next_scales);
    if (p.zeros.size != 0) p.zeros.load(p.zeros.window_of(g), n0, rows_w, next_zeros);
  }
  // Brings the windows of segment `g` into shared memory and those behind them on their way. All threads, between
  // barriers.
  __device__ __forceinline__ void store_windows(int32_t g) {
    store_window(p.scales, g, windows, next_scales, &stored_scales);
    store_window(p.zeros, g, windows + RowWindow::kSharedWords, next_zeros, &stored_zeros);
  }
  __device__ __forceinline__ void store_window(const RowWindow& window, int32_t g, uint32_t* to,
                                               uint32_t (&next)[RowWindow::kEach], int32_t* stored) const {
    if (window.size == 0 || window.window_of(g) == *stored) return;
    *stored = window.window_of(g);
    window.store(next, to);
    window.load(*stored + 1, n0, rows_w, next);
  }
  __device__ __forceinline__ bool changes_windows(int32_t g) const {
    return (p.scales.size != 0 && p.scales.window_of(g) != stored_scales) ||
           (p.zeros.size != 0 && p.zeros.window_of(g) != stored_zeros);
  }
  __device__ __forceinline__ RowValues row_values(int32_t begin) const {
    const int32_t n = n0 + row(), g = begin / p.segment;
    const Operand& w = p.gemm.w;
    const uint32_t* zeros = windows + RowWindow::kSharedWords;
    RowValues v{1.0f, 0.0f, 0};
    v.scale = p.scales.size != 0 ? p.scales.float_at(windows, row(), g) : w.scale_from(n, begin);
    if (!w.has_zero) return v;
    if (w.zero_is_float) {
      v.float_zero = p.zeros.size != 0 ? p.zeros.float_at(zeros, row(), g) : w.zero_at(n, begin);
    } else {
      v.zero = p.zeros.size != 0 ? p.zeros.integer_at(zeros, row(), g) : w.integer_zero_at(n, begin);
    }
    return v;
  }

  __device__ __forceinline__ void join_output(int m, int32_t begin, int32_t length, const RowValues& w, int32_t dot,
                                              int32_t w_sum, int32_t x_sum) {
    JoinValues v{};
    v.x_sum = x_sum, v.w_sum = w_sum;
    v.length = length;
    v.scale = w.scale, v.w_float_zero = w.float_zero, v.w_zero = w.zero;
    if (p.gemm.x_scale_joins) v.scale *= p.gemm.x.scale_from(m0 + m, begin);
    v.x_zero = p.gemm.x.integer_zero_at(m0 + m, begin);
    float& y = results[m * kRows + row()];
    y = join_corrected(p.gemm, dot, v, begin == 0 ? 0.0f : y);
  }

  // ---- K shared by blocks

  __device__ __forceinline__ int32_t* records() const {
    const int64_t pieces = record_of(p.gemm.k - 1) + 1;
    const int64_t rows = Tile::kColumns / p.x_planes;
    return static_cast<int32_t*>(p.gemm.parts) + blockIdx.x * pieces * binary_record(rows);
  }
  // Which piece of K has a column: one ends at every end of a segment and of a share.
  __device__ __forceinline__ int64_t record_of(int32_t column) const {
    return static_cast<int64_t>(column / p.segment) + column / kStepBits / p.share - column / p.shared_ends;
  }

  __device__ __forceinline__ bool comes_last() const {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) w_sums[0] = atomicAdd(p.gemm.arrivals + blockIdx.x, 1);
    __syncthreads();
    const bool is_last = w_sums[0] == static_cast<int32_t>(gridDim.y) - 1;
    __threadfence();
    return is_last;
  }

  // As many segments at a time as there is room for where the stages were, each from its pieces.
  __device__ __forceinline__ void join_records() {
    const int size = static_cast<int>(binary_record(rows_x));
    const int32_t segments = (p.gemm.k - 1) / p.segment + 1;
    const int32_t batch = 4 * Tile::kStageChunks * kStages / size;
    const int32_t* from = records();
    load_windows(0);
    auto* whole = reinterpret_cast<int32_t*>(stages);
#pragma unroll 1
    for (int32_t s = 0; s < segments; s += batch) {
      const int32_t count = min(batch, segments - s);
      __syncthreads();
#pragma unroll 4
      for (int32_t i = 0; i < count; ++i) add_pieces(from, s + i, size, whole + i * size);
      __syncthreads();
#pragma unroll 1
      for (int32_t i = 0; i < count; ++i) {
        const int32_t* v = whole + i * size;
        const int32_t begin = (s + i) * p.segment;
        if (changes_windows(s + i)) {
          __syncthreads();
          store_windows(s + i);
          __syncthreads();
        }
        if (!is_row()) continue;
        const RowValues w = row_values(begin);
        const int32_t w_sum = p.gemm.w_sums ? v[rows_x * kRows + row()] : 0;
#pragma unroll 1
        for (int m = first_m(); m < rows_x; m += kAtOnce) {
          join_output(m, begin, end_of(begin, p.segment) - begin, w, v[m * kRows + row()], w_sum,
                      p.gemm.x_sums ? v[rows_x * kRows + kRows + m] : 0);
        }
      }
    }
  }
  __device__ __forceinline__ void add_pieces(const int32_t* from, int32_t segment, int size, int32_t* to) const {
    const int32_t begin = segment * p.segment, end = end_of(begin, p.segment);
    const int64_t first = record_of(begin), last = record_of(end - 1);
    for (int i = static_cast<int>(threadIdx.x); i < size; i += kThreads) {
      if (!is_written(i)) continue;
      int32_t v = 0;
      for (int64_t r = first; r <= last; ++r) v += from[r * size + i];
      to[i] = v;
    }
  }
  // Whether integer i of a record is one of this tile.
  __device__ __forceinline__ bool is_written(int i) const {
    if (i < rows_x * kRows) return i % kRows < rows_w;
    const int after = i - rows_x * kRows;
    return after < kRows ? p.gemm.w_sums && after < rows_w : p.gemm.x_sums && after < kRows + rows_x;
  }

  __device__ __forceinline__ void write() const {
    if (!is_row()) return;
    const int32_t n = n0 + row();
    const float bias = bias_at(p.gemm, n, 0);
#pragma unroll 1
    for (int m = first_m(); m < rows_x; m += kAtOnce) {
      const float scale = p.gemm.x_scale_joins ? 1.0f : p.gemm.x.scale_from(m0 + m, 0);
      finish(p.gemm, m0 + m, n, scale, bias, results[m * kRows + row()]);
    }
  }

  const BinaryParams& p;
  const int lane, warp;
  int32_t n0, m0;
  int rows_w, rows_x, columns;  // of this tile that are there
  uint4* stages;
  int32_t* sums;
  float* results;
  int32_t *w_sums, *x_sums;
  uint32_t* windows;
  uint32_t next_scales[RowWindow::kEach] = {}, next_zeros[RowWindow::kEach] = {};
  int32_t stored_scales = -1, stored_zeros = -1;
  const uint32_t* w_lines[2];
  const uint32_t* x_lines[kXLines];
  int32_t sum[kPlanes][kTiles][4] = {};
  int32_t w_count[2] = {}, x_count[2] = {};
};

#endif

template <int kPlanes, int kTiles>
__global__ void __launch_bounds__(Binary::kThreads, 2) binary_gemm(const __grid_constant__ BinaryParams p) {
#if LOWBIT_HAS_B1_MMA
  extern __shared__ __align__(128) uint8_t memory[];
  BinaryGemm<kPlanes, kTiles>(p, memory).run();
#endif
}

}  // namespace lowbit::cuda
