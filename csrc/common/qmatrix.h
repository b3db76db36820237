// A quantized matrix as kernels see it: codes in a layout, scales, zero points, and what was split off.
#pragma once

#include <cstdint>

#include "common/matrix.h"
#include "common/spec.h"
#include "formats/codec.h"
#include "formats/layout.h"

namespace lowbit {

// A tile of the tiled layouts has 16 rows, so many columns and so many bytes.
constexpr int64_t tile_cols(Layout tiled) { return tiled == Layout::kMma64 ? kMmaCols : kTileCols; }
constexpr int64_t tile_bytes(Layout tiled, int bits) { return tile_cols(tiled) * 2 * bits; }
constexpr int64_t tiled_bytes(Layout tiled, int bits, int64_t rows, int64_t cols) {
  return tiled == Layout::kMma64 ? mma64_bytes(bits, rows, cols) : tile16_bytes(bits, rows, cols);
}

// Codes of rows x cols elements.
struct Codes {
  const void* data = nullptr;
  const ElementFormat* format = nullptr;
  const float* codebook = nullptr;  // values of a kCodebook format
  Layout layout = Layout::kCanonical;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_stride = 0;    // kCanonical and kPlain: storage elements between rows
  int64_t plane_stride = 0;  // planes: storage elements between planes

  uint32_t code(int64_t r, int64_t c) const {
    if (layout == Layout::kPlain) {
      return static_cast<const uint8_t*>(data)[r * row_stride + c] & ((1u << format->bits) - 1u);
    }
    if (layout == Layout::kTile16) {
      return tile16_get(format->bits, static_cast<const uint8_t*>(data), cols, r, c);
    }
    if (layout == Layout::kMma64) return mma64_get(format->bits, static_cast<const uint8_t*>(data), cols, r, c);
    return canonical_get(canonical(*format), format->bits, data, row_stride, plane_stride, r, c);
  }
  float value(int64_t r, int64_t c) const { return decode(*format, code(r, c), codebook); }
};

// One number per block of a matrix: scales or zero points, floats or codes with a scale of their own.
//   value(r, c) = unit * stored * (second ? second(r / block.rows, c / block.cols) : 1)
struct BlockValues {
  const void* data = nullptr;  // nullptr: absent
  DType dtype = DType::kF32;   // when codes.format is null
  Codes codes;                 // coded values; then data is only a marker and equals codes.data
  int64_t row_stride = 0;      // elements; 0 repeats one row (column) of values
  int64_t col_stride = 0;
  Block block;  // elements of the matrix under one value; 0 = all
  float unit = 1.0f;
  const BlockValues* second = nullptr;

  explicit operator bool() const { return data != nullptr; }

  // The value for element (r, c); products are rounded to fp32 one by one, innermost scale first.
  float at(int64_t r, int64_t c) const {
    const int64_t i = block.rows == 0 ? 0 : r / block.rows;
    const int64_t j = block.cols == 0 ? 0 : c / block.cols;
    float v = codes.format != nullptr ? codes.value(i, j) : load_float(data, dtype, i * row_stride + j * col_stride);
    if (second != nullptr) v *= second->at(i, j);
    return v * unit;
  }
  // First column after `c` whose value may differ, at most `cols`.
  int64_t block_end(int64_t c, int64_t cols) const {
    if (data == nullptr || block.cols == 0) return cols;
    const int64_t end = (c / block.cols + 1) * block.cols;
    return end < cols ? end : cols;
  }
};

// 16-bit values added to a quantized matrix, compressed by rows: entries offsets[r] .. offsets[r + 1] of row r.
struct Outliers {
  const int32_t* offsets = nullptr;  // [rows + 1]; nullptr: none
  const int32_t* cols = nullptr;     // [entries], any order within a row, added in that order
  const void* values = nullptr;      // [entries]
  DType dtype = DType::kBF16;
};

// value(r, c) = scale(r, c) * (decode(code) - zero(r, c)) [+ outliers]
//
// Mixed widths: `high` holds the columns of the groups listed in `high_groups` (ascending), this matrix the others;
// both have their groups in ascending order, `group` columns each. scale and zero are those of the whole matrix.
struct QMatrix {
  Codes codes;
  BlockValues scale;
  BlockValues scale_imaginary;  // complex2 with a scale of its own for the imaginary codes; absent: `scale` is theirs
  BlockValues zero;             // integer (exact) or float
  Outliers outliers;
  const Codes* high = nullptr;
  const int32_t* high_groups = nullptr;
  int64_t high_count = 0;
  int64_t group = 0;
  int64_t cols = 0;  // of the whole matrix: codes.cols (+ high->cols)
};

}  // namespace lowbit
