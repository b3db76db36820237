// What the GEMM engines of an instruction set share (see cpu/gemm_driver.h for the meaning of each).
#pragma once

#include "cpu/gemm_driver.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {

// Columns [c, c + n) of row r of a matrix in any layout, one code a byte.
void unpack(const Codes& codes, int64_t r, int64_t c, int64_t n, uint8_t* out);

// The raw codes of 16 rows and `quads` quads from quad `quad` in the order of tile16 tiles, 64 bytes a quad; codes of
// any layout but tile16. Rows past the matrix repeat the last, or are 0 (mma64).
void unpack_quads(const Codes& codes, int64_t row, int64_t quad, int32_t quads, uint8_t* out);

// What this instruction set and processor bring to a GEMM of `rows` rows of x.
cpu::GemmIsa gemm_isa(int64_t rows);

// Everything of it but the engines.
extern const cpu::GemmIsa kGemmRows;

extern const cpu::Engine kInt8Engine;
extern const cpu::Engine kF32Engine;

}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
