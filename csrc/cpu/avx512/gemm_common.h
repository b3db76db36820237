// What the GEMM engines of this folder share (see cpu/gemm_driver.h for the meaning of each).
#pragma once

#include "cpu/gemm_driver.h"

namespace lowbit::avx512 {

// Columns [c, c + n) of row r of a matrix in any layout, one code a byte.
void unpack(const Codes& codes, int64_t r, int64_t c, int64_t n, uint8_t* out);

// The raw codes of 16 rows and `quads` quads from quad `quad` in the order of tile16 tiles, 64 bytes a quad; codes of
// any layout but tile16. Rows past the matrix repeat the last, or are 0 (mma64).
void unpack_quads(const Codes& codes, int64_t row, int64_t quad, int32_t quads, uint8_t* out);

extern const cpu::Engine kInt8Engine;
extern const cpu::Engine kBF16Engine;
extern const cpu::Engine kF32Engine;
extern const cpu::Engine kBF16FmaEngine;  // the bits of kBF16Engine, denormals apart, by FMA in fp32

extern const cpu::GemmIsa kGemmIsa;     // bf16 by kBF16Engine
extern const cpu::GemmIsa kGemmIsaFma;  // by kBF16FmaEngine

}  // namespace lowbit::avx512
