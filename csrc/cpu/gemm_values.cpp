#include "cpu/gemm_values.h"

#include <algorithm>
#include <cstring>

namespace lowbit::cpu {
namespace {

// Calls f(block, begin, end) for the rows of a tile from row0 that share their values: rows [begin, end) of it.
template <class F>
void each_block(const BlockValues& v, int64_t row0, int64_t rows, const F& f) {
  for (int64_t begin = 0; begin < rows;) {
    const int64_t block = v.block.rows == 0 ? 0 : (row0 + begin) / v.block.rows;
    const int64_t end = v.block.rows == 0 ? rows : std::min(rows, (block + 1) * v.block.rows - row0);
    f(block, begin, end);
    begin = end;
  }
}

// One tile of load_values, value by value.
void load_tile_by_value(const BlockValues& v, bool as_int, const Piece* pieces, int32_t count, int64_t row0,
                        int64_t rows, uint32_t* out, int64_t stride) {
  each_block(v, row0, rows, [&](int64_t, int64_t begin, int64_t end) {
    for (int32_t p = 0; p < count; ++p) {
      const uint32_t value = as_int ? static_cast<uint32_t>(int_at(v, row0 + begin, pieces[p].column))
                                    : float_to_bits(v.at(row0 + begin, pieces[p].column));
      std::fill(out + p * stride + begin, out + p * stride + end, value);
    }
  });
}

}  // namespace

int32_t int_at(const BlockValues& v, int64_t r, int64_t c) {
  if (v.dtype != DType::kI32) return static_cast<int32_t>(v.at(r, c));
  const int64_t i = v.block.rows == 0 ? 0 : r / v.block.rows, j = v.block.cols == 0 ? 0 : c / v.block.cols;
  return static_cast<const int32_t*>(v.data)[i * v.row_stride + j * v.col_stride];
}

void load_row(const GemmIsa& isa, const BlockValues& v, const CodeTables& tables, int64_t r, int64_t j0, int64_t cols,
              uint8_t* codes, float* row) {
  if (v.codes.format != nullptr) {
    isa.unpack(v.codes, r, j0, cols, codes);
    isa.lookup32(codes, cols, tables, row);
  } else {
    const char* from = static_cast<const char*>(v.data) + (r * v.row_stride + j0) * size_of(v.dtype);
    isa.to_lanes(from, v.dtype, cols, row);
  }
  for (int64_t j = 0; v.second != nullptr && j < cols;) {
    const int64_t end = v.second->block_end(j0 + j, j0 + cols) - j0;
    const float second = v.second->at(r, j0 + j);
    for (; j < end; ++j) row[j] *= second;
  }
  for (int64_t j = 0; v.unit != 1.0f && j < cols; ++j) row[j] *= v.unit;
}

const float* scales_in_place(const Call& call, const Piece* pieces, int32_t count, int64_t n0, int64_t width) {
  const BlockValues& v = call.args.w.scale;
  if (!v || !by_columns(v) || v.dtype != DType::kF32 || call.raw || call.w_factor[0] != 1.0f) return nullptr;
  const int64_t j0 = value_column(v, pieces[0]);
  if (n0 + width > call.args.n || value_column(v, pieces[count - 1]) - j0 != count - 1) return nullptr;
  return static_cast<const float*>(v.data) + n0 + j0 * v.col_stride;
}

void load_values(const Call& call, const BlockValues& v, bool as_int, const Piece* pieces, int32_t count, int64_t n0,
                 int tiles, uint32_t* out, char* scratch) {
  const int64_t stride = tiles * kTileRows;
  const int64_t j0 = value_column(v, pieces[0]), cols = value_column(v, pieces[count - 1]) - j0 + 1;
  const bool coded = v.codes.format != nullptr;
  // zero points that are codes are not made by any op; they take the plain way
  const bool by_rows =
      cols <= kWindowPieces && (coded ? !as_int && &v != &call.args.w.zero : cols == 1 || v.col_stride == 1);
  const bool row_each = by_rows && v.block.rows == 1 && (coded || v.row_stride != 0);
  Carver carver{scratch};
  auto* spread = carver.take<uint32_t>(kWindowPieces * kTileRows);  // [column][16]
  auto* values = carver.take<float>(kWindowPieces * kTileRows);     // [16][column]
  auto* codes = carver.take<uint8_t>(kWindowPieces);
  if (by_columns(v)) {
    const int64_t rows = std::min(stride, call.args.n - n0);
    for (int32_t p = 0; p < count; ++p) {
      const int64_t at = n0 + value_column(v, pieces[p]) * v.col_stride;
      call.isa.to_lanes(static_cast<const char*>(v.data) + at * size_of(v.dtype), v.dtype, rows, out + p * stride);
      std::memset(out + p * stride + rows, 0, 4 * static_cast<size_t>(stride - rows));
    }
    return;
  }
  for (int t = 0; t < tiles; ++t) {
    const int64_t row0 = n0 + t * kTileRows;
    const int64_t rows = row0 + kTileRows <= call.args.n ? kTileRows : call.args.n - row0;
    uint32_t* to = out + t * kTileRows;
    if (rows < kTileRows) {
      for (int32_t p = 0; p < count; ++p) std::memset(to + p * stride, 0, 4 * kTileRows);
    }
    if (rows <= 0) continue;
    // a value a piece: transposed to where they belong
    const bool in_place = cols == count && rows == kTileRows;
    uint32_t* columns = in_place ? to : spread;
    const int64_t columns_stride = in_place ? stride : kTileRows;
    if (!row_each && by_rows && !as_int) {
      each_block(v, row0, rows, [&](int64_t block, int64_t begin, int64_t end) {
        load_row(call.isa, v, *call.plan.w_scale, block, j0, cols, codes, values);
        for (int32_t p = 0; p < count; ++p) {
          const int64_t j = cols == count ? p : value_column(v, pieces[p]) - j0;
          std::fill(to + p * stride + begin, to + p * stride + end, float_to_bits(values[j]));
        }
      });
      continue;
    }
    if (!row_each) {
      load_tile_by_value(v, as_int, pieces, count, row0, rows, to, stride);
      continue;
    }
    if (!coded && v.second == nullptr && v.unit == 1.0f) {
      const char* from = static_cast<const char*>(v.data) + (row0 * v.row_stride + j0) * size_of(v.dtype);
      call.isa.transpose(from, v.dtype, v.row_stride, rows, cols, columns, columns_stride);
    } else {
      for (int64_t i = 0; i < rows; ++i) {
        load_row(call.isa, v, *call.plan.w_scale, row0 + i, j0, cols, codes, values + i * cols);
      }
      call.isa.transpose(values, DType::kF32, cols, rows, cols, columns, columns_stride);
    }
    for (int32_t p = 0; p < count && !in_place; ++p) {
      std::memcpy(to + p * stride, columns + (value_column(v, pieces[p]) - j0) * kTileRows,
                  4 * static_cast<size_t>(rows));
    }
  }
}

}  // namespace lowbit::cpu
