// The engines of AMX, and what it takes from AVX-512.
#pragma once

#include "cpu/gemm_driver.h"

namespace lowbit::avx512 {

cpu::GemmIsa gemm_isa(int64_t rows);
extern const cpu::Engine kInt8Engine;
extern const cpu::Engine kBF16Engine;
extern const cpu::Engine kBF16StepEngine;

}  // namespace lowbit::avx512

namespace lowbit::amx {

extern const cpu::Engine kInt8Engine;
extern const cpu::Engine kBF16Engine;

// For segments of at most 16 and 32 columns: of integers, and of floats with denormals flushed.
extern const cpu::Engine kIntegerSegmentEngines[2];
extern const cpu::Engine kFloatSegmentEngines[2];

// For scales that are powers of two: of integers, and of floats with denormals flushed.
extern const cpu::Engine kScaledEngines[2];

}  // namespace lowbit::amx
