// What an instruction set brings to a GEMM: plain functions on plain data, called by the driver in gemm_driver.cpp.
//
// A block of weights is 1, 2 or 4 tiles of 16 rows (8 when decoded directly), a block of activations up to Engine::rows
// rows. A piece takes a multiple of Engine::unit quads in both operands, a block of x a multiple of Engine::row_unit
// rows:
//   weights   panel[quad][tile][operands of 64 bytes]: 16 rows x 4 columns in the engine's numbers
//             where a unit is more than a quad, panel[tile][piece][quad][operands]; floats: zeros beyond the quads
//   x         packed[unit of quads][row][columns]      in the engine's numbers, zeros outside the piece
// The rows of x beyond the block's are not written. Values of weights per piece are [piece][tile][16], of activations
// [piece][Engine::rows]. Null pointers mean absent.
#pragma once

#include "cpu/gemm_plan.h"
#include "cpu/gemm_powers.h"
#include "cpu/plane_product.h"

namespace lowbit::cpu {

inline constexpr int kRows = 6;         // of x in a block of vector engines
inline constexpr int kPanelTiles = 4;   // most tiles of a panel
inline constexpr int kDirectTiles = 8;  // tiles of a block whose weights are decoded where they are used,
inline constexpr int kDirectRows = 3;   // for so many rows of x

struct PieceRun {
  int64_t quad;  // the first, of the codes' matrix
  int32_t quads;
  bool first;  // of its segment: else `carry` is added
  bool last;   // the sum joins y: else it goes to `carry`
};

// Codes that the next panel is decoded from, lines of each of its tiles: products may ask for them as they run.
// Decoding is over before memory answers, so that what it asks for itself it waits for.
struct CodesAhead {
  const char* codes;
  int64_t tile_bytes;  // from tile to tile
  int32_t lines;       // 0: none
};

// One block of activations times one panel, over the pieces of a K block. The sum of a piece starts at
//   integers  x_start, or x_sum * w_zero; plus x_zero * w_sum        floats    0
//   planes    x_start plus x_sum * w_zero plus x_zero * w_sum
// and joins as ref/gemm_args.h says: y = fma(sum, s, y), y = fma(x_float_sum, -(s * w_float_zero), y), where
// s = w_scale or w_scale * x_scale.
struct BlockArgs {
  const void* x;
  const void* w;  // the panel; direct: null, and these
  const Codes* codes;
  const CodeTables* tables;
  int64_t row, next_row;      // of this block, and of the one that the thread decodes next; -1: none
  const float* w_value_zero;  // floats: subtracted from the values; a panel has it in
  const PieceRun* pieces;
  int32_t count;
  const float* w_scale;
  int64_t w_scale_step;  // from piece to piece: those of direct blocks may lie as the weight has them
  const float* w_float_zero;
  const int32_t* w_zero;
  const int32_t* w_sum;
  const int32_t* x_start;
  const int32_t* x_sum;
  const int32_t* x_zero;
  const float* x_float_sum;
  const float* x_scale;
  const PlaneProduct* planes;
  int32_t partial_quads;  // quads_in_16_bits(); floats: of partial sums, for engines whose order has them
  float* y;               // [row][tile][16]
  void* carry;            // the same, int32 or float
  int32_t tile_quads;     // from tile to tile of a panel whose pieces lie together
  CodesAhead ahead;
};

// One tile of 16 rows, the quads of one piece.
struct FillArgs {
  const Codes* codes;
  const CodeTables* tables;
  int64_t row;   // the first; what stands in the place of rows past the matrix does not matter
  int64_t quad;  // the first, of the codes' matrix
  int32_t quads;
  int32_t head, tail;  // columns of the first and last quad that lie outside the piece
  const float* zero;   // floats: [16], subtracted from the values
  int32_t* sum;        // integers: [16] sums over the piece
  void* out;           // of the first quad
  int64_t out_stride;  // bytes from quad to quad
  // Of GemmIsa::scaled, what the values are multiplied by: [16] a unit of quads, the units scale_stride apart. misfit:
  // set where a scale of values outside of the window is met.
  const float* scale;
  int64_t scale_stride;
  PowerWindow window;
  bool* misfit;
};

// A row of x, the columns of one piece.
struct PackArgs {
  const PlaneProduct* planes;
  const int8_t* x;
  int32_t head;  // columns of the first quad that lie outside the piece
  int32_t columns;
  void* out;           // of the first unit
  int64_t out_stride;  // bytes from unit to unit
};

// Writes x rows of a chunk to the output.
struct FinishArgs {
  const float* y;  // [rows][tiles][16]; int32 for a raw output
  int64_t rows, columns;
  int64_t y_stride;
  const float* x_scale;  // [rows]
  const float* bias;     // [columns]
  Matrix out;            // data at the first element
};

struct Engine {
  int32_t quads;   // of a panel
  int32_t x_quad;  // bytes of 4 activations
  int32_t w_quad;  // bytes of a tile's quad
  int32_t rows;
  int32_t row_unit;
  int32_t unit;
  // Of packed x that a thread takes through all weights, each panel decoded for them once: as much as stays in the
  // second cache, or more where decoding costs more than x from beyond it. 0: tasks of many rows, which go through x
  // first, while the codes of their weights stay in cache.
  int32_t resident_bytes;
  void (*panel)(int tiles, int rows, const BlockArgs& args);
  void (*direct)(int rows, const BlockArgs& args);  // kDirectTiles tiles, at most kDirectRows rows
  void (*fill)(const FillArgs& args);
  // Around the calls of `panel` of a thread; null: nothing to do.
  void (*begin)();
  void (*end)();
  // Planes: the quads of an operand of w, of `unit`; else 1. How a row of x is packed; null: its bytes as they are.
  int32_t w_quads = 1;
  void (*pack)(const PackArgs& args) = nullptr;
};

inline constexpr int kSegmentEngines = 2;

struct GemmIsa {
  const Engine* engines[kNumbers];  // by Numbers; kInt16 may be absent: sums of kInt8 never saturate; so may kPlanes
  // n codes of row r from column c, one a byte.
  void (*unpack)(const Codes& codes, int64_t r, int64_t c, int64_t n, uint8_t* out);
  // out[i] = table[codes[i]] with 256 entries; lookup32: of tables.f32.
  void (*lookup8)(const uint8_t* codes, int64_t n, const int8_t* table, int8_t* out);
  void (*lookup32)(const uint8_t* codes, int64_t n, const CodeTables& tables, float* out);
  // n numbers of `type`, contiguous, to 32 bits: floats to fp32, ints to int32; fp32 to bf16 (nearest even).
  void (*to_lanes)(const void* in, DType type, int64_t n, void* out);
  void (*to_bf16)(const float* in, int64_t n, uint16_t* out);
  // The sum of n bytes.
  int32_t (*sum8)(const int8_t* in, int64_t n);
  // n zero points of codes, a multiple of 16, to what a sum of x is multiplied by: -(offset + zero * 2^shift).
  void (*offset_zeros)(int32_t* zeros, int64_t n, int32_t offset, int shift);
  // Up to 16 rows of `cols` numbers, contiguous in a row, to out[col * out_stride + row]: floats as fp32, ints as
  // int32.
  void (*transpose)(const void* in, DType type, int64_t row_stride, int64_t rows, int64_t cols, void* out,
                    int64_t out_stride);
  void (*finish)(const FinishArgs& args);
  PlaneProduct planes;  // with an engine of kPlanes: what it is for
  // Where every segment is one piece of at most Engine::unit quads, by ascending unit: in the place of kInt8, with both
  // operands as bf16, and of kBF16. The same bits; may be absent.
  const Engine* segments[2][kSegmentEngines] = {};
  // Where scales_are_powers() and segments are of at most Engine::unit quads: operands of bf16 that hold the scaled
  // values, in the place of kInt8 and of kBF16. The same bits; may be absent.
  const Engine* scaled[2] = {};
};

// The GEMM of ref/gemm_args.h.
// *scaled: whether the operands held the scales (gemm_powers.h).
Status blocked_gemm(const GemmArgs& args, const GemmIsa& isa, const Parallel& parallel, bool* scaled);

}  // namespace lowbit::cpu
