// Scales and zero points of operands, as engines take them: a value a piece.
#pragma once

#include "cpu/gemm_call.h"

namespace lowbit::cpu {

// An integer zero point; BlockValues::at() would round those beyond 2^24.
int32_t int_at(const BlockValues& v, int64_t r, int64_t c);

inline int64_t value_column(const BlockValues& v, const Piece& p) {
  return v.block.cols == 0 ? 0 : p.column / v.block.cols;
}

// Values [j0, j0 + cols) of row r of the values themselves (of blocks of rows: of block r).
void load_row(const GemmIsa& isa, const BlockValues& v, const CodeTables& tables, int64_t r, int64_t j0, int64_t cols,
              uint8_t* codes, float* row);

// Whether numbers of a column lie together, as modules hold those of prepacked weights: they go where they belong
// without a transpose.
inline bool by_columns(const BlockValues& v) {
  return v.block.rows == 1 && v.codes.format == nullptr && v.second == nullptr && v.unit == 1.0f && v.row_stride == 1 &&
         v.col_stride > 1;
}

// The scales of a window's pieces for `width` rows from n0 where the weight has them, v.col_stride from piece to piece;
// nullptr where they are not what a join multiplies by.
const float* scales_in_place(const Call& call, const Piece* pieces, int32_t count, int64_t n0, int64_t width);

// Scales or zero points (integers where as_int) of a window's pieces for `tiles` tiles from row n0, as
// out[piece][tile][16]; zeros for rows past the matrix. `scratch`: kValuesScratch bytes.
inline constexpr int64_t kValuesScratch = kWindowPieces * kTileRows * 9;
void load_values(const Call& call, const BlockValues& v, bool as_int, const Piece* pieces, int32_t count, int64_t n0,
                 int tiles, uint32_t* out, char* scratch);

}  // namespace lowbit::cpu
