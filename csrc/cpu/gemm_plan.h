// How a GEMM of ref/gemm_args.h is cut along K, and the tables that decode its codes: everything about a call that does
// not depend on an instruction set.
//
// A piece is a range of columns of one segment (one scale, one zero point, one source matrix). Its columns are counted
// in quads, the 4 columns of a tile16 tile, of its source matrix: a piece that starts or ends inside a quad takes the
// whole quad and multiplies it by activations packed with zeros outside the piece. So segments of any length run
// through one kernel. Pieces longer than the engine's block are cut and carried on.
#pragma once

#include <vector>

#include "cpu/code_tables.h"
#include "ref/gemm_args.h"

namespace lowbit::cpu {

struct Piece {
  int64_t column;         // of x, and of the scales
  int64_t source_column;  // of the matrix the codes come from
  int32_t columns;
  int32_t quads;
  int32_t room;    // the quads it takes in a panel and in packed activations: `quads`, rounded up to the engine's unit
  int32_t source;  // 0: w.codes, 1: *w.high
  bool first;      // of its segment
  bool last;
};

// Consecutive pieces whose decoded weights share one panel.
struct KBlock {
  int32_t piece, pieces;
  int64_t quad;   // of the packed activations
  int32_t quads;  // the room of the pieces
};

// Consecutive K blocks whose scales and zero points are loaded together.
struct Window {
  int32_t block, blocks;
  int32_t piece, pieces;
};
inline constexpr int32_t kBlockPieces = 64;    // most pieces of a block,
inline constexpr int32_t kWindowPieces = 128;  // of a window

// kInt16: integers of 8 bits whose products an instruction set adds exactly as 16-bit numbers only. kPlanes: bit
// planes.
enum class Numbers : uint8_t { kInt8, kBF16, kF32, kInt16, kPlanes };
inline constexpr int kNumbers = 5;
constexpr bool is_integer(Numbers n) { return n != Numbers::kBF16 && n != Numbers::kF32; }

struct Plan {
  Numbers numbers;
  std::vector<Piece> pieces;
  std::vector<KBlock> blocks;
  std::vector<Window> windows;
  int64_t quads = 0;                    // the room of all pieces
  const CodeTables* w[2] = {};          // of w.codes and *w.high
  const CodeTables* x = nullptr;        // when x is codes
  const CodeTables* w_scale = nullptr;  // when w's scales are codes
  CodeTables own[3];                    // of codebooks: of w[0], w[1] and x
  bool x_scale_along_k = false;
  bool w_zero = false;        // zero points that enter the sums; int8: integers
  bool w_float_zero = false;  // int8: float zero points, the second term of the join
  bool x_zero = false;
  bool wide = false;  // a segment's integer sum may leave int32

  // As it was made, but for the memory of the cuts.
  void clear();
};

// Whether zero points are there and are not integers.
bool is_float(const BlockValues& zero);

// The narrowest numbers in which the products of this call are exact.
Numbers numbers_of(const GemmArgs& args);

// How many quads of products of unsigned w and signed x bytes, in sums of two, 16 signed bits hold: of any codes of
// these tables. 0 where a pair alone may leave them.
int32_t quads_in_16_bits(const Plan& plan);

// The tables of the operands, which make_plan needs. False when memory is short.
bool find_tables(const GemmArgs& args, Plan* plan);

// Tables of integers in the place of those, for a call of the integer path whose numbers are bf16.
bool find_integer_tables(const GemmArgs& args, Plan* plan);

// The most quads of a segment, where each begins with a quad of one matrix; 0: elsewhere.
int32_t segment_quads(const GemmArgs& args);

// Integer path: whether the sum of a segment is one of products alone. Of at most 256 columns it is exact in fp32, with
// terms that are exact in bf16: none is beyond 2^8 * 2^8.
bool sums_are_products(const GemmArgs& args);

// Cuts K for panels of `quads` quads in which a piece takes a multiple of `unit`. False when memory is short.
bool make_plan(const GemmArgs& args, Numbers numbers, int32_t quads, int32_t unit, Plan* plan);

}  // namespace lowbit::cpu
