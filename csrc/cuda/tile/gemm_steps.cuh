// What both GEMM loops (gemm_wide.cuh, gemm_narrow.cuh) do in a step of 64 slots: walk K, bring rows into shared
// memory, load fragments, multiply a piece, join a part. Positions in shared memory are 16-byte chunks.
#pragma once

#include <cstdint>

#include "cuda/ptx/memory.cuh"
#include "cuda/tile/code_window.cuh"
#include "cuda/tile/fragments.cuh"
#include "cuda/tile/gemm_engine.cuh"
#include "cuda/tile/gemm_params.h"
#include "cuda/tile/swizzle.cuh"
#include "cuda/tile/warp_codes.cuh"
#include "cuda/tile/weight_words.cuh"

namespace lowbit::cuda {

// ---- the walk

struct Piece {
  int32_t column;   // the first
  int32_t joined;   // where it joins: columns of the part that ends here
  int16_t length;   // 0: none
  uint8_t joins;    // the part ends with this piece
  uint8_t segment;  // the segment too
  uint8_t slot;     // which of the step's scales are its
  uint8_t last;     // of the unit
  uint16_t pad;
};
static_assert(sizeof(Piece) == 16);

struct Step {
  Piece pieces[4];
  int32_t slot_column[4];  // a column under each set of scales; -1: unused

  // Behind the last column.
  __device__ __forceinline__ int32_t end() const {
    int32_t end = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (pieces[i].length != 0) end = pieces[i].column + pieces[i].length;
    }
    return end;
  }
  // The last of the columns whose scales it takes, -1: none.
  __device__ __forceinline__ int32_t last_scales() const {
    return max(max(slot_column[0], slot_column[1]), max(slot_column[2], slot_column[3]));
  }
};

struct Walker {
  int32_t column, end, part, segment_end, unit_end;

  __device__ __forceinline__ void start(const GemmParams& p, int32_t from, int32_t to, bool cut_units) {
    column = part = from;
    end = to;
    segment_end = segment(p, from);
    unit_end = cut_units ? from / p.unit * p.unit + p.unit : p.k;
  }
  static __device__ __forceinline__ int32_t segment(const GemmParams& p, int32_t c) {
    int32_t begin = 0, limit = p.k;
    if (p.w.is_complex) {
      if (c >= p.k / 2) {
        begin = p.k / 2;
      } else {
        limit = p.k / 2;
      }
    }
#pragma unroll 1
    for (int i = 0; i < kMaxCuts && p.cuts[i] > 0; ++i) {
      const int32_t from = i < p.w_cuts ? begin : 0;  // blocks of x go through both halves of a complex product
      limit = min(limit - c, p.cuts[i] - (c - from) % p.cuts[i]) + c;  // sums of two columns would leave int32
    }
    return limit;
  }
  // The next 64 slots.
  __device__ __forceinline__ void next(const GemmParams& p, bool cut_units, Step* step) {
    int slot = 0;
    const int pieces = kStepSlots / p.chunk;
#pragma unroll
    for (int i = 0; i < 4; ++i) step->slot_column[i] = -1;
#pragma unroll 1
    for (int i = 0; i < 4; ++i) {
      Piece q{};
      q.column = column;
      q.slot = static_cast<uint8_t>(slot < 4 ? slot : 3);
      if (i < pieces && column < end) {
        const int32_t part_end = min(segment_end, min(unit_end, end));
        const int32_t to = min(column + p.chunk, part_end);
        q.length = static_cast<int16_t>(to - column);
        step->slot_column[q.slot] = column;
        column = to;
        if (to == part_end) {
          q.joins = 1;
          q.joined = to - part;
          q.segment = to == segment_end;
          q.last = to == end || to == unit_end;
          part = to;
          ++slot;
          if (to == segment_end && to < p.k) segment_end = segment(p, to);
          if (to == unit_end) unit_end += p.unit;
        }
      }
      step->pieces[i] = q;
    }
  }
};

inline constexpr int kStepRing = 8;  // steps that are known ahead: at most two more than stages

// cp.async groups of earlier stages that may still be under way.
__device__ __forceinline__ void wait_stages(int left) {
  if (left >= 2) {
    ptx::cp_async_wait_group<2>();
  } else if (left == 1) {
    ptx::cp_async_wait_group<1>();
  } else {
    ptx::cp_async_wait_group<0>();
  }
}

// ---- tables: every code as what is multiplied

template <class E>
struct Tables {
  using Entry = typename std::conditional<E::kBytes, uint8_t, float>::type;
  Entry w[2][256];
  Entry x[256];
};

template <class Entry>
__device__ __noinline__ void fill_table(const CodeSource& source, const ByteMap& map, bool codes, Entry* table,
                                        int thread, int threads) {
  const ElementFormat& f = source.format.row;
  for (int i = thread; i < 256; i += threads) {
    const auto code = static_cast<uint32_t>(i) & ((1u << f.bits) - 1u);
    if (codes) {
      table[i] = static_cast<Entry>(code);
      continue;
    }
    float v;
    if (f.is_complex()) {  // entry 16 * part + code
      v = static_cast<float>(complex_part(static_cast<uint32_t>(i) & 3u, static_cast<Part>(i / 16 % 4)));
    } else {
      v = value_of(source, code);
    }
    if constexpr (sizeof(Entry) == 1) {
      const int whole = static_cast<int>(v * static_cast<float>(1 << map.shift));
      table[i] = static_cast<uint8_t>((whole + map.offset) / map.factor);
    } else {
      table[i] = v;
    }
  }
}

// Those that rows are made by.
template <int kBits, class E>
__device__ __forceinline__ void fill_tables(const GemmParams& p, Tables<E>* t, int thread, int threads) {
  constexpr bool codes = E::kBytes && !E::kInteger;  // multiplied as they are
  if (kBits == 0 && !E::kNibbles) fill_table(p.w.low, p.w.bytes, codes, t->w[0], thread, threads);
  if (kBits == 0 && p.w.high_groups != nullptr) fill_table(p.w.high, p.w.bytes, codes, t->w[1], thread, threads);
  if (p.x.dense.data == nullptr && !p.x_async && !E::kNibbles)
    fill_table(p.x.low, p.x.bytes, codes, t->x, thread, threads);
}

// ---- rows in shared memory

// The place of 16-byte chunk `chunk` of row `row`. Rows of 128 bytes: eight rows meet eight bank groups (ldmatrix), and
// so do the two chunks of four rows 0..3 or 4..7 (eight bytes a lane).
template <class E>
__device__ __forceinline__ int chunk_at(int row, int chunk) {
  if constexpr (E::kRowBytes <= 64) return swizzle<E::kRowBytes / 16>(row, chunk);
  const auto r = static_cast<unsigned>(row);
  return row * 8 + (chunk ^ static_cast<int>(r % 4 * 2 + r / 4 % 2));
}

// The first `length` bytes of a word as ones: 4 slots of a row that are columns.
__device__ __forceinline__ uint32_t ones(int length) {
  return length >= 4 ? 0x01010101u : length <= 0 ? 0u : 0x01010101u & ((1u << (8 * length)) - 1u);
}

// The windows of a block's tile, one ring after the other from `base` on: w's scales and zero points, x's.
template <int kRowsW, int kRowsX>
struct TileWindows {
  static constexpr int kW = ValueWindow::kWords<kRowsW>, kX = ValueWindow::kWords<kRowsX>;

  static constexpr __host__ __device__ int64_t value_bytes(const GemmParams& p) {
    return int64_t{4} *
           (kW * (p.w.scale_window.ring + p.w.zero_window.ring) + kX * (p.x.scale_window.ring + p.x.zero_window.ring));
  }
  static __device__ __forceinline__ uint32_t* w_zeros(const GemmParams& p, uint32_t* base) {
    return base + kW * p.w.scale_window.ring;
  }
  static __device__ __forceinline__ uint32_t* x_scales(const GemmParams& p, uint32_t* base) {
    return w_zeros(p, base) + kW * p.w.zero_window.ring;
  }
  static __device__ __forceinline__ uint32_t* x_zeros(const GemmParams& p, uint32_t* base) {
    return x_scales(p, base) + kX * p.x.scale_window.ring;
  }
  // The zero point at row `row` of the tile.
  static __device__ __forceinline__ float w_zero(const GemmParams& p, uint32_t* base, int row, int32_t c) {
    const int32_t j = p.w.zero.block_cols(c);
    return p.w.zero_of(p.w.zero_window.template words<kRowsW>(w_zeros(p, base), j)[row] >> p.w.zero_window.shift(j));
  }
};
using NarrowWindows = TileWindows<kNarrowTile, kNarrowColumns / 2>;

// Of the wide loop: w's codes too.
struct WideWindows : TileWindows<kWideTile, kWideColumns> {
  static int64_t bytes(const GemmParams& p) {
    return value_bytes(p) + (p.code_windows ? CodeWindows<kWideTile>::bytes(p.w) : 0);
  }
  static __device__ __forceinline__ uint32_t* codes(const GemmParams& p, uint32_t* base) {
    return x_zeros(p, base) + kX * p.x.zero_window.ring;
  }
};
template <int kThreads>
using WindowsOf = typename std::conditional<kThreads == 32, NarrowWindows, WideWindows>::type;

// How rows come into shared memory through registers: 16 columns of a row a lane. Eight neighbouring lanes have eight
// rows, so that what they write meets all banks. A warp has all columns of eight rows, or half of those of sixteen, the
// rows of tiles, so that what it reads are whole sectors; with windows 32 rows.
struct RowPlace {
  int row, slot;
  __device__ __forceinline__ RowPlace(int at, int count, int rows) {
    const auto a = static_cast<unsigned>(at), r = static_cast<unsigned>(rows);
    const unsigned blocks = static_cast<unsigned>(count) / r;  // of rows; all counts here are powers of two
    row = static_cast<int>((a / 32 & (blocks - 1)) * r + a % r);
    slot = static_cast<int>((a / 32 >> (__ffs(static_cast<int>(blocks)) - 1)) * (512 / r) + a % 32 / r * 16);
  }
};

// As stage_rows, of nibbles: 32 columns from `column` on to a chunk, in the order of gemm_engine.cuh. Lanes l and l ^ 8
// share a chunk; with windows a warp has two such pairs of eight rows. Whole warps go through eight rows at a time,
// whatever `count` is.
template <class E, int kThreads, bool kWindows>
__device__ __noinline__ void stage_nibbles(const GemmParams& p, bool is_w, int32_t expert, int32_t row0, int count,
                                           int32_t row_end, int32_t column, uint32_t* windows, uint4* to,
                                           WarpCodes::Step warp_codes = {}) {
  constexpr bool kPairs = kWindows && kThreads != 32;
  const Operand& o = is_w ? p.w : p.x;
  const int64_t step = is_w ? expert * p.w_step : 0;
#pragma unroll 1
  for (int at = static_cast<int>(threadIdx.x) % kThreads; at < (count + 7) / 8 * 32; at += kThreads) {
    const auto a = static_cast<unsigned>(at), blocks = static_cast<unsigned>(count) / 16;
    const auto row = static_cast<int>(kPairs ? a / 32 % blocks * 16 + a / 16 % 2 * 8 + a % 8 : a / 32 * 8 + a % 8);
    const auto part = static_cast<int>(kPairs ? a / 32 / blocks * 2 + a / 8 % 2 : a / 8 % 4);
    const int32_t r = row0 + row, c = column + 16 * part, left = r < row_end ? o.cols - c : 0;
    Codes16 codes;
    if (left > 0) {
      if constexpr (kWindows && kThreads == 32) {
        codes = WarpCodes::read(o, warp_codes, row, 16 * part, min(16, left));
      } else if constexpr (kWindows) {
        codes = CodeWindows<kWideTile>::read(o, WideWindows::codes(p, windows), row, c, min(16, left));
      } else {
        codes = o.read(r, c, min(16, left), step);
      }
    }
    uint2 v;
    if constexpr (E::kBlocks == 4) {  // the odd lane's come last to first
      const bool odd = part % 2 != 0;
      const uint32_t low[2] = {odd ? codes.word[2] : codes.word[0], odd ? codes.word[3] : codes.word[1]};
      const uint32_t high[2] = {odd ? codes.word[0] : codes.word[2], odd ? codes.word[1] : codes.word[3]};
      v = make_uint2(low[0] | high[0] << 4, low[1] | high[1] << 4);
    } else {  // the even lane packs words 0 and 1 of both, the odd one 2 and 3
      const bool odd = part % 2 != 0;
      const uint32_t first = __shfl_xor_sync(0xffffffffu, odd ? codes.word[0] : codes.word[2], 8);
      const uint32_t second = __shfl_xor_sync(0xffffffffu, odd ? codes.word[1] : codes.word[3], 8);
      v = odd ? make_uint2(first | codes.word[2] << 4, second | codes.word[3] << 4)
              : make_uint2(codes.word[0] | first << 4, codes.word[1] | second << 4);
    }
    if (row < count) reinterpret_cast<uint2*>(to + chunk_at<E>(row, part / 2))[part % 2] = v;
  }
}

// Whether arithmetic_bytes makes four codes the bytes that are multiplied; else a table does.
template <class E>
__device__ __forceinline__ bool has_byte_arithmetic(const ElementFormat& f) {
  return !E::kInteger || (f.is_int() && (f.rule == kSigned || f.rule == kUnsigned));
}
template <class E>
__device__ __forceinline__ uint32_t arithmetic_bytes(const ElementFormat& f, uint32_t codes) {
  if constexpr (!E::kInteger) return codes;
  if (f.rule == kUnsigned) return f.bits == 8 ? codes ^ 0x80808080u : codes;
  const uint32_t sign = codes & (1u << (f.bits - 1)) * 0x01010101u;
  return codes | sign * ((2u << (8 - f.bits)) - 2u);
}

// The value of a code. Tables of more than 32 entries are left alone where they can be: lanes meet in their banks.
__device__ __forceinline__ float code_value(const ElementFormat& f, const float* table, uint32_t code) {
  if (f.is_int() && (f.rule == kSigned || f.rule == kUnsigned)) {
    const uint32_t sign = f.rule == kSigned ? 1u << (f.bits - 1) : 0u;
    return from_bits(0x4b000000u | (code ^ sign)) - from_bits(0x4b000000u | sign);
  }
  if (f.bits > 5 && f.is_float() && f.specials != kPower) return minifloat_value(f, code);
  return table[code];
}

// Rows row0 .. row0 + count - 1 of w or x through registers; rows from row_end on and slots past a piece are zeros.
// Without a step the slots are the columns from `column` on. `windows`: those of the wide loop, from which w takes its
// zero points where they are there; kWindows: its codes too, a warp by itself those of its own window.
template <class E, int kThreads, bool kWindows>
__device__ __noinline__ void stage_rows(const GemmParams& p, const Tables<E>& tables, bool is_w, int32_t expert,
                                        int32_t row0, int count, int32_t row_end, const Step* step, int32_t column,
                                        uint32_t* windows, uint4* to, WarpCodes::Step warp_codes = {}) {
  const Operand& o = is_w ? p.w : p.x;
  const int64_t o_step = is_w ? expert * p.w_step : 0, zero_step = is_w ? expert * p.w_zero_step : 0;
  const typename Tables<E>::Entry* table = is_w ? tables.w[0] : tables.x;
  const int terms = is_w ? p.w_terms : p.x_terms, chunk = p.chunk;
#pragma unroll 1
  for (int at = static_cast<int>(threadIdx.x) % kThreads; at < count * 4; at += kThreads) {
    const RowPlace place(at, count, kWindows && kThreads != 32 ? 32 : is_w && o.low.tile16 ? 16 : 8);
    const int row = place.row, slot = place.slot;
    int32_t c = column + slot, left = o.cols - c;
    if (step != nullptr) {
      const Piece& piece = step->pieces[slot / chunk];
      c = piece.column + slot % chunk, left = piece.length - slot % chunk;
    }
    const int n = max(0, min(16, left));
    const int32_t r = row0 + row;
    const bool live = r < row_end && n > 0;
    Codes16 codes;
    const typename Tables<E>::Entry* entries = table;
    const bool dense = o.dense.data != nullptr;
    if (live && !dense) {
      if constexpr (kWindows && kThreads == 32) {
        codes = WarpCodes::read(o, warp_codes, row, slot, n);
      } else if constexpr (kWindows) {
        codes = CodeWindows<kWideTile>::read(o, WideWindows::codes(p, windows), row, c, n);
      } else {
        codes = o.read(r, c, n, o_step);
      }
      entries += 256 * codes.source;
      if (o.is_complex) entries += 16 * static_cast<int>(o.part(r, c));
    }
    const ElementFormat& format = codes.source != 0 ? o.high.format.row : o.low.format.row;
    if constexpr (E::kBytes) {
      uint32_t out[4] = {};
      if (has_byte_arithmetic<E>(format)) {
        const int count_left = live ? n : 0;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          out[i] = arithmetic_bytes<E>(format, codes.word[i]) & ones(count_left - 4 * i) * 0xffu;
        }
      } else {
#pragma unroll
        for (int i = 0; i < 16; ++i) {
          if (live && i < n)
            out[i / 4] |= static_cast<uint32_t>(entries[codes.word[i / 4] >> (8 * (i % 4)) & 0xffu]) << (8 * (i % 4));
        }
      }
      to[chunk_at<E>(row, slot / 16)] = make_uint4(out[0], out[1], out[2], out[3]);
    } else {
      float zero = 0.0f;
      if (live && !dense && o.has_zero) {
        if (is_w && windows != nullptr && o.zero_window.ring != 0) {
          zero = WindowsOf<kThreads>::w_zero(p, windows, row, c);
        } else {
          zero = o.zero_at(r, c, zero_step);
        }
      }
      float v[16];
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        v[i] = 0.0f;
        if (live && i < n) {
          v[i] = dense ? load_value(o.dense.data, o.dense.dtype, r * o.dense.row_stride + (c + i) * o.dense.col_stride)
                       : code_value(format, entries, codes.word[i / 4] >> (8 * (i % 4)) & 0xffu) - zero;
        }
      }
      for (int t = 0; t < terms; ++t) {
        uint32_t out[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const uint32_t low = E::take(v[2 * i]);
          out[i] = low | E::take(v[2 * i + 1]) << 16;
        }
        uint4* plane = to + t * count * 8;
        plane[chunk_at<E>(row, slot / 8)] = make_uint4(out[0], out[1], out[2], out[3]);
        plane[chunk_at<E>(row, slot / 8 + 1)] = make_uint4(out[4], out[5], out[6], out[7]);
      }
    }
  }
}

// As stage_rows, of mma64 tiles of w, slots being columns: a warp has 16 rows, a lane its codes of the fragments.
template <class E, int kThreads>
__device__ __noinline__ void stage_tiles(const GemmParams& p, const Tables<E>& tables, int32_t expert, int32_t row0,
                                         int count, int32_t column, uint32_t* windows, uint4* to) {
  const Operand& o = p.w;
  Operand::Column from{column, 0};
  if (o.high_groups != nullptr) from = o.column_of(column);
  const CodeSource& source = from.source != 0 ? o.high : o.low;
  const ElementFormat& format = source.format.row;
  const int bits = format.bits, lane = static_cast<int>(threadIdx.x % 32), g = lane / 4, t = lane % 4;
  const typename Tables<E>::Entry* entries = tables.w[from.source];
  const int64_t steps = (source.cols + kStepSlots - 1) / kStepSlots;
#pragma unroll 1
  for (int row = static_cast<int>(threadIdx.x) % kThreads / 32 * 16; row < count; row += kThreads / 2) {
    const int32_t r = row0 + row;
    uint32_t codes[8] = {};  // word i: row g + 8 (i % 2), columns 16 (i / 2) + 4 t .. + 3
    if (r < p.n) {
      const auto* words =
          reinterpret_cast<const uint32_t*>(static_cast<const uint8_t*>(source.codes.data) + expert * p.w_step +
                                            (r / kMmaRows * steps + from.column / kStepSlots) * (128 * bits));
      int low = 0;
      if (bits == 8) {
        const uint4 v = reinterpret_cast<const uint4*>(words)[lane],
                    w = reinterpret_cast<const uint4*>(words)[32 + lane];
        codes[0] = v.x, codes[1] = v.y, codes[2] = v.z, codes[3] = v.w;
        codes[4] = w.x, codes[5] = w.y, codes[6] = w.z, codes[7] = w.w;
      }
      if (bits & 4) {
        const uint4 v = reinterpret_cast<const uint4*>(words)[lane];
        const uint32_t two[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int i = 0; i < 8; ++i) codes[i] = two[i / 2] >> (4 * (i % 2)) & 0x0f0f0f0fu;
        low = 4;
      }
      if (bits & 2) {
        const uint2 v = reinterpret_cast<const uint2*>(words + 32 * low)[lane];
#pragma unroll
        for (int i = 0; i < 8; ++i) codes[i] |= ((i < 4 ? v.x : v.y) >> (2 * (i % 4)) & 0x03030303u) << low;
        low += 2;
      }
      if (bits & 1) {
        const uint32_t v = words[32 * low + lane];
#pragma unroll
        for (int i = 0; i < 8; ++i) codes[i] |= (v >> i & 0x01010101u) << low;
      }
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int own = row + g + i % 2 * 8, slot = i / 2 * 16 + 4 * t;
      const uint32_t kept = ones(r < p.n ? o.cols - column - slot : 0) * 0xffu;
      if constexpr (E::kBytes) {
        uint32_t out = 0;
        if (has_byte_arithmetic<E>(format)) {
          out = arithmetic_bytes<E>(format, codes[i]);
        } else {
#pragma unroll
          for (int j = 0; j < 4; ++j) out |= static_cast<uint32_t>(entries[codes[i] >> (8 * j) & 0xffu]) << (8 * j);
        }
        reinterpret_cast<uint32_t*>(to + chunk_at<E>(own, i / 2))[t] = out & kept;
      } else {
        const int32_t c = column + i / 2 * 16;
        float zero = 0.0f, v[4];
        if (o.has_zero && kept != 0) {
          zero = windows != nullptr && o.zero_window.ring != 0
                     ? WindowsOf<kThreads>::w_zero(p, windows, own, c)
                     : o.zero_at(min(row0 + own, p.n - 1), c, expert * p.w_zero_step);
        }
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          v[j] = kept >> (8 * j) & 1u ? code_value(format, entries, codes[i] >> (8 * j) & 0xffu) - zero : 0.0f;
        }
        for (int term = 0; term < p.w_terms; ++term) {
          uint32_t out[4];
#pragma unroll
          for (int j = 0; j < 4; ++j) out[j] = E::take(v[j]);
          uint4* chunk = to + term * count * 8 + chunk_at<E>(own, i / 2 * 2 + t / 2);
          reinterpret_cast<uint2*>(chunk)[t % 2] = make_uint2(out[0] | out[1] << 16, out[2] | out[3] << 16);
        }
      }
    }
  }
}

template <class E, int kThreads>
__device__ __forceinline__ void bring_rows(const GemmParams& p, const Tables<E>& tables, bool is_w, int32_t expert,
                                           int32_t row0, int count, int32_t row_end, const Step* step, int32_t column,
                                           uint4* to, uint32_t* windows = nullptr) {
  if constexpr (E::kNibbles) {
    stage_nibbles<E, kThreads, false>(p, is_w, expert, row0, count, row_end, column, windows, to);
  } else if (is_w && p.w_tiles) {
    stage_tiles<E, kThreads>(p, tables, expert, row0, count, column, windows, to);
  } else {
    stage_rows<E, kThreads, false>(p, tables, is_w, expert, row0, count, row_end, step, column, windows, to);
  }
}

// The kWideTile rows of w from row0 on, from windows of their codes.
template <class E, int kThreads>
__device__ __forceinline__ void bring_rows_of_windows(const GemmParams& p, const Tables<E>& tables, int32_t expert,
                                                      int32_t row0, const Step* step, int32_t column, uint32_t* windows,
                                                      uint4* to) {
  if constexpr (E::kNibbles) {
    stage_nibbles<E, kThreads, true>(p, true, expert, row0, kWideTile, p.n, column, windows, to);
  } else {
    stage_rows<E, kThreads, true>(p, tables, true, expert, row0, kWideTile, p.n, step, column, windows, to);
  }
}

// The 16 rows of w from row0 on of a warp, from a window of their codes.
template <class E>
__device__ __forceinline__ void bring_rows_of_warp(const GemmParams& p, const Tables<E>& tables, int32_t row0,
                                                   const Step* step, int32_t column, uint32_t* windows,
                                                   const WarpCodes::Step& codes, uint4* to) {
  if constexpr (E::kNibbles) {
    stage_nibbles<E, 32, true>(p, true, 0, row0, kNarrowTile, p.n, column, windows, to, codes);
  } else {
    stage_rows<E, 32, true>(p, tables, true, 0, row0, kNarrowTile, p.n, step, column, windows, to, codes);
  }
}

// The same for rows that are copied as they lie: plain bytes or floats of the engine's type, linear. What is past the
// end is not read. `count` and `threads` are constants.
template <class E>
__device__ __forceinline__ void copy_rows(const Operand& o, int32_t k, int32_t row0, int count, int32_t row_end,
                                          int32_t step, uint4* to, int thread, int threads) {
  constexpr unsigned kChunks = E::kRowBytes / 16, kSize = E::kRowBytes / kStepSlots > 0 ? E::kRowBytes / kStepSlots : 1;
  const bool dense = o.dense.data != nullptr;
  const auto* base = static_cast<const uint8_t*>(dense ? o.dense.data : o.low.codes.data);
  const int64_t stride = dense ? o.dense.row_stride * kSize : o.low.codes.row_stride;
  const auto first = static_cast<unsigned>(thread);
  const int chunk = static_cast<int>(first % kChunks);
  const int64_t byte = static_cast<int64_t>(step) * E::kRowBytes + chunk * 16;
  const int64_t left = static_cast<int64_t>(k) * kSize - byte;
  const int bytes = static_cast<int>(max(min(left, int64_t{16}), int64_t{0}));
  const int total = count * static_cast<int>(kChunks);
#pragma unroll
  for (int i = 0; i * threads < total; ++i) {
    if (total % threads != 0 && thread + i * threads >= total) break;
    const int row = static_cast<int>((first + static_cast<unsigned>(i * threads)) / kChunks);
    const int32_t r = row0 + row;
    ptx::cp_async_cg_16(ptx::shared_address(to + chunk_at<E>(row, chunk)), base + r * stride + byte,
                        r < row_end ? bytes : 0);
  }
}

// `count` tiles of mma64 weights of one step, tile after tile. `count` and `threads` are constants.
template <int kBits>
__device__ __forceinline__ void copy_weights(const uint8_t* base, int32_t n, int32_t k, int32_t row_tile, int count,
                                             int32_t step, uint4* to, int thread, int threads) {
  constexpr unsigned kChunks = 8 * kBits;
  const int64_t tile_row = (static_cast<unsigned>(k) + kStepSlots - 1) / kStepSlots * int64_t{128 * kBits};
  const uint8_t* from = base + row_tile * tile_row + step * int64_t{128 * kBits};
  const int total = count * static_cast<int>(kChunks), tiles = (n + 15) / 16 - row_tile;
  const auto first = static_cast<unsigned>(thread);
#pragma unroll
  for (int i = 0; i * threads < total; ++i) {
    if (total % threads != 0 && thread + i * threads >= total) break;
    const unsigned at = first + static_cast<unsigned>(i * threads), tile = at / kChunks, chunk = at % kChunks;
    ptx::cp_async_cg_16(ptx::shared_address(to + first + i * threads), from + tile * tile_row + chunk * 16,
                        static_cast<int>(tile) < tiles ? 16 : 0);
  }
}

// ---- fragments of a piece

// A of a tile of 16 rows from mma64 words: bytes of the columns 16 `group` .. + 31 (`upper` false: + 15, zeros above),
// floats of 16 columns. `group` is a constant. zero: those of rows l / 4 and l / 4 + 8, floats only.
template <class E, int kBits>
__device__ __forceinline__ void weight_fragment(const GemmParams& p, const uint32_t (&words)[kBits], int group,
                                                bool upper, const float (&zero)[2], uint32_t (&a)[4]) {
  if constexpr (E::kNibbles) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      uint32_t first = words[2 * i], second = words[2 * i + 1];
      if constexpr (E::kBlocks == 4) {
        const bool far = threadIdx.x % 4 >= 2;
        const uint32_t other = __shfl_xor_sync(0xffffffffu, far ? first : second, 2);
        if (far) first = second;
        second = other;
      }
      a[2 * i] = ptx::lop3<0xca>(0x0f0f0f0fu, first, second << 4);
      a[2 * i + 1] = ptx::lop3<0xca>(0x0f0f0f0fu, first >> 4, second);
    }
  } else if constexpr (E::kInteger && E::kFloatWeights) {
    static_assert(kBits == 4, "E2M1 is the one minifloat whose values are bytes");
    e2m1_bytes(words[group], a[0], a[1]);
    a[2] = a[3] = 0;
    if (upper) e2m1_bytes(words[(group + 1) % 4], a[2], a[3]);
  } else if constexpr (E::kBytes) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (E::kInteger) {
        a[i] = i < 2 || upper ? integer_bytes<kBits>(words, (2 * group + i) % 8, p.flip) : 0u;
      } else {
        a[i] = code_bytes<kBits>(words, 2 * group + i);
      }
    }
  } else {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t codes = code_bytes<kBits>(words, 2 * group + i);
      uint32_t pair[2];
      const auto offset = static_cast<float>(p.flip & 0xffu);  // 2^(bits - 1) of signed codes
      if constexpr (E::kFloatWeights) {
        float_pairs<kBits, E::kHalf>(codes, p.float_shift, p.float_scale, p.float_special, pair);
      } else if constexpr (E::kHalf) {
        const float bias = 1024.0f + offset + zero[i];
        integer_halves(codes, p.flip, ptx::cvt_rn_f16x2_f32(bias, bias), pair);
      } else if constexpr (kBits < 8) {
        const float bias = 128.0f + offset;
        integer_bfloats<kBits>(codes, p.flip, ptx::cvt_rn_bf16x2_f32(bias, bias), pair);
        if (p.w.has_zero) {
          const uint32_t minus = ptx::cvt_rn_bf16x2_f32(-zero[i], -zero[i]);
          pair[0] = ptx::fma_bf16x2(pair[0], 0x3f803f80u, minus);
          pair[1] = ptx::fma_bf16x2(pair[1], 0x3f803f80u, minus);
        }
      } else {
        integer_bfloats<kBits>(codes, p.flip, __float_as_uint(8388608.0f + offset + zero[i]), pair);
      }
      a[i] = pair[0], a[2 + i] = pair[1];
    }
  }
}

// E4M3 scales of blocks have a sign, which the multiply does not know: the codes of the block take it. A register holds
// the codes of one block of lane t's row, whose scales are the bytes of `scales`; `half`: of the 64 columns.
__device__ __forceinline__ uint32_t block_sign(uint32_t scales, int half, int t) {
  return (scales >> (16 * half + 8 * (t / 2) + 7) & 1u) * 0x88888888u;
}

// A of 16 rows of 16-bit floats that stand in shared memory as rows, in the order of mma64 words.
template <class E>
__device__ __forceinline__ void row_fragment_mma64(const uint4* rows, int piece, int lane, uint32_t (&a)[4]) {
  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const uint4* chunk = rows + chunk_at<E>(g + 8 * h, 2 * piece + t / 2);
    const uint2 v = reinterpret_cast<const uint2*>(chunk)[t % 2];
    a[h] = v.x, a[2 + h] = v.y;
  }
}

// A of 16 rows that stand in shared memory as rows.
template <class E>
__device__ __forceinline__ void row_fragment(int chunk, const uint4* rows, int row, int piece, int lane,
                                             uint32_t (&a)[4]) {
  if (E::kBytes && chunk == 16) {
    uint32_t r[2];
    ptx::ldmatrix_x2(r, ptx::shared_address(rows + chunk_at<E>(row + lane % 16, piece)));
    a[0] = r[0], a[1] = r[1], a[2] = a[3] = 0;
    return;
  }
  const Chunk at = a_chunk(lane);
  ptx::ldmatrix_x4(a, ptx::shared_address(rows + chunk_at<E>(row + at.row, 2 * piece + at.chunk)));
}

// B of 16 rows of x (two fragments) for one piece. kPermuted: 16-bit floats in the order of mma64 words, lane t has
// slots 4 t .. 4 t + 3 of the 16; else that of the instruction. `tail`, `flip`: bytes that were copied as they lie.
template <class E, bool kPermuted>
__device__ __forceinline__ void x_fragments(int chunk, const uint4* rows, int row, int piece, int lane, int length,
                                            uint32_t flip, uint32_t (&b)[2][2]) {
  if constexpr (E::kBytes) {
    const int t = lane % 4;
    if (chunk == 16) {
      uint32_t r[2];
      ptx::ldmatrix_x2(r, ptx::shared_address(rows + chunk_at<E>(row + lane % 16, piece)));
      b[0][0] = r[0], b[1][0] = r[1];
      b[0][1] = b[1][1] = 0;
    } else {
      uint32_t r[4];
      const Chunk at = b_chunk(lane);
      ptx::ldmatrix_x4(r, ptx::shared_address(rows + chunk_at<E>(row + at.row, 2 * piece + at.chunk)));
      b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
    }
    if (flip != 0) {
      const uint32_t low = ones(length - 4 * t) * 0xffu, high = ones(length - 16 - 4 * t) * 0xffu;
#pragma unroll
      for (int i = 0; i < 2; ++i) b[i][0] = (b[i][0] ^ flip) & low, b[i][1] = (b[i][1] ^ flip) & high;
    }
  } else if constexpr (kPermuted) {
    const int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint4* chunk16 = rows + chunk_at<E>(row + 8 * i + g, 2 * piece + t / 2);
      const uint2 v = reinterpret_cast<const uint2*>(chunk16)[t % 2];
      b[i][0] = v.x, b[i][1] = v.y;
    }
  } else {
    uint32_t r[4];
    const Chunk at = b_chunk(lane);
    ptx::ldmatrix_x4(r, ptx::shared_address(rows + chunk_at<E>(row + at.row, 2 * piece + at.chunk)));
    b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
  }
}

// B of eight rows of x.
template <class E, bool kPermuted>
__device__ __forceinline__ void x_fragment(int chunk, const uint4* rows, int piece, int lane, int length, uint32_t flip,
                                           uint32_t (&b)[2]) {
  if constexpr (!E::kBytes && kPermuted) {
    const uint4* chunk16 = rows + chunk_at<E>(lane / 4, 2 * piece + lane % 4 / 2);
    const uint2 v = reinterpret_cast<const uint2*>(chunk16)[lane % 2];
    b[0] = v.x, b[1] = v.y;
  } else {
    if (E::kBytes && chunk == 16) {
      uint32_t r[1];
      ptx::ldmatrix_x1(r, ptx::shared_address(rows + chunk_at<E>(lane % 8, piece)));
      b[0] = r[0], b[1] = 0;
    } else {
      ptx::ldmatrix_x2(b, ptx::shared_address(rows + chunk_at<E>(lane % 8, 2 * piece + lane / 8 % 2)));
    }
    if (E::kBytes && flip != 0) {
      const int t = lane % 4;
      b[0] = (b[0] ^ flip) & ones(length - 4 * t) * 0xffu;
      b[1] = (b[1] ^ flip) & ones(length - 16 - 4 * t) * 0xffu;
    }
  }
}

// ---- the join (ref/gemm_args.h)

// What one output needs of a part.
struct JoinValues {
  float scale;             // s of the segment
  float w_float_zero;      // in the integers' unit
  int32_t w_zero, x_zero;  // as they are stored
  int32_t w_sum, x_sum;    // of bytes
  int32_t length;
};

// What is taken off each product byte: the offset of the bytes and the zero point in their unit.
__device__ __forceinline__ int64_t offset_of(const ByteMap& bytes, int32_t zero) {
  return bytes.offset + static_cast<int64_t>(zero) * (1 << bytes.shift);
}

// sum (cw - zw)(cx - zx) modulo 2^64 from the sum of products of bytes.
__device__ __forceinline__ int64_t corrected(const GemmParams& p, int32_t dot, const JoinValues& v) {
  const int64_t fw = p.w.bytes.factor, fx = p.x.bytes.factor;
  auto total = static_cast<uint64_t>(dot * (fw * fx));
  if (p.w_sums || p.x_sums) {
    const auto ow = static_cast<uint64_t>(offset_of(p.w.bytes, v.w_zero)),
               ox = static_cast<uint64_t>(offset_of(p.x.bytes, v.x_zero));
    total += ow * (static_cast<uint64_t>(v.length) * ox - static_cast<uint64_t>(fx * v.x_sum)) -
             ox * static_cast<uint64_t>(fw * v.w_sum);
  }
  return static_cast<int64_t>(total);
}

__device__ __forceinline__ int64_t add_wrapping(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}

// sum (cx - zx), which enters where the zero points of w are floats.
__device__ __forceinline__ int64_t x_sum_of(const GemmParams& p, const JoinValues& v) {
  return static_cast<int64_t>(p.x.bytes.factor) * v.x_sum - v.length * offset_of(p.x.bytes, v.x_zero);
}

__device__ __forceinline__ float joined(const GemmParams& p, int64_t total, int64_t x_sum, const JoinValues& v,
                                        float y) {
  y = __fmaf_rn(__ll2float_rn(total), v.scale, y);
  return p.w.zero_is_float ? __fmaf_rn(__ll2float_rn(x_sum), -(v.scale * v.w_float_zero), y) : y;
}

// Both at once, out of line.
__device__ __noinline__ inline float join_corrected(const GemmParams& p, int32_t dot, JoinValues v, float y) {
  const int64_t total = corrected(p, dot, v);
  return p.raw ? from_bits(to_bits(y) + static_cast<uint32_t>(total)) : joined(p, total, x_sum_of(p, v), v, y);
}

__device__ __noinline__ inline float x_value(const GemmParams& p, int32_t m, int32_t c) {
  if (p.x.dense.data != nullptr) {
    return load_value(p.x.dense.data, p.x.dense.dtype, m * p.x.dense.row_stride + c * p.x.dense.col_stride);
  }
  const Codes16 codes = p.x.read(m, c, 1, 0);
  return p.x.scale_at(m, c) * (value_of(p.x.low, codes.word[0] & 0xffu) - p.x.zero_at(m, c));
}

__device__ __noinline__ inline float add_outliers(const GemmParams& p, int32_t m, int32_t n, float y) {
  for (int32_t e = p.outliers.offsets[n]; e < p.outliers.offsets[n + 1]; ++e) {
    y = __fmaf_rn(x_value(p, m, p.outliers.cols[e]), load_value(p.outliers.values, p.outliers.dtype, e), y);
  }
  return y;
}

__device__ __forceinline__ float bias_at(const GemmParams& p, int32_t n, int32_t expert) {
  if (p.bias == nullptr) return 0.0f;
  return load_value(static_cast<const uint8_t*>(p.bias) + expert * p.bias_step, p.bias_dtype, n * p.bias_stride);
}
// What y is multiplied with after the last part.
__device__ __forceinline__ float last_scale(const GemmParams& p, int32_t m) {
  return p.x_scaled && !p.x_scale_joins ? p.x.scale_from(m, 0) * power_of_two(-p.x.bytes.shift) : 1.0f;
}

// After the last part: x's scale, outliers, bias, the output.
__device__ __forceinline__ void finish(const GemmParams& p, int32_t m, int32_t n, float scale, float bias, float y) {
  const int64_t at = m * p.out.row_stride + n * p.out.col_stride;
  if (p.raw) {
    static_cast<int32_t*>(p.out.data)[at] = static_cast<int32_t>(to_bits(y));
    return;
  }
  if (p.x_scaled && !p.x_scale_joins) y *= scale;
  if (p.outliers.offsets != nullptr) y = add_outliers(p, m, n, y);
  if (p.bias != nullptr) y += bias;
  store_value(p.out.data, p.out.dtype, at, y);
}

}  // namespace lowbit::cuda
