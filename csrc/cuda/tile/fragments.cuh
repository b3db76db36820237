// The operand maps of mma.sync m16n8 in registers: which element register `i` of lane `l` holds. `kPer` is the number
// of elements in a 32-bit register (2 for 16-bit, 4 for 8-bit, 8 for 4-bit, 32 for 1-bit types; 1 for tf32), so that K
// = 8 * kPer. With ldmatrix a row of 8 x 16 bytes is 32 bits of four lanes, whatever their type: the same function
// loads every one of these operands.
//
//   A  16 x K  a[i], i = 0..3: row l / 4 + 8 (i % 2), columns kPer (l % 4 + 4 (i / 2)) .. + kPer - 1
//   B  K x 8   b[i], i = 0..1: column l / 4, rows kPer (l % 4 + 4 i) .. + kPer - 1
//   C  16 x 8  c[i], i = 0..3: row l / 4 + 8 (i / 2), column 2 (l % 4) + i % 2
#pragma once

#include <cstdint>

namespace lowbit::cuda {

// The row and the 16-byte column of a tile that lane `l` names to ldmatrix.x4, so that the four registers are those of
// A (a 16 x 32-byte tile), or of two B side by side (their 16 rows of n, 32 bytes of k).
struct Chunk {
  int row;
  int chunk;
};
constexpr __host__ __device__ Chunk a_chunk(int lane) { return {lane % 16, lane / 16}; }
constexpr __host__ __device__ Chunk b_chunk(int lane) { return {lane % 8 + lane / 16 * 8, lane / 8 % 2}; }

}  // namespace lowbit::cuda
