// Blocking and threads of every GEMM.
//
//   for each superblock of rows of x (packed once, at most kPackedBytes)
//     for each task = (64 or 128 rows of w) x (up to kChunkRows rows of x)
//       for each K block: decode its weights into a panel that stays in L1 or L2,
//         for each block of up to Engine::rows rows of x: kernel
//       finish: row scale, outliers, bias, output dtype
//
// A weight is decoded once for every kChunkRows rows of x, or as many as the engine keeps in cache. Sizes follow from
// shapes alone, and no sum's order depends on the cut of M or N: results do not change with threads, M or the position
// in a batch. Workspace: packed x (at most kPackedBytes, or one block of it), and below 1 MiB for each thread, kept.
#include "cpu/gemm_driver.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "cpu/gemm_pack.h"
#include "cpu/gemm_values.h"

namespace lowbit::cpu {
namespace {

constexpr int64_t kPackedBytes = int64_t{32} << 20;
constexpr int64_t kChunkRows = 540;
constexpr int64_t kLeastChunkRows = 48;  // where few rows of w leave few tasks
constexpr int64_t kResidentRows = 128;   // least, for a weight is decoded for so many
constexpr int64_t kFirstCacheBytes = int64_t{32} << 10;
constexpr int32_t kFloatPartialQuads = 8;  // of engines with partial sums: tdpbf16ps takes 32 columns
constexpr int64_t kTasks = 48;             // that many are then aimed at
constexpr int64_t kKeptRows = 1 << 20;     // bytes of packed x that a thread keeps between calls

// Whether the pieces of a tile follow each other in a panel.
bool pieces_lie_together(const Engine& engine) { return engine.unit > 1 && engine.w_quads == 1; }

// The sums of piece p, number `at` of its K block, in int64, and their join. `carry` holds the kernel's int32 sums.
void join_wide(const Call& call, const Piece& p, int64_t at, int64_t rows, int64_t stride, const BlockArgs& a,
               const int32_t* carry, int64_t* sums, float* y) {
  const Plan& plan = call.plan;
  const CodeTables& w = *plan.w[p.source];
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t xi = at * call.engine.rows + r;
    const int64_t x_sum = a.x_sum[xi];
    const int64_t x_zero = call.use_wsum ? a.x_zero[xi] : 0;
    for (int64_t i = 0; i < stride; ++i) {
      const int64_t at_piece = at * stride + i;
      const int64_t zero = a.w_zero != nullptr ? a.w_zero[at_piece] : -w.offset;
      int64_t sum = static_cast<int64_t>(w.factor) * plan.x->factor * carry[r * stride + i] + zero * x_sum;
      if (a.w_sum != nullptr) sum += x_zero * w.factor * a.w_sum[at_piece];
      if (!p.first || call.raw) sum += sums[r * stride + i];
      sums[r * stride + i] = sum;
      if (!p.last || call.raw) continue;
      float s = a.w_scale[at_piece];
      if (a.x_scale != nullptr) s *= a.x_scale[xi];
      float out = std::fma(static_cast<float>(sum), s, y[r * stride + i]);
      if (a.w_float_zero != nullptr) out = std::fma(a.x_float_sum[xi], -(s * a.w_float_zero[at_piece]), out);
      y[r * stride + i] = out;
    }
  }
}

// What a task of one thread works in.
struct TaskScratch {
  char* panel;
  float* y;
  char* carry;
  int64_t* sums;   // wide
  float* w_scale;  // [piece][tile][16], as the following
  float* w_float_zero;
  int32_t* w_zero;
  float* w_value_zero;  // floats
  int32_t* w_sum;
  float* bias;
  char* values;
};

TaskScratch carve_task(const Call& call, int tiles, int64_t rows, Carver* carver) {
  const int64_t width = tiles * kTileRows, values = kWindowPieces * width;
  const bool integer = is_integer(call.plan.numbers);
  TaskScratch t{};
  t.panel = carver->take<char>(static_cast<int64_t>(call.engine.quads) * tiles * call.engine.w_quad);
  t.y = carver->take<float>(rows * width);
  t.carry = carver->take<char>(rows * width * 4);
  if (call.plan.wide) t.sums = carver->take<int64_t>(rows * width);
  t.w_scale = carver->take<float>(values);
  if (call.plan.w_float_zero) t.w_float_zero = carver->take<float>(values);
  if (call.plan.w_zero && integer) t.w_zero = carver->take<int32_t>(values);
  if (call.plan.w_zero && !integer) t.w_value_zero = carver->take<float>(values);
  if (call.use_wsum) t.w_sum = carver->take<int32_t>(values);
  t.bias = carver->take<float>(width);
  t.values = carver->take<char>(kValuesScratch);
  return t;
}

// Asks for part `part` of `parts` of the values of rows [row0, row0 + rows).
void expect_values(const Call& call, const BlockValues& v, int64_t row0, int64_t rows, size_t part, size_t parts) {
  if (!v || v.codes.format != nullptr || v.block.rows != 1) return;
  const int64_t columns = Block::count(call.args.k, v.block.cols), size = size_of(v.dtype);
  rows = std::min(rows, call.args.n - row0);
  const auto expect = [](const char* p, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i);
  };
  const auto* data = static_cast<const char*>(v.data);
  const auto share = [&](int64_t count, size_t i) {
    return count * static_cast<int64_t>(i) / static_cast<int64_t>(parts);
  };
  if (by_columns(v)) {
    for (int64_t j = share(columns, part); j < share(columns, part + 1); ++j) {
      expect(data + (row0 + j * v.col_stride) * size, rows * size);
    }
  } else if (v.row_stride <= columns) {  // rows follow each other
    const int64_t lines = ceil_div(rows * v.row_stride * size, 64);
    const int64_t begin = share(lines, part), end = share(lines, part + 1);
    expect(data + row0 * v.row_stride * size + 64 * begin, 64 * (end - begin));
  }
}

// Scales of a window's first piece, and from piece to piece.
struct Scales {
  const float* first;
  int64_t step;
};

// Loads what goes with the weights of window `b`.
Scales load_window(const Call& call, const Window& b, int64_t n0, int tiles, const TaskScratch& t) {
  const Plan& plan = call.plan;
  const QMatrix& w = call.args.w;
  const int64_t width = tiles * kTileRows;
  const Piece* pieces = plan.pieces.data() + b.piece;
  bool any_last = false;
  for (int32_t i = 0; i < b.pieces; ++i) any_last = any_last || pieces[i].last;
  const float* in_place = tiles == kDirectTiles ? scales_in_place(call, pieces, b.pieces, n0, width) : nullptr;
  if (any_last && !call.raw) {
    if (w.scale && in_place == nullptr) {
      load_values(call, w.scale, false, pieces, b.pieces, n0, tiles, reinterpret_cast<uint32_t*>(t.w_scale), t.values);
    }
    for (int32_t p = 0; in_place == nullptr && p < b.pieces; ++p) {
      const float factor = call.w_factor[pieces[p].source];
      if (w.scale && factor == 1.0f) continue;
      for (int64_t i = p * width; i < (p + 1) * width; ++i) t.w_scale[i] = w.scale ? t.w_scale[i] * factor : factor;
    }
    if (t.w_float_zero != nullptr) {
      load_values(call, w.zero, false, pieces, b.pieces, n0, tiles, reinterpret_cast<uint32_t*>(t.w_float_zero),
                  t.values);
      for (int32_t p = 0; p < b.pieces; ++p) {
        const int shift = plan.w[pieces[p].source]->shift;
        if (shift == 0) continue;
        const auto unit = static_cast<float>(1 << shift);
        for (int64_t i = p * width; i < (p + 1) * width; ++i) t.w_float_zero[i] *= unit;
      }
    }
  }
  if (t.w_zero != nullptr) {
    load_values(call, w.zero, true, pieces, b.pieces, n0, tiles, reinterpret_cast<uint32_t*>(t.w_zero), t.values);
    for (int32_t p = 0; p < b.pieces; ++p) {
      const CodeTables& table = *plan.w[pieces[p].source];
      call.isa.offset_zeros(t.w_zero + p * width, width, table.offset, table.shift);
    }
  }
  if (t.w_value_zero != nullptr) {
    const bool as_int = !is_float(w.zero);
    load_values(call, w.zero, as_int, pieces, b.pieces, n0, tiles, reinterpret_cast<uint32_t*>(t.w_value_zero),
                t.values);
    for (int64_t i = 0; as_int && i < b.pieces * width; ++i) {
      t.w_value_zero[i] = static_cast<float>(static_cast<int32_t>(float_to_bits(t.w_value_zero[i])));
    }
  }
  return in_place != nullptr ? Scales{in_place, w.scale.col_stride} : Scales{t.w_scale, width};
}

// Decodes the weights of K block `b`. Pieces that follow each other in the codes and in the panel are one to the
// engine.
void fill_block(const Call& call, const KBlock& b, int32_t first_piece, int64_t n0, int tiles, PowerWindow window,
                bool* misfit, const TaskScratch& t) {
  const Plan& plan = call.plan;
  const QMatrix& w = call.args.w;
  const Engine& engine = call.engine;
  const int64_t width = tiles * kTileRows, w_quad = engine.w_quad;
  const bool by_tile = pieces_lie_together(engine);
  const bool joined = by_tile && t.w_value_zero == nullptr && t.w_sum == nullptr;
  char* out = t.panel;
  for (int32_t i = 0; i < b.pieces;) {
    const Piece& p = plan.pieces[static_cast<size_t>(b.piece + i)];
    const Piece* last = &p;
    const int32_t at_piece = b.piece - first_piece + i;
    int32_t quads = p.quads, room = p.room;
    for (++i; joined && i < b.pieces && last->quads == last->room; ++i) {
      last = &plan.pieces[static_cast<size_t>(b.piece + i)];
      quads += last->quads;
      room += last->room;
    }
    FillArgs f{};
    f.codes = p.source == 0 ? &w.codes : w.high;
    f.tables = plan.w[p.source];
    f.quad = p.source_column / kTileCols;
    f.quads = quads;
    f.head = static_cast<int32_t>(p.source_column % kTileCols);
    f.tail = static_cast<int32_t>(round_up(last->source_column + last->columns, kTileCols) - last->source_column -
                                  last->columns);
    f.out_stride = by_tile ? w_quad : tiles * w_quad;
    f.scale_stride = width;
    f.window = window;
    f.misfit = misfit;
    const int64_t tile_stride = w_quad * (by_tile ? b.quads : engine.w_quads);
    for (int tile = 0; tile < tiles; ++tile) {
      f.row = n0 + tile * kTileRows;
      if (f.row >= call.args.n) break;
      f.out = out + tile * tile_stride;
      const int64_t at = at_piece * width + tile * kTileRows;
      if (t.w_value_zero != nullptr) f.zero = t.w_value_zero + at;
      if (t.w_sum != nullptr) f.sum = t.w_sum + at;
      f.scale = t.w_scale + at;
      engine.fill(f);
      // x is zero there, which is not enough where the panel may hold infinities
      if (!is_integer(plan.numbers)) {
        std::memset(out + tile * tile_stride + quads * f.out_stride, 0, static_cast<size_t>((room - quads) * w_quad));
      }
    }
    out += room * (by_tile ? 1 : tiles) * w_quad;
  }
}

// Outliers of w, in order within a row of it; takes x's row scale first, which the join leaves to the end.
void add_outliers(const Call& call, const PackedRows& x, int64_t m0, int64_t row0, int64_t rows, int64_t n0,
                  int64_t width, float* y) {
  const Outliers& o = call.args.w.outliers;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < width && n0 + i < call.args.n; ++i) {
      float sum = y[r * width + i] * x.row_scale[row0 + r];
      for (int32_t e = o.offsets[n0 + i]; e < o.offsets[n0 + i + 1]; ++e) {
        sum = std::fma(call.args.x.at(m0 + row0 + r, o.cols[e]), load_float(o.values, o.dtype, e), sum);
      }
      y[r * width + i] = sum;
    }
  }
}

// The codes of K block `b` of the tiles from row n0.
CodesAhead codes_ahead(const Call& call, const KBlock& b, int64_t n0) {
  const QMatrix& w = call.args.w;
  if (w.codes.layout != Layout::kTile16 || w.high != nullptr) return {};
  const Piece& first = call.plan.pieces[static_cast<size_t>(b.piece)];
  const Piece& last = call.plan.pieces[static_cast<size_t>(b.piece + b.pieces - 1)];
  const int64_t quad = first.source_column / kTileCols;
  const int64_t quads = last.source_column / kTileCols + last.quads - quad;
  const int64_t quad_bytes = kTileRows * kTileCols / 8 * w.codes.format->bits;
  const int64_t tile_bytes = ceil_div(w.codes.cols, kTileCols) * quad_bytes, lines = ceil_div(quads * quad_bytes, 64);
  const auto* tile = static_cast<const char*>(w.codes.data) + n0 / kTileRows * tile_bytes;
  return {tile + quad * quad_bytes, tile_bytes, static_cast<int32_t>(lines)};
}

// Blocks [block0, block1) of x times `tiles` tiles from row n0 of w, of which the first `done` rows are another task's.
struct Task {
  int64_t block0, block1;
  int64_t n0;
  int tiles;
  int64_t done;
  int64_t next;  // n0 of the task that this thread runs next; -1: none
};

// A task of the superblock of x at m0. False: a scale of w is outside of the window, and nothing is done.
bool run_task(const Call& call, const PackedRows& x, int64_t m0, int64_t super_rows, const Task& task,
              PowerWindow window, const TaskScratch& t) {
  const auto [block0, block1, n0, tiles, done, next] = task;
  const GemmArgs& a = call.args;
  const Plan& plan = call.plan;
  const Engine& engine = call.engine;
  const int64_t blocks = blocks_of(engine, super_rows), width = tiles * kTileRows;
  const int64_t row0 = block_row(engine, block0, blocks, super_rows);
  const int64_t rows = block_row(engine, block1, blocks, super_rows) - row0;
  const bool direct = tiles == kDirectTiles;
  std::memset(t.y, 0, static_cast<size_t>(rows * width) * 4);
  if (call.raw) std::memset(t.carry, 0, static_cast<size_t>(rows * width) * 4);
  if (call.raw && plan.wide) std::memset(t.sums, 0, static_cast<size_t>(rows * width) * 8);

  size_t i_window = 0;
  Scales scales{};
  for (size_t i_block = 0; i_block < plan.blocks.size(); ++i_block) {
    const KBlock& b = plan.blocks[i_block];
    if (i_block == 0 || static_cast<int32_t>(i_block) == plan.windows[i_window].block + plan.windows[i_window].blocks) {
      if (i_block > 0) ++i_window;
      scales = load_window(call, plan.windows[i_window], n0, tiles, t);
    }
    const int32_t first_piece = plan.windows[i_window].piece;
    if (!direct) {
      bool misfit = false;
      fill_block(call, b, first_piece, n0, tiles, window, &misfit, t);
      if (misfit) return false;
    } else if (next >= 0) {  // values are read when a task begins: nothing else would be on its way then
      expect_values(call, a.w.scale, next, width, i_block, plan.blocks.size());
      expect_values(call, a.w.zero, next, width, i_block, plan.blocks.size());
    }
    PieceRun runs[kBlockPieces];
    for (int32_t i = 0; i < b.pieces; ++i) {
      const Piece& p = plan.pieces[static_cast<size_t>(b.piece + i)];
      runs[i] = {p.source_column / kTileCols, p.quads, p.first && !call.raw, p.last && !call.raw};
    }
    for (int64_t block = block0; block < block1; ++block) {
      const int64_t begin = block_row(engine, block, blocks, super_rows);
      const int64_t end = block_row(engine, block + 1, blocks, super_rows);
      const int64_t at = values_at(engine, b, block, blocks);
      const auto of_x = [&](auto* p) { return p == nullptr ? nullptr : p + at; };
      const int64_t in_window = (b.piece - first_piece) * width;
      const auto of_w = [&](auto* p) { return p == nullptr ? nullptr : p + in_window; };
      BlockArgs k{};
      k.x = x.x + packed_at(engine, b, begin, super_rows) * engine.x_quad;
      k.w = t.panel;
      k.tile_quads = b.quads;
      if (direct) {
        k.w = nullptr;
        k.codes = &a.w.codes;
        k.tables = plan.w[0];
        k.row = n0;
        k.next_row = next;
        k.w_value_zero = of_w(t.w_value_zero);
      } else if (const bool more = i_block + 1 < plan.blocks.size(); block1 - block0 == 1 && (more || next >= 0)) {
        // of more blocks the products take longer than memory
        k.ahead = codes_ahead(call, plan.blocks[more ? i_block + 1 : 0], more ? n0 : next);
      }
      k.pieces = runs;
      k.count = b.pieces;
      k.w_scale = scales.first + (b.piece - first_piece) * scales.step;
      k.w_scale_step = scales.step;
      k.w_float_zero = of_w(t.w_float_zero);
      k.w_zero = of_w(t.w_zero);
      k.w_sum = of_w(t.w_sum);
      k.x_start = t.w_zero == nullptr || plan.numbers == Numbers::kPlanes ? of_x(x.start) : nullptr;
      k.x_sum = of_x(x.sum);
      k.x_zero = of_x(x.zero);
      k.x_float_sum = of_x(x.float_sum);
      k.x_scale = of_x(x.scale);
      k.planes = &call.isa.planes;
      k.partial_quads = call.partial_quads;
      k.y = t.y + (begin - row0) * width;
      k.carry = t.carry + (begin - row0) * width * 4;
      if (direct) {
        engine.direct(static_cast<int>(end - begin), k);
        continue;
      }
      if (!plan.wide) {
        engine.panel(tiles, static_cast<int>(end - begin), k);
        continue;
      }
      for (int32_t i = 0; i < b.pieces; ++i) {
        const PieceRun whole{runs[i].quad, runs[i].quads, true, false};
        BlockArgs one{};
        one.x = k.x;
        one.w = k.w;
        one.tile_quads = k.tile_quads;
        one.pieces = &whole;
        one.count = 1;
        one.partial_quads = k.partial_quads;
        one.carry = k.carry;
        engine.panel(tiles, static_cast<int>(end - begin), one);
        join_wide(call, plan.pieces[static_cast<size_t>(b.piece + i)], i, end - begin, width, k,
                  static_cast<const int32_t*>(k.carry), t.sums + (begin - row0) * width, k.y);
        const int64_t room = plan.pieces[static_cast<size_t>(b.piece + i)].room;
        k.x = static_cast<const char*>(k.x) + room * packed_rows(engine, end - begin) * engine.x_quad;
        k.w = static_cast<const char*>(k.w) + room * (pieces_lie_together(engine) ? 1 : tiles) * engine.w_quad;
      }
    }
  }

  FinishArgs f{};
  const int64_t column = n0 + done;
  f.y = t.y + done;
  f.rows = rows;
  f.columns = (n0 + width <= a.n ? n0 + width : a.n) - column;
  f.y_stride = width;
  if (call.raw) {
    f.y = reinterpret_cast<const float*>(t.carry) + done;
    if (plan.wide) {
      auto* out = reinterpret_cast<int32_t*>(t.carry);
      for (int64_t i = 0; i < rows * width; ++i) out[i] = static_cast<int32_t>(t.sums[i]);
    }
  } else {
    const bool row_scale = a.xq != nullptr && !plan.x_scale_along_k && (a.xq->scale || call.x_factor != 1.0f);
    f.x_scale = row_scale ? x.row_scale + row0 : nullptr;
    if (a.w.outliers.offsets != nullptr) {
      add_outliers(call, x, m0, row0, rows, n0, width, t.y);
      f.x_scale = nullptr;
    }
    if (a.bias != nullptr) {
      for (int64_t i = 0; i < f.columns; ++i)
        t.bias[i] = load_float(a.bias, a.bias_dtype, (column + i) * a.bias_stride);
      f.bias = t.bias;
    }
  }
  f.out = a.out;
  f.out.data = static_cast<char*>(a.out.data) +
               ((m0 + row0) * a.out.row_stride + column * a.out.col_stride) * size_of(a.out.dtype);
  call.isa.finish(f);
  return true;
}

// The engine of short segments for this call; nullptr: there is none.
const Engine* find_segment_engine(const GemmArgs& args, const GemmIsa& isa, Numbers numbers) {
  if (numbers != Numbers::kInt8 && numbers != Numbers::kBF16) return nullptr;
  if (numbers == Numbers::kInt8 && !sums_are_products(args)) return nullptr;
  const int32_t quads = segment_quads(args);
  for (const Engine* engine : isa.segments[numbers == Numbers::kInt8 ? 0 : 1]) {
    // joins of whole tiles hide behind the products of the engine that takes more of them at once
    if (args.xq == nullptr && engine != nullptr && engine->unit >= kFloatPartialQuads) continue;
    if (engine != nullptr && quads != 0 && quads <= engine->unit) return engine;
  }
  return nullptr;
}

// Whether operands may hold the scales, as far as formats and shapes tell.
bool takes_scales(const GemmArgs& args, const GemmIsa& isa) {
  const bool integers = is_integer_path(args);
  const Engine* engine = isa.scaled[integers ? 0 : 1];
  if (engine == nullptr || isa.engines[static_cast<int>(Numbers::kPlanes)] != nullptr) return false;
  if (!scales_are_powers(args) || (!integers && numbers_of(args) != Numbers::kBF16)) return false;
  const int32_t quads = segment_quads(args);
  return quads != 0 && quads <= engine->unit;
}

// Rows of x in a task, at most.
int64_t chunk_rows_of(const Engine& engine, int64_t row_bytes) {
  int64_t rows = kChunkRows;
  if (engine.resident_bytes > 0) rows = std::max(std::min(engine.resident_bytes / row_bytes, rows), kResidentRows);
  return rows / engine.rows * engine.rows;
}

// Most tiles of a panel. Where x goes through the cache for each panel, the panel stays in the first.
int panel_tiles(const Engine& engine) {
  if (engine.resident_bytes == 0) return kPanelTiles;
  return engine.quads * engine.w_quad * kPanelTiles <= kFirstCacheBytes ? kPanelTiles : 2;
}

// Of a panel, with `rest` tiles to go.
int tiles_for(const Engine& engine, int64_t rest) { return rest == 1 ? 1 : rest == 2 ? 2 : panel_tiles(engine); }

// The product, with the scales in the operands where `scaled`; *misfit: they do not fit, and `out` is to be written
// again.
Status multiply(const GemmArgs& a, const GemmIsa& isa, const Parallel& parallel, bool scaled, bool* misfit) {
  const auto out_of_memory = [] { return Status(Code::kOutOfMemory, "gemm: no memory for the workspace"); };
  thread_local Plan plan_of_thread;  // cuts of few calls need new memory
  Plan& plan = plan_of_thread;
  plan.clear();
  if (!find_tables(a, &plan)) return out_of_memory();
  Numbers numbers = numbers_of(a);
  const int32_t partial_quads = is_integer(numbers) ? quads_in_16_bits(plan) : kFloatPartialQuads;
  if (numbers == Numbers::kInt8 && partial_quads == 0 && isa.engines[static_cast<int>(Numbers::kInt16)] != nullptr) {
    numbers = Numbers::kInt16;
  }
  if (isa.engines[static_cast<int>(Numbers::kPlanes)] != nullptr) numbers = Numbers::kPlanes;
  const Engine* of_segments = scaled ? nullptr : find_segment_engine(a, isa, numbers);
  if (of_segments != nullptr) {
    if (is_integer(numbers) && !find_integer_tables(a, &plan)) return out_of_memory();
    numbers = Numbers::kBF16;
  }
  if (scaled) {
    if (a.xq != nullptr && code_tables(*a.xq->scale.codes.format) == nullptr) return out_of_memory();
    numbers = Numbers::kBF16;
  }
  const Engine& engine = scaled                   ? *isa.scaled[is_integer_path(a) ? 0 : 1]
                         : of_segments != nullptr ? *of_segments
                                                  : *isa.engines[static_cast<int>(numbers)];
  if (!make_plan(a, numbers, engine.quads, engine.unit, &plan)) return out_of_memory();
  Call call{a, isa, engine, plan, a.out.dtype == DType::kI32, false, {1.0f, 1.0f}, 1.0f, partial_quads, scaled};
  if (is_integer_path(a) && !scaled) {
    call.use_wsum = is_integer(numbers) && (call.plan.x_zero || call.plan.x->s8_offset != 0);
    for (int i = 0; i < 2; ++i) call.w_factor[i] = std::ldexp(1.0f, -call.plan.w[i]->shift);
    call.x_factor = std::ldexp(1.0f, -call.plan.x->shift);
  }

  const int64_t row_bytes = call.plan.quads * engine.x_quad;
  const int64_t chunk_rows = chunk_rows_of(engine, row_bytes);
  int64_t super_rows = kPackedBytes / row_bytes / chunk_rows * chunk_rows;
  if (super_rows == 0) super_rows = std::max<int64_t>(kPackedBytes / row_bytes / engine.rows, 1) * engine.rows;
  if (super_rows > a.m) super_rows = a.m;
  const int64_t n_tiles = ceil_div(a.n, kTileRows);
  const bool direct = engine.direct != nullptr && super_rows <= kDirectRows && n_tiles >= kDirectTiles &&
                      a.w.high == nullptr && !call.use_wsum && !call.plan.wide &&
                      (numbers != Numbers::kPlanes || a.w.codes.layout == Layout::kTile16);
  const int most_tiles = direct ? kDirectTiles : panel_tiles(engine);
  const int64_t n_blocks = ceil_div(n_tiles, most_tiles);
  // a last direct block that is not whole takes tiles of the one before as well
  const auto first_tile = [&](int64_t n_block) {
    return direct ? std::min(n_block * kDirectTiles, n_tiles - kDirectTiles) : n_block * most_tiles;
  };

  Carver rows_size{nullptr};
  carve_rows(call, super_rows, &rows_size);
  const Buffer large = rows_size.used > kKeptRows ? allocate(rows_size.used) : nullptr;
  char* const rows_buffer = large ? large.get() : thread_scratch<Use::kRows>(rows_size.used);
  if (rows_buffer == nullptr) return out_of_memory();
  Carver task_size{nullptr};
  carve_task(call, most_tiles, std::min(super_rows, chunk_rows), &task_size);
  std::atomic<bool> failed{false}, outside{false};

  for (int64_t m0 = 0; m0 < a.m; m0 += super_rows) {
    const int64_t rows = a.m - m0 < super_rows ? a.m - m0 : super_rows;
    const int64_t blocks = blocks_of(engine, rows);
    Carver carver{rows_buffer};
    const PackedRows x = carve_rows(call, rows, &carver);
    parallel(blocks, 1 + 65536 / (row_bytes * engine.rows), [&](int64_t begin, int64_t end) {
      char* scratch = thread_scratch<Use::kTask>(pack_scratch(call));
      if (scratch == nullptr) {
        failed = true;
        return;
      }
      for (int64_t b = begin; b < end; ++b) pack_block(call, m0, b, blocks, rows, x, scratch);
    });
    PowerWindow window{};
    if (scaled) {
      Powers powers;
      for (int64_t b = 0; b < blocks && !failed; ++b) powers.add(x.powers[b]);
      *misfit = !failed && !find_window(*plan.w[0], plan.x, powers, &window);
      if (*misfit) return Status();
    }
    const int64_t chunks =
        std::max(ceil_div(blocks, chunk_rows / engine.rows),
                 std::min(ceil_div(blocks, kLeastChunkRows / engine.rows), ceil_div(kTasks, n_blocks)));
    parallel(n_blocks * chunks, 1, [&](int64_t begin, int64_t end) {
      char* scratch = thread_scratch<Use::kTask>(task_size.used);
      if (scratch == nullptr || failed) {
        failed = true;
        return;
      }
      if (engine.begin != nullptr) engine.begin();
      for (int64_t task = begin; task < end && !outside; ++task) {
        // what is still in cache of the task before: codes of weights, or x
        const bool x_stays = engine.resident_bytes > 0;
        const auto n_block_of = [&](int64_t t) { return x_stays ? t % n_blocks : t / chunks; };
        const int64_t n_block = n_block_of(task);
        const int64_t chunk = x_stays ? task / n_blocks : task % chunks;
        const int64_t tile = first_tile(n_block);
        Task what{};
        what.block0 = chunk * blocks / chunks;
        what.block1 = (chunk + 1) * blocks / chunks;
        what.n0 = tile * kTileRows;
        what.tiles = direct ? kDirectTiles : tiles_for(engine, n_tiles - tile);
        what.done = (n_block * most_tiles - tile) * kTileRows;
        what.next = task + 1 < end ? first_tile(n_block_of(task + 1)) * kTileRows : -1;
        Carver task_carver{scratch};
        const TaskScratch t = carve_task(call, what.tiles, std::min(super_rows, chunk_rows), &task_carver);
        if (!run_task(call, x, m0, rows, what, window, t)) outside = true;
      }
      if (engine.end != nullptr) engine.end();
    });
    if (failed) return out_of_memory();
    *misfit = outside;
    if (*misfit) return Status();
  }
  return Status();
}

}  // namespace

Status blocked_gemm(const GemmArgs& args, const GemmIsa& isa, const Parallel& parallel, bool* scaled) {
  *scaled = false;
  if (args.m == 0 || args.n == 0) return Status();
  bool misfit = true;
  if (takes_scales(args, isa)) {
    Status status = multiply(args, isa, parallel, true, &misfit);
    *scaled = !misfit && status.ok();
    if (!misfit || !status.ok()) return status;
  }
  return multiply(args, isa, parallel, false, &misfit);
}

}  // namespace lowbit::cpu
