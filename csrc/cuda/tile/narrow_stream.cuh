// The narrow loop where weights lie in the layout mma64, all parts of K are powers of two of columns, and rows of x are
// copied as they lie: nearly every product with few rows.
//
// The warps of a block share K by turns: a turn is 1 to 8 steps of 64 columns with at most four parts, warp i has turns
// i, i + 4, ... A window is a turn of each warp. Its parts go to records, and behind the one barrier of a window each
// thread joins those of its outputs. So there are two sets of records, and two of the scales of a span of K: a slow
// warp may still join the window before.
//
// Each warp streams its turns through a ring of its own, in pairs of steps. Rows of x in shared memory are those that
// exist: a lane that would read another reads the last one, and nobody looks at what comes of it.
//
// Floors at M = 1, H100 (3.35 TB/s, 132 multiprocessors at 1.7 GHz): 15 bytes a clock, a step of 4-bit weights (512
// bytes) in 34 clocks, in which 136 instructions can be issued at best; by Little's law 1 us of latency asks for 25 KB
// under way, a block of these has 7 pairs a warp: 28 KB.
#pragma once

#include "cuda/tile/gemm_shape.h"
#include "cuda/tile/gemm_steps.cuh"
#include "cuda/tile/narrow_join.cuh"
#include "cuda/tile/scale_load.cuh"

namespace lowbit::cuda {

// How K is cut.
struct StreamCuts {
  int32_t part;        // columns, 16 .. 512
  int32_t turn_steps;  // 1, 2, 4, 8
  int32_t turn;        // columns
  int32_t turn_parts;  // at most 4
  bool constant;       // scales and zero points do not change along K: one slot holds them

  explicit constexpr __host__ __device__ StreamCuts(const GemmParams& p)
      : part(p.segment == 0 || p.segment > p.unit ? p.unit : p.segment),
        turn_steps(part > 256  ? part / kStepSlots
                   : part > 32 ? 4
                               : part / 16),
        turn(turn_steps * kStepSlots),
        turn_parts(turn / part),
        constant(p.segment == 0) {}
};

// Shared memory: this, the rings of the warps, values of two spans, records of two windows.
template <class E, int kBits>
struct StreamShared {
  float w_scale[16], x_scale[16];  // engines with scales of blocks: what those are multiplied with
  // sums of segments that are not over, of integers, by thread: out of the registers of the loop
  uint64_t totals[E::kInteger ? 2 : 1][E::kInteger ? 32 * kNarrowWarps : 1],
      x_totals[E::kInteger ? 2 : 1][E::kInteger ? 32 * kNarrowWarps : 1];
  int32_t arrived;

  static constexpr int kWeights = 2 * 128 * kBits;  // of a pair of steps
  static constexpr __host__ __device__ int rows(const GemmParams& p) {
    return p.m < kNarrowColumns ? p.m : kNarrowColumns;
  }
  static constexpr __host__ __device__ int tiles(const GemmParams& p) { return p.m > 8 ? 2 : 1; }
  static constexpr int64_t header() { return (static_cast<int64_t>(sizeof(StreamShared)) + 127) / 128 * 128; }
  // Pairs of a ring by stages: 2, 4, 8.
  static constexpr __host__ __device__ int depth(int stages) { return stages >= 4 ? 8 : stages == 3 ? 4 : 2; }
  static constexpr __host__ __device__ int stage_bytes(const GemmParams& p) {
    return kWeights + 2 * rows(p) * E::kRowBytes;
  }
  static constexpr __host__ __device__ int64_t rings(const GemmParams& p, int stages) {
    return (int64_t{kNarrowWarps} * depth(stages) * stage_bytes(p) + 127) / 128 * 128;
  }
  // A span: as many slots of scales as are fetched together, at least a window and a sector of each row.
  static constexpr __host__ __device__ int span(const GemmParams& p) {
    const StreamCuts cuts(p);
    if (E::kBlocks > 0) return 4 * cuts.turn_steps;
    if (cuts.constant) return 1;
    int bytes = stored_scale_bytes(p.w);
    if (p.w.has_zero && size_of(p.w.zero.dtype) < bytes) bytes = static_cast<int>(size_of(p.w.zero.dtype));
    if (p.x_scale_joins && stored_scale_bytes(p.x) < bytes) bytes = stored_scale_bytes(p.x);
    const int window = 4 * cuts.turn_parts;
    const int sector = p.m > 8 && bytes < 2 ? 16 : 32 / bytes;  // of many rows of x, half one
    return window > sector ? window : sector;
  }
  // 16 values a slot: scales of w (engines with scales of blocks: codes), then what there is of: zeros of w, scales of
  // x, zeros of x.
  static constexpr __host__ __device__ int fields(const GemmParams& p) {
    return 1 + (p.w.has_zero ? 1 : 0) + (p.x_scale_joins ? 1 : 0) + (p.x.has_zero ? 1 : 0);
  }
  static constexpr __host__ __device__ int64_t values(const GemmParams& p) {
    return int64_t{2} * 64 * fields(p) * span(p);
  }
  // Of a record: sums of products by columns of x in tiles of 8, sums of w, sums of x.
  static constexpr __host__ __device__ int record(const GemmParams& p) {
    return 512 * tiles(p) + (p.w_sums || p.x_sums ? 64 + 32 * tiles(p) : 0);
  }
  static constexpr int64_t bytes(const GemmParams& p, int stages, bool split) {
    const int64_t records = split ? 0 : int64_t{2} * kNarrowWarps * StreamCuts(p).turn_parts * record(p);
    return header() + rings(p, stages) + values(p) + records;
  }
};

template <class E, int kBits>
class NarrowStream {
  using Sum = typename E::Sum;
  using Shared = StreamShared<E, kBits>;
  static constexpr int kThreads = 32 * kNarrowWarps;
  static constexpr int kStepBytes = 128 * kBits, kStepChunks = kStepBytes / 16;
  static constexpr int kPieces = kStepSlots / kMultiplied<E>;
  // Of a field that a thread brings: 32 slots of 16 rows (of x, of 8 rows) by 128 threads.
  static constexpr int kMostOfW = 4, kMostOfX = 2;

 public:
  __device__ __forceinline__ NarrowStream(const GemmParams& params, uint8_t* memory)
      : p(params),
        shared(*reinterpret_cast<Shared*>(memory)),
        cuts(params),
        lane(ptx::opaque(static_cast<int>(threadIdx.x % 32))),  // kept: not read anew in the loop
        warp(static_cast<int>(threadIdx.x / 32)),
        m0(params.across(static_cast<int32_t>(blockIdx.x)) * kNarrowColumns),
        n0((static_cast<int32_t>(blockIdx.x) - m0 / kNarrowColumns * params.across.size) * kNarrowTile),
        rows(min(kNarrowColumns, params.m - m0)),
        sums(E::kInteger && (params.w_sums || params.x_sums)) {
    flip = ptx::opaque(static_cast<int>(p.flip));  // an operand beside an immediate one
    plane = Shared::rows(p) * E::kRowBytes;
    stage_bytes = Shared::stage_bytes(p);
    ring_bytes = Shared::depth(p.stages) * stage_bytes;
    ring = memory + Shared::header() + warp * ring_bytes;
    span = Shared::span(p);
    span_shift = __ffs(span) - 1;
    part_shift = __ffs(cuts.part) - 1;
    slot_shift = E::kBlocks > 0 ? 6 : part_shift;
    values = reinterpret_cast<uint32_t*>(memory + Shared::header() + Shared::rings(p, p.stages));
    record_bytes = Shared::record(p);
    records = reinterpret_cast<uint8_t*>(values) + Shared::values(p);
  }

  __device__ __forceinline__ void run() {
    split = gridDim.y > 1;
    const int64_t tile = blockIdx.x;
    const int32_t turns = (p.k + cuts.turn - 1) / cuts.turn;
    // whole windows: one that not all warps have a turn of takes as long, and spans begin at sectors
    int32_t share = (turns + static_cast<int32_t>(gridDim.y) - 1) / static_cast<int32_t>(gridDim.y);
    share = (share + kNarrowWarps - 1) / kNarrowWarps * kNarrowWarps;
    int32_t begin = static_cast<int32_t>(min(static_cast<int64_t>(blockIdx.y) * share * cuts.turn, int64_t{p.k}));
    end =
        static_cast<int32_t>(min(static_cast<int64_t>(begin) + static_cast<int64_t>(share) * cuts.turn, int64_t{p.k}));
    if (split) records = static_cast<uint8_t*>(p.parts) + tile * ((p.k + cuts.part - 1) >> part_shift) * record_bytes;

    start(begin + warp * cuts.turn);
#pragma unroll 1
    for (int s = 0; s < ring_bytes - stage_bytes; s += stage_bytes) fetch(s);
    load_row_scales();
    if constexpr (E::kInteger) {
#pragma unroll
      for (int h = 0; h < 2; ++h) shared.totals[h][threadIdx.x] = shared.x_totals[h][threadIdx.x] = 0;
    }
    bool sums_parts = true;  // else it joins what all blocks have left
#pragma unroll 1
    for (;;) {
      windows(begin, sums_parts, !split || !sums_parts);
      if (!split || !sums_parts) break;
      __threadfence();
      __syncthreads();
      if (threadIdx.x == 0) shared.arrived = atomicAdd(p.arrivals + tile, 1);
      __syncthreads();
      if (shared.arrived != static_cast<int32_t>(gridDim.y) - 1) break;
      __threadfence();
      sums_parts = false;
      begin = 0, end = p.k;
    }
    ptx::cp_async_wait_group<0>();
    if (split && sums_parts) return;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int32_t n = n0 + joined_row(), m = m0 + 8 * h + joined_col();
      if (n < p.n && m < p.m) {
        finish(p, m, n, last_scale(p, m), bias_at(p, n, 0), y[h]);
      }
    }
  }

 private:
  // The windows of [begin, end): sums their parts to records, joins records, or both.
  __device__ __forceinline__ void windows(int32_t begin, bool sums_parts, bool joins) {
    const int32_t window = kNarrowWarps * cuts.turn;
    const int32_t span_columns = span << slot_shift;
    int32_t next_span = is_constant() ? 0 : begin / span_columns * span_columns, span_begin = next_span;
    if (begin < end) load_values(next_span);
    int32_t span_end = begin;  // of the values in use
    bool second_set = false;
#pragma unroll 1
    for (int32_t column = begin; column < end; column += window) {
      if (column == span_end) {
        span_begin = next_span;
        values_at ^= 1;  // a slow warp may still join by the others
        store_values(span_begin, values_at);
        __syncthreads();
        span_end = is_constant() ? end : static_cast<int32_t>(min(int64_t{span_begin} + span_columns, int64_t{end}));
        next_span = span_end;
        if (next_span < end) load_values(next_span);
      }
      uint8_t* set = split ? records + static_cast<int64_t>(column >> part_shift) * record_bytes
                           : records + (second_set ? kNarrowWarps * cuts.turn_parts * record_bytes : 0);
      const int32_t mine = column + warp * cuts.turn;
      if (sums_parts && mine < end) turn(mine, mine - span_begin, set + warp * cuts.turn_parts * record_bytes);
      if (!joins) continue;
      if (sums_parts) __syncthreads();
      join(set, min(window, end - column), (column - span_begin) >> part_shift, values_at, column);
      second_set = !second_set;
    }
  }

  // ---- scales and zero points

  __device__ __forceinline__ bool is_constant() const { return E::kBlocks == 0 && cuts.constant; }
  // Field f of slot and row, of the span that lies at `at`. The rows of a slot are permuted: lanes of neighbouring
  // slots (a store) and those of neighbouring rows (a load) meet all banks.
  __device__ __forceinline__ uint32_t* value(int at, int field, int slot, int row) const {
    return values + ((at * Shared::fields(p) + field) * span + slot) * 16 + (row ^ (slot / 2 << (5 - span_shift)));
  }
  __device__ __forceinline__ int x_field() const { return p.w.has_zero ? 2 : 1; }
  __device__ __forceinline__ int x_zero_field() const { return x_field() + (p.x_scale_joins ? 1 : 0); }

  // What thread t of the block brings of a span: value t + 128 i of a field, slots first.
  struct Held {
    uint32_t w[kMostOfW], w_zero[kMostOfW], x[kMostOfX], x_zero[kMostOfX];
  };
  template <int kMost, class F>
  __device__ __forceinline__ void each_value(int32_t from, int count, int32_t row0, int32_t row_end, const F& f) {
    const int32_t slots = (p.k - from + (1 << slot_shift) - 1) >> slot_shift;  // up to the end of K
#pragma unroll
    for (int i = 0; i < kMost; ++i) {
      if (i * kThreads >= count << span_shift) break;
      const int at = static_cast<int>(threadIdx.x) + kThreads * i, slot = at & (span - 1), row = at >> span_shift;
      if (row < count && slot < slots) f(i, slot, row, min(row0 + row, row_end - 1), from + (slot << slot_shift));
    }
  }
  __device__ __forceinline__ void load_values(int32_t from) {
    constexpr int kCodes = E::kBlocks * kPieces == 4 ? 4 : 2;
    each_value<kMostOfW>(from, 16, n0, p.n, [&](int i, int, int, int32_t r, int32_t c) {
      held.w[i] = E::kBlocks > 0 ? load_scale_codes<kCodes>(p.w, r, c) : load_scale(p.w, r, c);
      if (p.w.has_zero) held.w_zero[i] = load_zero(p.w, r, c);
    });
    if (p.x_scale_joins || p.x.has_zero) {
      each_value<kMostOfX>(from, rows, m0, p.m, [&](int i, int, int, int32_t r, int32_t c) {
        if (p.x_scale_joins) held.x[i] = E::kBlocks > 0 ? load_scale_codes<kCodes>(p.x, r, c) : load_scale(p.x, r, c);
        if (p.x.has_zero) held.x_zero[i] = load_zero(p.x, r, c);
      });
    }
  }
  // Rolled: a thread works on its first value and turns, as an index that is no constant would be one into local
  // memory.
  template <int kMost>
  static __device__ __forceinline__ void turn_values(uint32_t (&v)[kMost]) {
    const uint32_t first = v[0];
#pragma unroll
    for (int i = 0; i + 1 < kMost; ++i) v[i] = v[i + 1];
    v[kMost - 1] = first;
  }
  __device__ __forceinline__ void store_values(int32_t from, int to) {
    const int32_t slots = (p.k - from + (1 << slot_shift) - 1) >> slot_shift;
#pragma unroll 1
    for (int at = static_cast<int>(threadIdx.x); at < 16 << span_shift; at += kThreads) {
      const int slot = at & (span - 1), row = at >> span_shift;
      if (slot < slots) {
        const int32_t r = min(n0 + row, p.n - 1), c = from + (slot << slot_shift);
        const float unit = E::kInteger ? power_of_two(-p.w.bytes.shift) : 1.0f;
        *value(to, 0, slot, row) = E::kBlocks > 0 ? held.w[0] : to_bits(scale_value(p.w, held.w[0], r, c) * unit);
        if (p.w.has_zero) {
          const float zero_unit = E::kInteger ? power_of_two(p.w.bytes.shift) : 1.0f;
          *value(to, 1, slot, row) =
              E::kInteger && !p.w.zero_is_float ? held.w_zero[0] : to_bits(p.w.zero_of(held.w_zero[0]) * zero_unit);
        }
      }
      turn_values(held.w);
      turn_values(held.w_zero);
    }
    if (!p.x_scale_joins && !p.x.has_zero) return;
#pragma unroll 1
    for (int at = static_cast<int>(threadIdx.x); at < rows << span_shift; at += kThreads) {
      const int slot = at & (span - 1), row = at >> span_shift;
      if (slot < slots) {
        const int32_t c = from + (slot << slot_shift);
        const float unit = E::kInteger ? power_of_two(-p.x.bytes.shift) : 1.0f;
        if (p.x_scale_joins) {
          *value(to, x_field(), slot, row) =
              E::kBlocks > 0 ? held.x[0] : to_bits(scale_value(p.x, held.x[0], m0 + row, c) * unit);
        }
        if (p.x.has_zero) *value(to, x_zero_field(), slot, row) = held.x_zero[0];
      }
      turn_values(held.x);
      turn_values(held.x_zero);
    }
  }
  __device__ __forceinline__ void load_row_scales() {
    if constexpr (E::kBlocks > 0) {
      const auto row = static_cast<int32_t>(threadIdx.x);
      if (row < 16) shared.w_scale[row] = p.w.scale_of_codes(min(n0 + row, p.n - 1));
      if (row < rows) shared.x_scale[row] = p.x.scale_of_codes(m0 + row);
    }
  }

  // ---- the ring

  // Columns from the first to the second step of a pair: of one turn, or of two where a turn is one step.
  __device__ __forceinline__ int32_t to_second() const {
    return cuts.turn_steps == 1 ? kNarrowWarps * kStepSlots : kStepSlots;
  }
  // Where this lane copies from: chunk `lane` of the weights of the next pair; of rows of x, 16 lanes a step: eight
  // write whole rows, which meet all banks.
  static constexpr int kRowChunks = E::kRowBytes / 16, kRowsAtOnce = 16 / kRowChunks;
  static constexpr int kSize = E::kNibbles ? 1 : E::kRowBytes / kStepSlots;  // of a value of x that is copied
  __device__ __forceinline__ void start(int32_t column) {
    ahead_column = column;
    ahead_left = cuts.turn_steps;
    const int64_t steps = (p.k + kStepSlots - 1) / kStepSlots;
    w_from = static_cast<const uint8_t*>(p.w.low.codes.data) + (n0 / 16 * steps + column / kStepSlots) * kStepBytes +
             lane * 16;
    if constexpr (!E::kNibbles) {
      const bool dense = p.x.dense.data != nullptr;
      x_stride = dense ? p.x.dense.row_stride * kSize : p.x.low.codes.row_stride;
      x_plane = lane / 16 * plane;
      x_place = 16 * chunk_at<E>(lane % 16 / kRowChunks, lane % kRowChunks);
      x_column = lane / 16 * to_second() + lane % kRowChunks * (16 / kSize);
      x_from = static_cast<const uint8_t*>(dense ? p.x.dense.data : p.x.low.codes.data) +
               (m0 + lane % 16 / kRowChunks) * x_stride + (static_cast<int64_t>(column) + x_column) * kSize;
    }
  }
  // Brings the next pair of the warp into the stage at `to` of its ring.
  __device__ __forceinline__ void fetch(int to) {
    if (ahead_column < end) {
      const int32_t second = to_second();
      const bool both = ahead_column + second < end;
      const uint32_t w_to = ptx::shared_address(ring + to) + lane * 16;
      if (cuts.turn_steps == 1) {
        copy_chunks<kStepChunks>(w_to, w_from);
        if (both) copy_chunks<kStepChunks>(w_to + kStepBytes, w_from + kNarrowWarps * kStepBytes);
      } else if (both) {  // side by side
        copy_chunks<2 * kStepChunks>(w_to, w_from);
      } else {
        copy_chunks<kStepChunks>(w_to, w_from);
      }
      uint8_t* x_to = ring + to + Shared::kWeights;
      if constexpr (E::kNibbles) {
#pragma unroll 1
        for (int q = 0; q < (both ? 2 : 1); ++q) {
          stage_nibbles<E, 32, false>(p, false, 0, m0, rows, p.m, ahead_column + q * second, nullptr,
                                      reinterpret_cast<uint4*>(x_to + q * plane));
        }
      } else {
        copy_rows(ptx::shared_address(x_to) + x_plane);
      }
      int32_t columns = 2 * second;
      ahead_left -= 2;
      if (ahead_left == 0) {  // not of turns of one step
        ahead_left = cuts.turn_steps;
        columns += (kNarrowWarps - 1) * cuts.turn;
      }
      ahead_column += columns;
      w_from += static_cast<int64_t>(columns) * (kStepBytes / kStepSlots);
      if constexpr (!E::kNibbles) x_from += static_cast<int64_t>(columns) * kSize;
    }
    ptx::cp_async_commit_group();
  }
  template <int kChunks>
  __device__ __forceinline__ void copy_chunks(uint32_t to, const uint8_t* from) const {
#pragma unroll
    for (int i = 0; i < kChunks; i += 32) {
      if (i + 32 <= kChunks || lane < kChunks - i) ptx::cp_async_cg_16(to + 16 * i, from + 16 * i);
    }
  }
  __device__ __forceinline__ void copy_rows(uint32_t to) const {
    const int bytes = min(max(p.k - ahead_column - x_column, 0), 16 / kSize) * kSize;
    int row = lane % 16 / kRowChunks;
    if (row < rows) ptx::cp_async_cg_16(to + x_place, x_from, bytes);
    if (rows <= kRowsAtOnce) return;
    const uint8_t* from = x_from;
#pragma unroll 1
    for (row += kRowsAtOnce; row < rows; row += kRowsAtOnce) {
      from += kRowsAtOnce * x_stride;
      ptx::cp_async_cg_16(to + 16 * chunk_at<E>(row, lane % kRowChunks), from, bytes);
    }
  }
  __device__ __forceinline__ void begin_pair() {
    if (p.stages >= 4) {
      ptx::cp_async_wait_group<6>();
    } else if (p.stages == 3) {
      ptx::cp_async_wait_group<2>();
    } else {
      ptx::cp_async_wait_group<0>();
    }
    __syncwarp();  // all lanes have arrived, and are done with the stage before
    fetch(stage == 0 ? ring_bytes - stage_bytes : stage - stage_bytes);
  }
  __device__ __forceinline__ void end_pair() { stage = stage + stage_bytes == ring_bytes ? 0 : stage + stage_bytes; }

  // ---- a turn: its parts go to records from `record` on; its first column is `offset` columns into the span

  __device__ __forceinline__ void turn(int32_t column, int32_t offset, uint8_t* record) {
    const int32_t turn_end = min(column + cuts.turn, p.k);
#pragma unroll 1
    while (column < turn_end) {
      if (!in_pair) begin_pair();
      if (cuts.part >= kStepSlots && column + 2 * kStepSlots <= p.k) {
        step<true>(0, column, offset, cuts.part == kStepSlots, &record);
        step<true>(1, column + kStepSlots, offset + kStepSlots, ends_at(column + 2 * kStepSlots), &record);
        column += 2 * kStepSlots, offset += 2 * kStepSlots;
        end_pair();
        continue;
      }
      step<false>(in_pair ? 1 : 0, column, offset, ends_at(column + kStepSlots), &record);
      column += kStepSlots, offset += kStepSlots;
      if (in_pair) end_pair();
      in_pair = !in_pair;
    }
  }
  // Whether a part ends before `column`.
  __device__ __forceinline__ bool ends_at(int32_t column) const {
    return (column & (cuts.part - 1)) == 0 || column >= p.k;
  }

  // B of both multiplies of a step, as 16-column words: columns 16 i + 4 t .. + 3 of bytes, 16-bit floats as in the
  // wide loop.
  static constexpr int kWords = E::kNibbles ? 2 : E::kBytes ? 4 : 8;
  __device__ __forceinline__ void load_rows(const uint8_t* x, int tile, uint32_t (&b)[kWords]) const {
    const auto* chunks = reinterpret_cast<const uint4*>(x);
    if constexpr (E::kNibbles) {
      ptx::ldmatrix_x2(b, ptx::shared_address(chunks + chunk_at<E>(min(8 * tile + lane % 8, rows - 1), lane / 8 % 2)));
    } else if constexpr (E::kBytes) {
      ptx::ldmatrix_x4(b, ptx::shared_address(chunks + chunk_at<E>(min(8 * tile + lane % 8, rows - 1), lane / 8)));
    } else {
      const int row = min(8 * tile + lane / 4, rows - 1), t = lane % 4;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const uint2 v = reinterpret_cast<const uint2*>(chunks + chunk_at<E>(row, 2 * j + t / 2))[t % 2];
        b[2 * j] = v.x, b[2 * j + 1] = v.y;
      }
    }
  }

  // Sums of bytes of a step. Slots past K are no columns: their codes of w are 0, which `flip` makes something.
  static constexpr uint32_t kOnes = 0x01010101u;
  __device__ __forceinline__ void add_weight_sums(const uint32_t (&a)[4], int half, uint32_t mask) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      w_sums[h] = __dp4a(static_cast<int>(a[2 * half + h]), static_cast<int>(mask), w_sums[h]);
    }
  }

  template <bool kFull>
  __device__ __forceinline__ void step(int q, int32_t column, int32_t offset, bool ends, uint8_t** record) {
    const uint8_t* weights = ring + stage + q * kStepBytes;
    const uint8_t* x = ring + stage + Shared::kWeights + q * plane;
    const int g = lane / 4, t = lane % 4, length = kFull ? kStepSlots : min(kStepSlots, p.k - column);
    uint32_t words[kBits], a[kPieces][4];
    load_words<kBits>(reinterpret_cast<const uint32_t*>(weights), lane, words);
    float zero[2] = {0.0f, 0.0f};
    if (kFull) load_zeros(offset, zero);
    if (!kFull && cuts.part >= kStepSlots) load_zeros(offset, zero);
#pragma unroll
    for (int j = 0; j < kPieces; ++j) {
      const int from = j * kMultiplied<E>;
      if (!kFull && cuts.part < kStepSlots && from < length && (from & (cuts.part - 1)) == 0)
        load_zeros(offset + from, zero);
      if constexpr (E::kInteger && !E::kFloatWeights && !E::kNibbles) {
#pragma unroll
        for (int i = 0; i < 4; ++i) a[j][i] = integer_bytes<kBits>(words, from / 8 + i, static_cast<uint32_t>(flip));
      } else {
        weight_fragment<E, kBits>(p, words, from / 16, true, zero, a[j]);
      }
    }
    uint32_t w_codes = 0, x_codes[2] = {0, 0};
    if constexpr (E::kBlocks > 0) {
      const int slot = offset >> slot_shift;
      w_codes = *value(values_at, 0, slot, g + t % 2 * 8);
      x_codes[0] = *value(values_at, x_field(), slot, min(g, rows - 1));
      if (rows > 8) x_codes[1] = *value(values_at, x_field(), slot, min(8 + g, rows - 1));
      if constexpr (E::kBlocks == 4) {
        const uint32_t codes[2] = {*value(values_at, 0, slot, g), *value(values_at, 0, slot, g + 8)};
#pragma unroll
        for (int i = 0; i < 4; ++i) a[0][i] ^= block_sign(codes[i % 2], i / 2, t);
      }
    }
    multiply<kFull>(x, a, w_codes, x_codes, column, length, ends, record);
  }
  __device__ __forceinline__ void load_zeros(int32_t offset, float (&zero)[2]) const {
    if (E::kInteger || !p.w.has_zero) return;
    const int slot = is_constant() ? 0 : offset >> part_shift;
    zero[0] = from_bits(*value(values_at, 1, slot, lane / 4));
    zero[1] = from_bits(*value(values_at, 1, slot, lane / 4 + 8));
  }

  // Unsigned bytes as they lie become signed ones.
  template <bool kFull>
  __device__ __forceinline__ void correct_rows(int length, uint32_t (&b)[kWords]) {
    if (p.x.bytes.offset == 0) return;
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      b[i] ^= 0x80808080u;
      if (!kFull) b[i] &= ones(length - 16 * i - 4 * (lane % 4)) * 0xffu;
    }
  }
  __device__ __forceinline__ void add_row_sum(uint32_t word, int tile) {
    x_sums[tile] = __dp4a(static_cast<int>(word), static_cast<int>(kOnes), x_sums[tile]);
  }

  template <bool kFull>
  __device__ __forceinline__ void multiply(const uint8_t* x, uint32_t (&a)[kPieces][4], uint32_t w_codes,
                                           const uint32_t (&x_codes)[2], int32_t column, int length, bool ends,
                                           uint8_t** record) {
    if constexpr (!kFull && !kEvenOnly<E>) {
      if (cuts.part < kStepSlots) return multiply_parts(x, a, column, length, record);
    }
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
      if (tile == 1 && rows <= 8) break;
      uint32_t b[kWords];
      load_rows(x, tile, b);
      if constexpr (E::kInteger && !E::kNibbles) {
        if (sums) {
          correct_rows<kFull>(length, b);
#pragma unroll
          for (int i = 0; i < kWords; ++i) {
            if (tile == 0 && p.w_sums)
              add_weight_sums(a[i / 2], i % 2, kFull ? kOnes : ones(length - 16 * i - 4 * (lane % 4)));
            add_row_sum(b[i], tile);
          }
        }
      }
#pragma unroll
      for (int j = 0; j < kPieces; ++j) {
        uint32_t b_piece[2] = {b[2 * j], b[2 * j + 1]};
        if constexpr (E::kBlocks == 4) {
#pragma unroll
          for (int i = 0; i < 2; ++i) b_piece[i] ^= block_sign(x_codes[tile], i, lane % 4);
        }
        if constexpr (E::kBlocks > 0) {  // lanes t = 0, 1 give the scales of rows g, g + 8 of w, lane 0 those of x
          E::multiply(sum[tile], a[j], b_piece, w_codes >> (8 * j), x_codes[tile] >> (8 * j));
        } else {
          E::multiply(sum[tile], a[j], b_piece);
        }
      }
    }
    if (ends) save(record);
  }
  // The same where the step has several parts, of 16 or 32 columns: one of 16 is half a multiply of bytes.
  __device__ __forceinline__ void multiply_parts(const uint8_t* x, uint32_t (&a)[kPieces][4], int32_t column,
                                                 int length, uint8_t** record) {
    constexpr bool kSums = E::kInteger && !E::kNibbles;
    const bool halves = kSums && cuts.part == 16;
    uint32_t b[2][kWords];
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
      if (tile == 1 && rows <= 8) break;
      load_rows(x, tile, b[tile]);
      if constexpr (kSums) {
        if (sums) correct_rows<false>(length, b[tile]);
      }
    }
#pragma unroll
    for (int j = 0; j < kPieces; ++j) {
#pragma unroll
      for (int h = 0; h < (kSums ? 2 : 1); ++h) {
        const int from = j * kMultiplied<E> + 16 * h, to = halves ? from + 16 : from + kMultiplied<E>;
        if ((h == 1 && !halves) || from >= length) continue;
        if constexpr (kSums) {
#pragma unroll
          for (int i = h; i < 2; ++i) {
            if (!sums || (halves && i != h)) continue;
            if (p.w_sums) add_weight_sums(a[j], i, ones(length - 32 * j - 16 * i - 4 * (lane % 4)));
            add_row_sum(b[0][2 * j + i], 0);
            if (rows > 8) add_row_sum(b[1][2 * j + i], 1);
          }
        }
        const uint32_t a_part[4] = {a[j][2 * h], a[j][2 * h + 1], halves ? 0u : a[j][2], halves ? 0u : a[j][3]};
#pragma unroll
        for (int tile = 0; tile < 2; ++tile) {
          if (tile == 1 && rows <= 8) break;
          const uint32_t b_part[2] = {b[tile][2 * j + h], halves ? 0u : b[tile][2 * j + 1]};
          if constexpr (E::kBlocks == 0) E::multiply(sum[tile], a_part, b_part);
        }
        if (ends_at(column + to)) save(record);
      }
    }
  }

  // ---- records

  // Two neighbouring columns of x (2 t, 2 t + 1) of a row of w lie side by side: the lanes of a store (eight rows, four
  // pairs) and the threads of the join (16 rows, one pair) meet all banks.
  static __device__ __forceinline__ int pair_at(int pair, int row) { return 16 * pair + (row ^ (4 * pair)); }

  __device__ __forceinline__ void save(uint8_t** record) {
    const int l = ptx::opaque(lane), g = l / 4, t = l % 4;  // addresses are made where they are needed
    auto* to = reinterpret_cast<uint2*>(*record);
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
      if (tile == 1 && rows <= 8) break;
      Sum(&s)[4] = sum[tile];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        uint2 v;
        if constexpr (E::kInteger) {
          v = make_uint2(static_cast<uint32_t>(s[2 * h]), static_cast<uint32_t>(s[2 * h + 1]));
        } else {
          v = make_uint2(to_bits(s[2 * h]), to_bits(s[2 * h + 1]));
        }
        to[64 * tile + pair_at(t, g + 8 * h)] = v;
        s[2 * h] = s[2 * h + 1] = Sum(0);
      }
    }
    if (sums) {  // over the four lanes of a row
      auto* of_w = reinterpret_cast<int32_t*>(*record + 512 * Shared::tiles(p));
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        w_sums[h] = over_row(w_sums[h]);
        if (t == 0) of_w[g + 8 * h] = w_sums[h] >> kLift<E, kBits>;
        w_sums[h] = 0;
      }
#pragma unroll
      for (int tile = 0; tile < 2; ++tile) {
        if (tile == 1 && rows <= 8) break;
        x_sums[tile] = over_row(x_sums[tile]);
        if (t == 0) of_w[16 + 8 * tile + g] = x_sums[tile];
        x_sums[tile] = 0;
      }
    }
    *record += record_bytes;
  }
  static __device__ __forceinline__ int32_t over_row(int32_t v) {
    v += __shfl_xor_sync(0xffffffffu, v, 1);
    return v + __shfl_xor_sync(0xffffffffu, v, 2);
  }

  // The outputs of this thread: a row of w, columns c and c + 8 of x. Warps without a column of x have nothing to join.
  static __device__ __forceinline__ int joined_row() { return static_cast<int>(threadIdx.x % 16); }
  static __device__ __forceinline__ int joined_col() { return static_cast<int>(threadIdx.x / 16); }

  // The records from `record` on of the columns [column, column + columns), whose values lie from `slot` on in span
  // `at`.
  __device__ __forceinline__ void join(const uint8_t* record, int32_t columns, int slot, int at, int32_t column) {
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
      const int x_row = 8 * tile + joined_col();
      if (x_row >= rows) break;
      const int place = 128 * tile + 2 * pair_at(joined_col() / 2, joined_row()) + joined_col() % 2;
      if (!E::kInteger || (!sums && !p.raw && p.segment == cuts.part && p.w.bytes.factor * p.x.bytes.factor == 1)) {
        y[tile] = join_parts(record, columns, slot, at, x_row, place, y[tile]);
      } else {
        join_segments(tile, record, columns, slot, at, column, x_row, place);
      }
    }
    if (p.segment > cuts.part) in_segment = (in_segment + columns) % p.segment;
  }
  // The scale of a part: its place in a slot, of w and of x.
  __device__ __forceinline__ float part_scale(int at, int slot, int x_row) const {
    const int of = E::kBlocks > 0 || is_constant() ? 0 : slot;
    const float w = E::kBlocks > 0 ? shared.w_scale[joined_row()] : from_bits(*value(at, 0, of, joined_row()));
    if (!p.x_scale_joins) return w;
    return w * (E::kBlocks > 0 ? shared.x_scale[x_row] : from_bits(*value(at, x_field(), of, x_row)));
  }
  // Each part by itself.
  __device__ __forceinline__ float join_parts(const uint8_t* record, int32_t columns, int slot, int at, int x_row,
                                              int place, float out) const {
    const bool one_scale = E::kBlocks > 0 || is_constant();
    float scale = part_scale(at, slot, x_row);
#pragma unroll 1
    for (; columns > 0; columns -= cuts.part, record += record_bytes) {
      const int32_t dot = reinterpret_cast<const int32_t*>(record)[place];
      if (!one_scale) scale = part_scale(at, slot++, x_row);
      if constexpr (E::kInteger) {
        out = __fmaf_rn(__int2float_rn(dot >> kLift<E, kBits>), scale, out);
      } else {
        out = __fmaf_rn(__int_as_float(dot), scale, out);
      }
    }
    return out;
  }
  // Integers that are summed up over a segment, corrected, or left as they are.
  __device__ __forceinline__ void join_segments(int tile, const uint8_t* record, int32_t columns, int slot, int at,
                                                int32_t column, int x_row, int place) {
    if constexpr (E::kInteger) {
      NarrowJoin out{y[tile], shared.totals[tile][threadIdx.x], shared.x_totals[tile][threadIdx.x]};
      int32_t so_far = in_segment;
#pragma unroll 1
      for (; columns > 0; columns -= cuts.part, column += cuts.part, record += record_bytes, ++slot) {
        const auto* words = reinterpret_cast<const int32_t*>(record);
        PartSums v{};
        uint32_t w_zero = 0;
        if (sums) {
          const int of = is_constant() ? 0 : slot;
          const int32_t* of_w = words + 128 * Shared::tiles(p);
          if (p.w.has_zero) w_zero = *value(at, 1, of, joined_row());
          if (!p.w.zero_is_float) v.w_zero = static_cast<int32_t>(w_zero);
          if (p.x.has_zero) v.x_zero = static_cast<int32_t>(*value(at, x_zero_field(), of, x_row));
          v.w_sum = of_w[joined_row()], v.x_sum = of_w[16 + x_row];
          v.length = min(cuts.part, p.k - column);
        }
        out.add(p, words[place] >> kLift<E, kBits>, v);
        so_far += cuts.part;
        const bool over = so_far == p.segment || column + cuts.part >= p.k;
        if (over || p.raw) out.close(p, part_scale(at, slot, x_row), from_bits(w_zero));
        if (over) so_far = 0;
      }
      y[tile] = out.y, shared.totals[tile][threadIdx.x] = out.total, shared.x_totals[tile][threadIdx.x] = out.x_total;
    }
  }
  const GemmParams& p;
  Shared& shared;
  const StreamCuts cuts;
  const int lane, warp;
  const int32_t m0, n0, rows;
  const bool sums;
  uint8_t* ring;
  uint8_t* records;
  uint32_t* values;
  int plane, stage_bytes, ring_bytes, record_bytes, span, span_shift, part_shift, slot_shift;
  int stage = 0, values_at = 0, flip, x_plane, x_place;
  const uint8_t *w_from, *x_from;
  int64_t x_stride;
  int32_t end, x_column, ahead_column, ahead_left, in_segment = 0;
  bool in_pair = false;  // the second step of a pair comes next
  bool split;
  Held held = {};
  Sum sum[2][4] = {};
  int32_t w_sums[2] = {}, x_sums[2] = {};
  float y[2] = {0.0f, 0.0f};
};

}  // namespace lowbit::cuda
