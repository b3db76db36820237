// How a GEMM of ref/gemm_args.h is cut along K, and the tables that decode its codes: everything about a call that does
// not depend on an instruction set.
//
// A piece is a range of columns of one segment (one scale, one zero point, one source matrix). Its columns are counted
// in quads, the 4 columns of a tile16 tile, of its source matrix: a piece that starts or ends inside a quad takes the
// whole quad and multiplies it by activations packed with zeros outside the piece. So segments of any length run
// through one kernel. Pieces longer than the engine's block are cut and carried on.
#pragma once

#include <vector>

#include "ref/gemm_args.h"

namespace lowbit::cpu {

struct Piece {
  int64_t column;         // of x, and of the scales
  int64_t source_column;  // of the matrix the codes come from
  int32_t columns;
  int32_t quads;
  int32_t source;  // 0: w.codes, 1: *w.high
  bool first;      // of its segment
  bool last;
};

// Consecutive pieces whose decoded weights share one panel.
struct KBlock {
  int32_t piece, pieces;
  int64_t quad;  // of the packed activations
  int32_t quads;
};

// Decoders of one format: by code. Integers: value * 2^shift = factor * u8[c] - offset = factor * s8[c] + s8_offset.
struct CodeTables {
  alignas(64) uint8_t u8[256];
  alignas(64) uint16_t bf16[256];
  alignas(64) float f32[256];
  int8_t s8[256];
  int32_t offset = 0, s8_offset = 0, factor = 1;
  int32_t low = 0, high = 0;  // least and largest value * 2^shift
  int32_t shift = 0;
};

enum class Numbers : uint8_t { kInt8, kBF16, kF32 };

struct Plan {
  Numbers numbers;
  std::vector<Piece> pieces;
  std::vector<KBlock> blocks;
  int64_t quads = 0;   // of all pieces
  CodeTables w[2];     // of w.codes and *w.high
  CodeTables x;        // when x is codes
  CodeTables w_scale;  // when w's scales are codes
  bool x_scale_along_k = false;
  bool w_zero = false;        // zero points that enter the sums; int8: integers
  bool w_float_zero = false;  // int8: float zero points, the second term of the join
  bool x_zero = false;
  bool wide = false;  // a segment's integer sum may leave int32
};

// Whether zero points are there and are not integers.
bool is_float(const BlockValues& zero);

// The narrowest numbers in which the products of this call are exact.
Numbers numbers_of(const GemmArgs& args);

// Cuts K for panels of `quads` quads.
void make_plan(const GemmArgs& args, Numbers numbers, int32_t quads, Plan* plan);

}  // namespace lowbit::cpu
