#include "cpu/gemm_plan.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace lowbit::cpu {
namespace {

constexpr int32_t kMaxPieces = 64;  // of a block

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

// The integers v * 2^shift of a format that is exact in int8, and how the two byte forms count.
void fill_int(const ElementFormat& f, CodeTables* t) {
  t->shift = int8_shift(f);
  int32_t value[256];
  const int n = f.codes();
  for (int c = 0; c < n; ++c) {
    const float v = decode(f, static_cast<uint32_t>(c)) * std::ldexp(1.0f, t->shift);
    value[c] = static_cast<int32_t>(v);
  }
  t->low = *std::min_element(value, value + n), t->high = *std::max_element(value, value + n);
  const bool halved = t->high - t->low > 255;  // bipolar8: odd numbers -255 .. 255
  t->factor = halved ? 2 : 1;
  t->offset = -t->low;
  t->s8_offset = halved ? 1 : t->low >= -128 && t->high <= 127 ? 0 : 128;
  for (int c = 0; c < 256; ++c) {
    const int32_t v = value[c & (n - 1)];
    t->u8[c] = static_cast<uint8_t>((v + t->offset) / t->factor);
    t->s8[c] = static_cast<int8_t>((v - t->s8_offset) / t->factor);
  }
}

void fill_float(const ElementFormat& f, const float* codebook, CodeTables* t) {
  const int n = f.codes();
  for (int c = 0; c < 256; ++c) {
    const float v = decode(f, static_cast<uint32_t>(c & (n - 1)), codebook);
    t->f32[c] = v;
    t->bf16[c] = float_to_bf16(v);
  }
  if (f.is_int()) {
    t->low = static_cast<int32_t>(*std::min_element(t->f32, t->f32 + n));
    t->high = static_cast<int32_t>(*std::max_element(t->f32, t->f32 + n));
  }
}

// Whether every v - zero is exact in bf16: |.| <= 256 for integers; no zero point, and exact values, otherwise.
bool differences_exact(const ElementFormat& f, const BlockValues& zero, int64_t rows, int64_t cols) {
  if (!exact_in_bf16(f)) return false;
  if (!zero) return true;
  if (!f.is_int() || is_float(zero)) return false;
  const Range z = range_of(zero, rows, cols);
  CodeTables t;
  fill_float(f, nullptr, &t);
  return t.high - z.low <= 256 && t.low - z.high >= -256;
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

void make_plan(const GemmArgs& args, Numbers numbers, int32_t quads, Plan* plan) {
  const QMatrix& w = args.w;
  const QMatrix* xq = args.xq;
  plan->numbers = numbers;
  const bool integer = numbers == Numbers::kInt8;
  plan->w_float_zero = integer && is_float(w.zero);
  plan->w_zero = w.zero && !plan->w_float_zero;
  plan->x_zero = xq != nullptr && xq->zero;
  plan->x_scale_along_k = xq != nullptr && xq->scale && xq->scale.block.cols != 0;

  for (int s = 0; s < (w.high != nullptr ? 2 : 1); ++s) {
    const Codes& c = s == 0 ? w.codes : *w.high;
    integer ? fill_int(*c.format, &plan->w[s]) : fill_float(*c.format, c.codebook, &plan->w[s]);
  }
  if (xq != nullptr) {
    integer ? fill_int(*xq->codes.format, &plan->x) : fill_float(*xq->codes.format, xq->codes.codebook, &plan->x);
  }

  if (w.scale && w.scale.codes.format != nullptr)
    fill_float(*w.scale.codes.format, w.scale.codes.codebook, &plan->w_scale);

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
    if (block.pieces > 0 && (block.quads + p.quads > quads || block.pieces == kMaxPieces)) {
      plan->blocks.push_back(block);
      block = {block.piece + block.pieces, 0, block.quad + block.quads, 0};
    }
    ++block.pieces;
    block.quads += p.quads;
    plan->quads += p.quads;
  }
  if (block.pieces > 0) plan->blocks.push_back(block);

  if (integer) {
    const auto magnitude = [](const CodeTables& t, Range z) {
      const int64_t unit = int64_t{1} << t.shift;
      return static_cast<double>(std::max(std::abs(t.high - z.low * unit), std::abs(t.low - z.high * unit)));
    };
    const Range zw = range_of(w.zero, args.n, args.k);
    const Range zx = range_of(xq->zero, args.m, args.k);
    double largest = magnitude(plan->w[0], zw);
    if (w.high != nullptr) largest = std::max(largest, magnitude(plan->w[1], zw));
    plan->wide = largest * magnitude(plan->x, zx) * static_cast<double>(longest) >= 2147483648.0 ||
                 plan->w[0].factor != 1 || plan->x.factor != 1;
  }
}

}  // namespace lowbit::cpu
