// Which element of a matrix each lane of a warp holds in each register of an mma.sync fragment: PTX ISA 9.0, 9.7.14.5
// (figures of mma.m8n8k4 to mma.m16n8k256), stated once. Group = lane / 4, thread = lane % 4 in the words of the ISA.
//
// All types share one map: a register is 8 rows of 16 bytes (f64: 8 rows of 4 doubles), row lane / 4, and each thread
// of a group holds the next 4 (8) bytes of its row. What differs is only how many elements ("parts") those bytes are.
// For A, registers go down 8 rows first, then on by 16 bytes of k; B is stored by columns, so that its rows are n.
#pragma once

namespace emu::layout {

struct Cell {
  int row, col;
};

// A, m x k: row of m, col of k. `parts`: elements of one register (f64: 1).
constexpr Cell a_cell(int m, int parts, int lane, int reg, int part) {
  const int down = m == 16 ? reg % 2 : 0;
  const int along = m == 16 ? reg / 2 : reg;
  return {lane / 4 + 8 * down, 4 * parts * along + parts * (lane % 4) + part};
}

// B, k x n with n = 8: row of k, col of n.
constexpr Cell b_cell(int parts, int lane, int reg, int part) {
  return {4 * parts * reg + parts * (lane % 4) + part, lane / 4};
}

// C and D, m x 8, one element a register (s32, f32, f64).
constexpr Cell c_cell(int lane, int reg) { return {lane / 4 + 8 * (reg / 2), 2 * (lane % 4) + reg % 2}; }
// C and D of f16: two elements a register.
constexpr Cell c_half_cell(int lane, int reg, int part) { return {lane / 4 + 8 * reg, 2 * (lane % 4) + part}; }

// Block scales (9.7.14.5, figures of .block_scale): the lane that gives the scales of a row of A or a column of B. They
// are the bytes byte_id, byte_id + 1, ... of its register, one for each block of k.
constexpr int scale_a_lane(int row, int thread_id) { return 4 * (row % 8) + 2 * thread_id + row / 8; }
constexpr int scale_b_lane(int col, int thread_id) { return 4 * col + thread_id; }

// That a register is 8 rows of 16 contiguous bytes, which the unpacking relies on.
constexpr bool rows_are_contiguous(int m, int parts, int registers) {
  for (int reg = 0; reg < registers; ++reg) {
    for (int at = 0; at < 32 * parts; ++at) {
      const int lane = at / parts, part = at % parts;
      const int in_row = at % (4 * parts), row = at / (4 * parts);
      const Cell a = a_cell(m, parts, lane, reg, part);
      const int down = m == 16 ? reg % 2 : 0, along = m == 16 ? reg / 2 : reg;
      if (a.row != row + 8 * down || a.col != 4 * parts * along + in_row) return false;
      const Cell b = b_cell(parts, lane, reg, part);
      if (b.col != row || b.row != 4 * parts * reg + in_row) return false;
    }
  }
  return true;
}
static_assert(rows_are_contiguous(16, 1, 8) && rows_are_contiguous(16, 2, 4) && rows_are_contiguous(16, 4, 4));
static_assert(rows_are_contiguous(8, 4, 1) && rows_are_contiguous(8, 8, 1) && rows_are_contiguous(16, 8, 4));
static_assert(rows_are_contiguous(8, 32, 1) && rows_are_contiguous(16, 32, 4));

}  // namespace emu::layout
