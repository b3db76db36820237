// The narrow loop of any cut of K and of weights through rows: a block of four warps computes 16 rows of w by 8 of x at
// a time, and the warps share K by turns of units: with `turn_units` u, warp i of the block takes units u i .. u i + u
// - 1 of a turn of 4 u. Each leaves the sums of its parts (a segment within a unit) in records; after every turn all
// threads join them, one output a thread.
//
// Whole sectors come from memory: scales and zero points in windows of the block (tile/value_window.cuh), those of a
// turn while the turn before the last one is multiplied; bit planes in windows of the warp (tile/warp_codes.cuh), so
// the units that a warp takes together have the columns of a window at least.
#pragma once

#include "cuda/tile/gemm_shape.h"
#include "cuda/tile/gemm_steps.cuh"
#include "cuda/tile/narrow_join.cuh"

namespace lowbit::cuda {

struct Narrow {
  static constexpr int kWarps = kNarrowWarps, kThreads = 32 * kWarps, kRowsW = kNarrowTile, kRowsX = 8;
};

// The values of one segment in a step, which a part takes along.
struct NarrowScales {
  float w[16], w_zero[16], x[8];
  int32_t w_int[16], x_int[8];
};

// One part, in whole sectors. The sum of row r of w and row c of x is sums[sum_at(r, c)]: the lanes of a store (rows g,
// columns 2 t) and the threads of the join (16 rows, two columns that lie side by side) meet all banks.
struct PartRecord {
  int32_t sums[128];  // the bits of floats where the engine's sums are
  float w_scale[16], w_float_zero[16], x_scale[8];
  int32_t w_zero[16], w_sum[16], x_zero[8], x_sum[8];
  int32_t length, segment, last, pad[5];
};
static_assert(kNarrowColumns / Narrow::kRowsX * sizeof(PartRecord) == kPartBytes);
__device__ __forceinline__ int sum_at(int r, int c) { return 16 * (c % 2 * 4 + c / 2) + (r ^ (c / 4 * 8)); }

// Shared memory: this, the rings of the warps (weights, rows of x), their scales, windows, the records of a turn.
template <class E>
struct WalkShared {
  Step steps[Narrow::kWarps][kStepRing];
  Walker walkers[Narrow::kWarps];  // of lanes 0
  Tables<E> tables;
  int32_t arrived;

  static constexpr int64_t weights(int terms) { return Narrow::kRowsW * E::kRowBytes * terms; }
  static constexpr int64_t rows(int terms) { return Narrow::kRowsX * E::kRowBytes * terms; }
  static constexpr int64_t header() { return (static_cast<int64_t>(sizeof(WalkShared)) + 127) / 128 * 128; }
  static constexpr __host__ __device__ int64_t rings(const GemmParams& p, int stages) {
    return Narrow::kWarps * stages * (weights(p.w_terms) + rows(p.x_terms));
  }
  static constexpr __host__ __device__ int64_t scales(const GemmParams& p, int stages) {
    return Narrow::kWarps * stages * p.slots * static_cast<int64_t>(sizeof(NarrowScales));
  }
  static constexpr __host__ __device__ int64_t codes(const GemmParams& p) {
    return p.code_windows ? WarpCodes::bytes(p.w) : 0;
  }
  static constexpr __host__ __device__ int64_t windows(const GemmParams& p) {
    return NarrowWindows::value_bytes(p) + Narrow::kWarps * codes(p);
  }
  static constexpr int64_t bytes(const GemmParams& p, int stages, bool split) {
    const int64_t records = split ? 0 : int64_t{Narrow::kWarps} * p.turn_units * p.unit_parts;
    return header() + rings(p, stages) + scales(p, stages) + windows(p) +
           static_cast<int64_t>(sizeof(PartRecord)) * records;
  }
};

template <class E>
class NarrowWalk {
  using Sum = typename E::Sum;
  using Shared = WalkShared<E>;

 public:
  __device__ __forceinline__ NarrowWalk(const GemmParams& params, Shared* s)
      : p(params),
        shared(*s),
        lane(static_cast<int>(threadIdx.x % 32)),
        warp(static_cast<int>(threadIdx.x / 32)),
        row_tile(params.across(static_cast<int32_t>(blockIdx.x))),
        n0((static_cast<int32_t>(blockIdx.x) - row_tile * params.across.size) * Narrow::kRowsW),
        data(reinterpret_cast<uint4*>(reinterpret_cast<uint8_t*>(s) + Shared::header())) {}

  __device__ __forceinline__ void run() {
    units = (p.k + p.unit - 1) / p.unit;
    const bool split = gridDim.y > 1;
    const int32_t turn = Narrow::kWarps * p.turn_units;  // of which a share has whole ones: a part takes as long
    int32_t share = (units + static_cast<int32_t>(gridDim.y) - 1) / static_cast<int32_t>(gridDim.y);
    share = (share + turn - 1) / turn * turn;
    unit_begin = static_cast<int32_t>(blockIdx.y) * share;
    unit_end = min(units, unit_begin + share);
    fill_tables<0>(p, &shared.tables, static_cast<int>(threadIdx.x), Narrow::kThreads);
#pragma unroll 1
    for (int half = 0; place(half); ++half) {
      sum_parts(split);
      if (!split) write();
      __syncthreads();
    }
    if (!split) return;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
      shared.arrived = atomicAdd(p.arrivals + blockIdx.x, 1);
    }
    __syncthreads();
    if (shared.arrived != static_cast<int32_t>(gridDim.y) - 1) return;
    __threadfence();
#pragma unroll 1
    for (int half = 0; place(half); ++half) {
      out = NarrowJoin();
      join(units);
      write();
    }
  }

 private:
  // Columns 8 half .. + 7 of the block's tile. False: there are none.
  __device__ __forceinline__ bool place(int half) {
    m0 = row_tile * kNarrowColumns + half * Narrow::kRowsX;
    if (half * Narrow::kRowsX >= kNarrowColumns || m0 >= p.m) return false;
    if constexpr (E::kBlocks > 0) {  // the scales of the scales have no blocks along K
      const int row = lane % 16;
      if (lane < 16) loaded.scale = p.w.scale_of_codes(min(n0 + row, p.n - 1));
      if (lane >= 16 && lane < 24) loaded.scale = p.x.scale_of_codes(min(m0 + row, p.m - 1));
    }
    if (gridDim.y > 1) {
      records = static_cast<PartRecord*>(p.parts) +
                (int64_t{blockIdx.x} * (kNarrowColumns / Narrow::kRowsX) + half) * units * p.unit_parts;
    } else {
      records = reinterpret_cast<PartRecord*>(reinterpret_cast<uint8_t*>(windows()) + Shared::windows(p));
    }
    return true;
  }

  // The parts of the block's units to records; where K is not split, they are joined too.
  __device__ __forceinline__ void sum_parts(bool split) {
    const int32_t turn = Narrow::kWarps * p.turn_units;
    const int64_t columns = int64_t{turn} * p.unit, begin = int64_t{unit_begin} * p.unit;
    values_end = -1;
    bring_values(begin, begin + 2 * columns);
    ahead_unit = unit_begin + warp * p.turn_units;
    ahead_column = ahead_unit * p.unit;
    ahead_left = p.part;
    entered = brought = WarpCodes::Place();
    codes_unit = ahead_unit, codes_column = ahead_column;
    if (p.code_windows) bring_codes();
    if (lane == 0 && !p.even) {
      shared.walkers[warp] = Walker{};
      start(ahead_unit);
      for (int i = 0; i <= p.stages; ++i) next(i);
    }
    end_copies();
    __syncthreads();
#pragma unroll 1
    for (int32_t s = 0; s < p.stages - 1; ++s) values_store(s, fetch(s, s), s);
    stage = 0, ahead_stage = p.stages - 1;
    out = NarrowJoin();
    at = 0;
#pragma unroll 1
    for (int32_t first = unit_begin; first < unit_end; first += turn) {
      const int64_t column = int64_t{first} * p.unit;
      bring_values(column, column + 3 * columns);
      const int32_t mine = first + warp * p.turn_units, mine_end = min(mine + p.turn_units, unit_end);
#pragma unroll 1
      for (int32_t u = mine; u < mine_end; ++u) unit(u, split ? u : u - first);
      end_copies();
      __syncthreads();
      if (!split) {
        join(min(turn, unit_end - first));
        __syncthreads();
      }
    }
  }
  static __device__ __forceinline__ void end_copies() {
    ptx::cp_async_commit_group();
    ptx::cp_async_wait_group<0>();
  }

  __device__ __forceinline__ void write() const {
    const int32_t n = n0 + joined_row(), m = m0 + joined_col();
    if (n < p.n && m < p.m) finish(p, m, n, last_scale(p, m), bias_at(p, n, 0), out.y);
  }

  // The unit that the warp takes behind u.
  __device__ __forceinline__ int32_t after(int32_t u) const {
    const bool in_turn = ((u + 1 - unit_begin) & (p.turn_units - 1)) != 0;
    return u + 1 + (in_turn ? 0 : (Narrow::kWarps - 1) * p.turn_units);
  }

  // ---- the walk of lane 0, ahead of the warp

  __device__ __forceinline__ void start(int32_t u) {
    if (u >= unit_end) return;
    shared.walkers[warp].start(p, u * p.unit, min(p.k, (u + 1) * p.unit), true);
  }
  // The next step of the warp's units into the ring.
  __device__ __forceinline__ void next(int32_t s) {
    Step* step = &shared.steps[warp][s & (kStepRing - 1)];
    if (ahead_unit < unit_end && shared.walkers[warp].column == shared.walkers[warp].end) {
      ahead_unit = after(ahead_unit);
      start(ahead_unit);
    }
    if (ahead_unit >= unit_end) {
      shared.walkers[warp].end = shared.walkers[warp].column;
    }
    shared.walkers[warp].next(p, true, step);
  }

  __device__ __forceinline__ uint4* weights(int which) const {
    return data + (warp * p.stages + which) * ((Shared::weights(p.w_terms) + Shared::rows(p.x_terms)) / 16);
  }
  __device__ __forceinline__ uint4* rows(int which) const { return weights(which) + Shared::weights(p.w_terms) / 16; }

  __device__ __forceinline__ NarrowScales* scales(int which) const {
    return reinterpret_cast<NarrowScales*>(data + Shared::rings(p, p.stages) / 16) +
           (warp * p.stages + which) * p.slots;
  }

  // ---- windows

  // Of the block's values.
  __device__ __forceinline__ uint32_t* windows() const {
    return reinterpret_cast<uint32_t*>(reinterpret_cast<uint8_t*>(data) + Shared::rings(p, p.stages) +
                                       Shared::scales(p, p.stages));
  }
  __device__ __forceinline__ uint32_t* code_windows() const {
    return windows() + (NarrowWindows::value_bytes(p) + warp * Shared::codes(p)) / 4;
  }

  // All threads bring the windows of values that are not there of the block's columns up to `to`; the first ones are
  // those of column `from`.
  __device__ __forceinline__ void bring_values(int64_t from, int64_t to) {
    const auto end = static_cast<int32_t>(min(to, min(int64_t{unit_end} * p.unit, int64_t{p.k})));
    if (end <= values_end || from >= end) return;
    uint32_t* base = windows();
    bring<Narrow::kRowsW>(p.w.scale_window, p.w.scale.data, from, end, n0, p.n, base);
    bring<Narrow::kRowsW>(p.w.zero_window, p.w.zero.data, from, end, n0, p.n, NarrowWindows::w_zeros(p, base));
    bring<Narrow::kRowsX>(p.x.scale_window, p.x.scale.data, from, end, m0, p.m, NarrowWindows::x_scales(p, base));
    bring<Narrow::kRowsX>(p.x.zero_window, p.x.zero.data, from, end, m0, p.m, NarrowWindows::x_zeros(p, base));
    values_end = end;
  }
  template <int kRows>
  __device__ __forceinline__ void bring(const ValueWindow& window, const void* values, int64_t from, int32_t end,
                                        int32_t row0, int32_t row_end, uint32_t* to) const {
    if (window.ring == 0) return;
    int32_t index = values_end < 0 ? static_cast<int32_t>(from) / window.span : (values_end - 1) / window.span + 1;
#pragma unroll 1
    for (; index <= (end - 1) / window.span; ++index) {
      window.copy<kRows, Narrow::kThreads>(values, 0, index, row0, row_end, to, static_cast<int>(threadIdx.x));
    }
  }
  // What row `row` of the tile has at column c, in the low bits.
  template <int kRows>
  static __device__ __forceinline__ uint32_t stored_at(const ValueWindow& window, const DeviceValues& values,
                                                       const uint32_t* from, int row, int32_t c) {
    const int32_t j = values.block_cols(c);
    return window.words<kRows>(from, j)[row] >> window.shift(j);
  }

  // The warp brings the windows of codes that its next steps meet, as far as the rings have room: one behind each that
  // is in use, so that of the next step at least.
  __device__ __forceinline__ void bring_codes() {
#pragma unroll 1
    while (codes_unit < unit_end) {
      const Operand::Column from = WarpCodes::column_of(p.w, codes_column);
      const int32_t index = from.column / WarpCodes::kColumns;
      if (brought.is_new(from.source, index)) {
        if (brought.count_of(from.source) > entered.count_of(from.source)) return;
        brought.meet(from.source, index);
        uint32_t* to = WarpCodes::window(p.w, code_windows(), from.source, brought.count_of(from.source));
        WarpCodes::copy(p.w, from.source, index, n0, p.n, to, lane);
      }
      codes_column += kStepSlots;
      if (codes_column >= min(p.k, (codes_unit + 1) * p.unit)) {
        codes_unit = after(codes_unit);
        codes_column = codes_unit * p.unit;
      }
    }
  }
  // The codes of the step at `c` become rows now.
  __device__ __forceinline__ WarpCodes::Step enter_codes(int32_t c) {
    const Operand::Column from = WarpCodes::column_of(p.w, c);
    entered.meet(from.source, from.column / WarpCodes::kColumns);
    return {WarpCodes::window(p.w, code_windows(), from.source, entered.count_of(from.source)), from.column,
            from.source};
  }

  // Brings step s of the warp into stage `to`, and its first scales into registers. Their column, -1: none are needed.
  __device__ __forceinline__ int32_t fetch(int32_t s, int to) {
    const Step* step = p.even ? nullptr : &shared.steps[warp][s & (kStepRing - 1)];
    int32_t column = -1, needs = -1;
    if (step != nullptr) {
      if (step->pieces[0].length != 0) column = step->pieces[0].column;
      needs = step->slot_column[0];
    } else if (ahead_unit < unit_end) {
      column = ahead_column;
      const int32_t end = min(p.k, (ahead_unit + 1) * p.unit);
      ahead_column += kStepSlots, ahead_left -= kStepSlots;
      if (ahead_left <= 0 || ahead_column >= end || E::kBlocks > 0) needs = column;
      if (ahead_left <= 0) ahead_left = p.part;
      if (ahead_column >= end) {
        ahead_unit = after(ahead_unit);
        ahead_column = ahead_unit * p.unit;
        ahead_left = p.part;
      }
    }
    if (column >= 0) {
      values_load(needs);
      if (p.code_windows) {
        const WarpCodes::Step codes = enter_codes(column);
        bring_codes();
        bring_rows_of_warp<E>(p, shared.tables, n0, step, column, windows(), codes, weights(to));
      } else {
        bring_rows<E, 32>(p, shared.tables, true, 0, n0, Narrow::kRowsW, p.n, step, column, weights(to), windows());
      }
      if (p.x_async) {
        copy_rows<E>(p.x, p.k, m0, Narrow::kRowsX, p.m, column / kStepSlots, rows(to), lane, 32);
      } else {
        bring_rows<E, 32>(p, shared.tables, false, 0, m0, Narrow::kRowsX, p.m, step, column, rows(to));
      }
    }
    ptx::cp_async_commit_group();
    return needs;
  }

  // Lanes 0..15 have the rows of w, 16..23 those of x. The first scales of a step, mostly its only ones, go through
  // registers, so that their loads are under way while the step before is multiplied.
  struct Scales {
    float scale, w_zero;
    int32_t zero;
  };
  __device__ __forceinline__ void values_load(int32_t c) {
    if (c < 0) return;
    const int row = lane % 16;
    uint32_t* base = windows();
    if constexpr (E::kBlocks > 0) {
      constexpr int kCount = kStepSlots / kMultiplied<E> * E::kBlocks;
      const Operand& o = lane < 16 ? p.w : p.x;
      const int32_t r = lane < 16 ? min(n0 + row, p.n - 1) : min(m0 + row, p.m - 1);
      if (lane < 24) {
        if (o.scale_window.ring == 0) {
          loaded.zero = static_cast<int32_t>(o.scale_codes(r, c, kCount));
        } else if (lane < 16) {
          loaded.zero = static_cast<int32_t>(stored_at<Narrow::kRowsW>(o.scale_window, o.scale, base, row, c));
        } else {
          loaded.zero = static_cast<int32_t>(
              stored_at<Narrow::kRowsX>(o.scale_window, o.scale, NarrowWindows::x_scales(p, base), row, c));
        }
      }
      return;
    }
    if (lane < 16) {
      const int32_t r = min(n0 + row, p.n - 1);
      if (p.w.scale_window.ring != 0) {
        loaded.scale = p.w.scale_of(stored_at<Narrow::kRowsW>(p.w.scale_window, p.w.scale, base, row, c), r, c, 0);
      } else {
        loaded.scale = p.w.scale_from(r, c);
      }
      if (!p.w.has_zero || !E::kInteger) return;  // of floats rows have taken it
      if (p.w.zero_window.ring != 0) {
        const uint32_t stored =
            stored_at<Narrow::kRowsW>(p.w.zero_window, p.w.zero, NarrowWindows::w_zeros(p, base), row, c);
        if (p.w.zero_is_float) loaded.w_zero = p.w.zero_of(stored);
        loaded.zero = p.w.integer_zero_of(stored);
      } else {
        if (p.w.zero_is_float) loaded.w_zero = p.w.zero_at(r, c);
        loaded.zero = p.w.integer_zero_at(r, c);
      }
    } else if (lane < 24) {
      const int32_t m = min(m0 + row, p.m - 1);
      if (p.x_scale_joins) {
        loaded.scale = p.x.scale_window.ring != 0
                           ? p.x.scale_of(stored_at<Narrow::kRowsX>(p.x.scale_window, p.x.scale,
                                                                    NarrowWindows::x_scales(p, base), row, c),
                                          m, c, 0)
                           : p.x.scale_from(m, c);
      }
      if (!E::kInteger) return;
      loaded.zero = p.x.zero_window.ring != 0 ? p.x.integer_zero_of(stored_at<Narrow::kRowsX>(
                                                    p.x.zero_window, p.x.zero, NarrowWindows::x_zeros(p, base), row, c))
                                              : p.x.integer_zero_at(m, c);
    }
  }
  __device__ __forceinline__ void values_store(int32_t s, int32_t c, int to) {
    if (c < 0) return;
    const Step* step = p.even ? nullptr : &shared.steps[warp][s & (kStepRing - 1)];
    const int row = lane % 16, shift = !E::kInteger ? 0 : lane < 16 ? p.w.bytes.shift : p.x.bytes.shift;
    const float down = E::kInteger ? power_of_two(-shift) : 1.0f;
    const auto up = static_cast<float>(E::kInteger ? 1 << shift : 1);
    NarrowScales* v = scales(to);
#pragma unroll 1
    for (int i = 0;; ++i, ++v) {
      if (lane < 16) {
        v->w[row] = loaded.scale * down;
        v->w_zero[row] = loaded.w_zero * up;
        v->w_int[row] = loaded.zero;
      } else if (lane < 24) {
        v->x[row] = p.x_scale_joins ? loaded.scale * down : 1.0f;
        v->x_int[row] = loaded.zero;
      }
      if (step == nullptr || i == 3 || step->slot_column[i + 1] < 0) break;
      values_load(step->slot_column[i + 1]);
    }
  }

  // ---- one unit: its parts go to records place * unit_parts ...

  __device__ __forceinline__ void unit(int32_t u, int32_t place) {
    PartRecord* record = records + static_cast<int64_t>(place) * p.unit_parts;
    column = u * p.unit;
    left = p.part;
#pragma unroll 1
    for (bool more = true; more; ++at) {
      wait_stages(p.stages - 2);
      __syncwarp();
      if (lane == 0 && !p.even) next(at + p.stages + 1);
      const int32_t needs = fetch(at + p.stages - 1, ahead_stage);
      more = compute(u, &record);
      values_store(at + p.stages - 1, needs, ahead_stage);
      stage = stage + 1 == p.stages ? 0 : stage + 1;
      ahead_stage = ahead_stage + 1 == p.stages ? 0 : ahead_stage + 1;
    }
  }

  __device__ __forceinline__ bool mma64_order() const { return !E::kBytes && p.mma64_order; }
  // As in the wide loop.
  template <bool kSums, bool kEven>
  __device__ __forceinline__ void multiply(int chunk, int piece, int length, const NarrowScales& values) {
    const int g = lane / 4, t = lane % 4;
    const uint32_t flip = kSums && p.x_async && p.x.bytes.offset != 0 ? 0x80808080u : 0u;
#pragma unroll 1
    for (int tw = 0; tw < (kEven ? 1 : p.w_terms); ++tw) {
      const uint4* w = weights(stage) + tw * Narrow::kRowsW * 8;
      uint32_t a[4];
      if (mma64_order()) {
        row_fragment_mma64<E>(w, piece, lane, a);
      } else {
        row_fragment<E>(chunk, w, 0, piece, lane, a);
      }
      if constexpr (kSums) {
        const int low = static_cast<int>(ones(length - 4 * t)), high = static_cast<int>(ones(length - 16 - 4 * t));
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          w_sums[h] = __dp4a(static_cast<int>(a[h]), low, w_sums[h]);
          w_sums[h] = __dp4a(static_cast<int>(a[2 + h]), high, w_sums[h]);
        }
      }
#pragma unroll 1
      for (int tx = 0; tx < (kEven ? 1 : min(p.x_terms, kMaxTerms - tw)); ++tx) {
        const uint4* x = rows(stage) + tx * Narrow::kRowsX * 8;
        uint32_t b[2];
        if (mma64_order()) {
          x_fragment<E, true>(chunk, x, piece, lane, length, flip, b);
        } else {
          x_fragment<E, false>(chunk, x, piece, lane, length, flip, b);
        }
        if constexpr (kSums) {
          x_sum = __dp4a(static_cast<int>(b[0]), 0x01010101, x_sum);
          x_sum = __dp4a(static_cast<int>(b[1]), 0x01010101, x_sum);
        }
        if constexpr (E::kBlocks == 4) {
#pragma unroll
          for (int j = 0; j < 4; ++j) a[j] ^= block_sign(static_cast<uint32_t>(values.w_int[g + j % 2 * 8]), j / 2, t);
#pragma unroll
          for (int j = 0; j < 2; ++j) b[j] ^= block_sign(static_cast<uint32_t>(values.x_int[g]), j, t);
        }
        if constexpr (E::kBlocks > 0) {  // as in the wide loop
          E::multiply(sum, a, b, static_cast<uint32_t>(values.w_int[g + t % 2 * 8]) >> (8 * piece),
                      static_cast<uint32_t>(values.x_int[g]) >> (8 * piece));
        } else {
          E::multiply(sum, a, b);
        }
      }
    }
  }

  // False behind the last step of the unit.
  __device__ __forceinline__ bool compute(int32_t u, PartRecord** record) {
    const NarrowScales* values = scales(stage);
    const bool sums = E::kInteger && (p.w_sums || p.x_sums);
    if (kEvenOnly<E> || p.even) {
      constexpr int kChunk = kMultiplied<E>, kPieces = kStepSlots / kChunk;
      const int32_t length = min(kStepSlots, p.k - column), end = min(p.k, (u + 1) * p.unit);
#pragma unroll
      for (int j = 0; j < kPieces; ++j) {
        if (sums) {
          if constexpr (E::kInteger && !E::kNibbles) multiply<true, true>(kChunk, j, length - j * kChunk, *values);
        } else {
          multiply<false, true>(kChunk, j, length - j * kChunk, *values);
        }
      }
      left -= kStepSlots, column += kStepSlots;
      const bool last = column >= end;
      if (left <= 0 || last) {
        const bool segment = column >= p.k || (p.segment != 0 && column % p.segment == 0);
        save(p.part - left - kStepSlots + length, segment, last, *values, *record);
        ++*record;
        left = p.part;
      }
      return !last;
    }
    const Step& step = shared.steps[warp][at & (kStepRing - 1)];
    const int pieces = kStepSlots / p.chunk;
#pragma unroll 1
    for (int j = 0; j < pieces; ++j) {
      const Piece piece = step.pieces[j];
      if (piece.length == 0) return false;
      multiply<E::kInteger, false>(p.chunk, j, piece.length, values[piece.slot]);
      if (piece.joins) {
        save(piece.joined, piece.segment, piece.last, values[piece.slot], *record);
        ++*record;
        if (piece.last) return false;
      }
    }
    return true;
  }

  __device__ __forceinline__ void save(int32_t length, bool segment, bool last, const NarrowScales& scales,
                                       PartRecord* to) {
    const int g = lane / 4, t = lane % 4, row = lane % 16;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      int32_t& place = to->sums[sum_at(g + 8 * (e / 2), 2 * t + e % 2)];
      if constexpr (E::kInteger) {
        place = sum[e];
      } else {
        place = __float_as_int(sum[e]);
      }
      sum[e] = 0;
    }
    if (E::kInteger && (p.w_sums || p.x_sums)) {  // over the four lanes of a row
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        w_sums[h] += __shfl_xor_sync(0xffffffffu, w_sums[h], 1);
        w_sums[h] += __shfl_xor_sync(0xffffffffu, w_sums[h], 2);
        if (t == 0) to->w_sum[g + 8 * h] = w_sums[h];
        w_sums[h] = 0;
      }
      x_sum += __shfl_xor_sync(0xffffffffu, x_sum, 1);
      x_sum += __shfl_xor_sync(0xffffffffu, x_sum, 2);
      if (t == 0) to->x_sum[g] = x_sum;
      x_sum = 0;
    }
    if (lane < 16) {
      to->w_scale[row] = scales.w[row];
      to->w_float_zero[row] = scales.w_zero[row];
      to->w_zero[row] = scales.w_int[row];
    } else if (lane < 24) {
      to->x_scale[row] = scales.x[row];
      to->x_zero[row] = scales.x_int[row];
    }
    if (lane == 0) to->length = length, to->segment = segment, to->last = last;
  }

  // The output of this thread.
  static __device__ __forceinline__ int joined_row() { return static_cast<int>(threadIdx.x % 16); }
  static __device__ __forceinline__ int joined_col() {
    const int place = static_cast<int>(threadIdx.x / 16);
    return place % 4 * 2 + place / 4;
  }

  // The records of `count` units in order, one output a thread.
  __device__ __forceinline__ void join(int32_t count) {
    const int row = joined_row(), col = joined_col();
#pragma unroll 1
    for (int32_t u = 0; u < count; ++u) {
#pragma unroll 1
      for (const PartRecord* r = records + static_cast<int64_t>(u) * p.unit_parts;; ++r) {
        float scale = r->w_scale[row];
        if (p.x_scale_joins) scale *= r->x_scale[col];
        const int32_t dot = r->sums[sum_at(row, col)];
        if constexpr (E::kInteger) {
          PartSums v{r->w_zero[row], r->x_zero[col], 0, 0, r->length};
          if (p.w_sums || p.x_sums) v.w_sum = r->w_sum[row], v.x_sum = r->x_sum[col];
          out.add(p, dot, v);
          if (r->segment || p.raw) out.close(p, scale, r->w_float_zero[row]);
        } else {
          out.y = __fmaf_rn(__int_as_float(dot), scale, out.y);
        }
        if (r->last) break;
      }
    }
  }

  const GemmParams& p;
  Shared& shared;
  const int lane, warp;
  const int32_t row_tile, n0;
  int32_t m0;
  uint4* data;
  PartRecord* records;
  int32_t units, unit_begin, unit_end, at, stage, ahead_stage;
  int32_t ahead_unit, ahead_column, ahead_left, column, left;  // p.even: places and columns of the part left
  int32_t values_end;                 // windows of values are there, or under way, up to here; -1: none
  WarpCodes::Place entered, brought;  // windows of codes
  int32_t codes_unit, codes_column;   // the step behind those whose windows are brought
  Scales loaded = {};
  Sum sum[4] = {};
  int32_t w_sums[2] = {}, x_sum = 0;
  NarrowJoin out;
};

}  // namespace lowbit::cuda
