// Rows of x, packed in the order in which the tasks of a superblock read them: K block by K block, in quads.
#pragma once

#include "cpu/gemm_call.h"

namespace lowbit::cpu {

// Rows [row, row + rows) of a superblock, packed.
struct PackedRows {
  char* x;
  int32_t* start;  // [block][piece][Engine::rows]
  int32_t* sum;
  int32_t* zero;
  float* float_sum;
  float* scale;
  float* row_scale;  // [rows]
  Powers* powers;    // [block], where scales are part of x
};

inline int64_t blocks_of(const Engine& engine, int64_t rows) { return ceil_div(rows, engine.rows); }
// Rows that a block or a superblock of `rows` takes. Divides by nothing where it need not: it is asked for every K
// block.
inline int64_t packed_rows(const Engine& engine, int64_t rows) {
  return engine.row_unit == 1 ? rows : round_up(rows, engine.row_unit);
}
inline int64_t block_row(const Engine& engine, int64_t block, int64_t blocks, int64_t rows) {
  if (block == 0 || block == blocks) return block == 0 ? 0 : rows;
  if (engine.row_unit == 1) return block * rows / blocks;
  return block * ceil_div(rows, engine.row_unit) / blocks * engine.row_unit;
}

// Where the block of x that starts at row `begin` of `rows` lies, in quads: K block by K block, so that a task reads
// the rows of one as one stream.
inline int64_t packed_at(const Engine& engine, const KBlock& b, int64_t begin, int64_t rows) {
  return b.quad * packed_rows(engine, rows) + begin * b.quads;
}

// Where the values of block `block` of `blocks` of x lie for the pieces of K block b: in the same order.
inline int64_t values_at(const Engine& engine, const KBlock& b, int64_t block, int64_t blocks) {
  return (b.piece * blocks + block * b.pieces) * engine.rows;
}

PackedRows carve_rows(const Call& call, int64_t rows, Carver* carver);

// Bytes for a row: its codes, floats, numbers and scales.
inline int64_t pack_scratch(const Call& call) { return 11 * call.args.k + 320; }

// Packs block `block` of `blocks` of the superblock of `rows` rows at m0. `scratch`: pack_scratch() bytes.
void pack_block(const Call& call, int64_t m0, int64_t block, int64_t blocks, int64_t rows, const PackedRows& out,
                char* scratch);

}  // namespace lowbit::cpu
