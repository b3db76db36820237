// What the decoder of mma.sync leaves for the handlers.
#pragma once

#include <cstdint>

#include "emu/exec/program.h"
#include "emu/exec/warp.h"
#include "emu/numerics/element.h"
#include "emu/numerics/tensor_core.h"

namespace emu {

struct MmaPlan {
  int m = 16, k = 0;
  int registers_a = 0, registers_b = 0, registers_c = 0;  // d as c; sources are a, b, c, then the scales
  // integers
  int bits = 0;  // of an element: 1, 4, 8
  bool signed_a = false, signed_b = false, saturate = false, exclusive_or = false;
  // floating point
  MmaOperand operand = MmaOperand::kF16;
  const Element* a = nullptr;
  const Element* b = nullptr;
  bool half = false;         // f16 accumulator
  bool packed_e2m1 = false;  // two elements a byte (kind::mxf4, kind::mxf4nvf4)
  int rounding = 0;          // f64: FE_TONEAREST, ...
  // block scales
  int scale_blocks = 0;      // scales along k: 1, 2, 4
  bool scale_ue4m3 = false;  // else ue8m0
};

inline const MmaPlan& plan_of(const Instr& i) { return *static_cast<const MmaPlan*>(i.plan); }

// A's registers as rows of bytes: rows[row][16 * registers along k]. B's likewise, its rows are the columns.
void gather_a(const Warp& w, const Unit* units, const MmaPlan& p, uint8_t* rows);
void gather_b(const Warp& w, const Unit* units, const MmaPlan& p, uint8_t* rows);
// 32-bit accumulators, [m][8].
void gather_c(const Warp& w, const Unit* units, int m, uint32_t* words);
void scatter_d(const Warp& w, const Unit* units, int m, const uint32_t* words);

// mma.sync has no meaning unless all 32 lanes run it: says so and returns false.
bool whole_warp(Warp& w, Mask active);

void run_mma_integer(Warp& w, const Instr& i, Mask active);
void run_mma_binary(Warp& w, const Instr& i, Mask active);
void run_mma_float(Warp& w, const Instr& i, Mask active);
void run_mma_scaled(Warp& w, const Instr& i, Mask active);
void run_mma_double(Warp& w, const Instr& i, Mask active);

// What of the result is made from memory that nobody wrote (Uninitialized::kReportAtUse); exec/mma_poison.cpp.
void propagate_mma(Warp& w, const Instr& i, Mask active);

}  // namespace emu
