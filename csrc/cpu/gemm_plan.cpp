#include "cpu/gemm_plan.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace lowbit::cpu {
namespace {

struct Range {
  int64_t low = 0, high = 0;
};

Range range_of(const BlockValues& zero, int64_t rows, int64_t cols) {
  Range r;
  if (!zero || is_float(zero)) return r;
  if (zero.dtype == DType::kI8) return {-128, 127};
  if (zero.dtype == DType::kU8) return {0, 255};
  const int64_t n = Block::count(rows, zero.block.rows), g = Block::count(cols, zero.block.cols);
  const auto* p = static_cast<const int32_t*>(zero.data);
  r.low = INT32_MAX, r.high = INT32_MIN;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < g; ++j) {
      const int64_t v = p[i * zero.row_stride + j * zero.col_stride];
      r.low = std::min(r.low, v), r.high = std::max(r.high, v);
    }
  }
  return r;
}

// Whether every v - zero is exact in bf16: |.| <= 256 for integers; no zero point, and exact values, otherwise.
bool differences_exact(const ElementFormat& f, const BlockValues& zero, int64_t rows, int64_t cols) {
  if (!exact_in_bf16(f)) return false;
  if (!zero) return true;
  if (!f.is_int() || is_float(zero)) return false;
  const Range z = range_of(zero, rows, cols);
  const int64_t low = decode_int(f, f.is_int() && f.rule != kUnsigned && f.rule != kBipolar ? 1u << (f.bits - 1) : 0u);
  const int64_t high = decode_int(f, max_code(f));
  return high - z.low <= 256 && low - z.high >= -256;
}

int64_t min_end(int64_t a, int64_t b) { return a < b ? a : b; }

}  // namespace

bool is_float(const BlockValues& zero) {
  return zero && (zero.codes.format != nullptr || zero.dtype == DType::kF32 || zero.dtype == DType::kBF16 ||
                  zero.dtype == DType::kF16);
}

Numbers numbers_of(const GemmArgs& args) {
  if (is_integer_path(args)) return Numbers::kInt8;
  const QMatrix& w = args.w;
  const bool x_exact = args.xq == nullptr ? args.x.dtype == DType::kBF16
                                          : differences_exact(*args.xq->codes.format, args.xq->zero, args.m, args.k);
  const bool w_exact = differences_exact(*w.codes.format, w.zero, args.n, args.k) &&
                       (w.high == nullptr || differences_exact(*w.high->format, w.zero, args.n, args.k));
  return x_exact && w_exact ? Numbers::kBF16 : Numbers::kF32;
}

void Plan::clear() {
  pieces.clear();
  blocks.clear();
  windows.clear();
  quads = 0;
  x = nullptr;
  x_scale_along_k = w_zero = w_float_zero = x_zero = wide = false;
}

bool find_tables(const GemmArgs& args, Plan* plan) {
  const QMatrix& w = args.w;
  const QMatrix* xq = args.xq;
  const auto tables = [](const Codes& c, CodeTables* own) {
    if (c.format->kind != Kind::kCodebook) return code_tables(*c.format);
    fill_codebook(*c.format, c.codebook, own);
    return static_cast<const CodeTables*>(own);
  };
  plan->w[0] = plan->w[1] = tables(w.codes, &plan->own[0]);
  if (w.high != nullptr) plan->w[1] = tables(*w.high, &plan->own[1]);
  if (xq != nullptr) plan->x = tables(xq->codes, &plan->own[2]);
  plan->w_scale = w.scale.codes.format != nullptr ? code_tables(*w.scale.codes.format) : plan->w[0];
  return plan->w[0] && plan->w[1] && plan->w_scale && (xq == nullptr || plan->x);
}

bool find_integer_tables(const GemmArgs& args, Plan* plan) {
  plan->w[0] = plan->w[1] = integer_tables(*args.w.codes.format);
  plan->x = integer_tables(*args.xq->codes.format);
  return plan->w[0] != nullptr && plan->x != nullptr;
}

int32_t segment_quads(const GemmArgs& args) {
  if (args.w.high != nullptr) return 0;
  int64_t columns = args.k;
  const QMatrix* xq = args.xq;
  for (const BlockValues* v :
       {&args.w.scale, &args.w.zero, xq != nullptr ? &xq->scale : nullptr, xq != nullptr ? &xq->zero : nullptr}) {
    if (v == nullptr || !*v || v->block.cols == 0) continue;
    if (v->block.cols % kTileCols != 0) return 0;
    columns = min_end(columns, v->block.cols);
  }
  return static_cast<int32_t>(min_end(ceil_div(columns, kTileCols), INT32_MAX));
}

bool sums_are_products(const GemmArgs& args) { return args.out.dtype != DType::kI32 && !args.w.zero && !args.xq->zero; }

int32_t quads_in_16_bits(const Plan& plan) {
  const auto largest = [](const CodeTables& t) { return (t.high + t.offset) / t.factor; };
  const int32_t w = std::max(largest(*plan.w[0]), largest(*plan.w[1]));
  const CodeTables& x = *plan.x;
  const int32_t magnitude =
      std::max(std::abs((x.low - x.s8_offset) / x.factor), std::abs((x.high - x.s8_offset) / x.factor));
  return 32767 / (2 * std::max(w * magnitude, 1));
}

bool make_plan(const GemmArgs& args, Numbers numbers, int32_t quads, int32_t unit, Plan* plan) {
  const QMatrix& w = args.w;
  const QMatrix* xq = args.xq;
  plan->numbers = numbers;
  const bool integer = is_integer(numbers);
  plan->w_float_zero = integer && is_float(w.zero);
  plan->w_zero = w.zero && !plan->w_float_zero;
  plan->x_zero = xq != nullptr && xq->zero;
  plan->x_scale_along_k = xq != nullptr && xq->scale && xq->scale.block.cols != 0;

  // pieces
  int64_t longest = 0;
  int64_t taken[2] = {0, 0};  // columns of each source before column c
  int64_t high = 0;           // entries of high_groups passed
  for (int64_t c = 0; c < args.k;) {
    int64_t end = min_end(w.scale.block_end(c, args.k), w.zero.block_end(c, args.k));
    if (xq != nullptr) {
      end = min_end(end, min_end(xq->scale.block_end(c, args.k), xq->zero.block_end(c, args.k)));
    }
    int source = 0;
    if (w.high != nullptr) {
      const auto is_high = [&](int64_t g) { return high < w.high_count && w.high_groups[high] == g; };
      int64_t g = c / w.group;
      source = is_high(g) ? 1 : 0;
      // on to the last group in a row that comes from the same matrix
      for (;; ++g) {
        const int64_t group_end = (g + 1) * w.group;
        if (group_end > end) break;
        if (source == 1) ++high;
        if (group_end == end || is_high(g + 1) != (source == 1)) {
          end = group_end;
          break;
        }
      }
    }
    longest = std::max(longest, end - c);
    for (int64_t at = c; at < end;) {
      Piece p;
      p.column = at;
      p.source = source;
      p.source_column = taken[source];
      const int64_t aligned = p.source_column / kTileCols * kTileCols;
      p.columns = static_cast<int32_t>(min_end(end - at, aligned + kTileCols * quads - p.source_column));
      p.quads = static_cast<int32_t>(ceil_div(p.source_column + p.columns - aligned, kTileCols));
      p.room = static_cast<int32_t>(round_up(p.quads, unit));
      p.first = at == c;
      p.last = at + p.columns == end;
      plan->pieces.push_back(p);
      taken[source] += p.columns;
      at += p.columns;
    }
    c = end;
  }

  KBlock block{0, 0, 0, 0};
  for (const Piece& p : plan->pieces) {
    if (block.pieces > 0 && (block.quads + p.room > quads || block.pieces == kBlockPieces)) {
      plan->blocks.push_back(block);
      block = {block.piece + block.pieces, 0, block.quad + block.quads, 0};
    }
    ++block.pieces;
    block.quads += p.room;
    plan->quads += p.room;
  }
  if (block.pieces > 0) plan->blocks.push_back(block);

  Window window{0, 0, 0, 0};
  for (const KBlock& b : plan->blocks) {
    if (window.blocks > 0 && window.pieces + b.pieces > kWindowPieces) {
      plan->windows.push_back(window);
      window = {window.block + window.blocks, 0, window.piece + window.pieces, 0};
    }
    ++window.blocks;
    window.pieces += b.pieces;
  }
  if (window.blocks > 0) plan->windows.push_back(window);

  if (integer) {
    const auto magnitude = [](const CodeTables& t, Range z) {
      const int64_t unit = int64_t{1} << t.shift;
      return static_cast<double>(std::max(std::abs(t.high - z.low * unit), std::abs(t.low - z.high * unit)));
    };
    const Range zw = range_of(w.zero, args.n, args.k);
    const Range zx = range_of(xq->zero, args.m, args.k);
    const double largest = std::max(magnitude(*plan->w[0], zw), magnitude(*plan->w[1], zw));
    plan->wide = largest * magnitude(*plan->x, zx) * static_cast<double>(longest) >= 2147483648.0 ||
                 plan->w[0]->factor != 1 || plan->w[1]->factor != 1 || plan->x->factor != 1;
  }
  return true;
}

}  // namespace lowbit::cpu
