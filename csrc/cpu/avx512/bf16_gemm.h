// The engines of numbers that are exact in bf16.
#pragma once

#include "cpu/gemm_driver.h"

namespace lowbit::avx512 {

extern const cpu::Engine kBF16Engine;
extern const cpu::Engine kBF16FmaEngine;   // the bits of kBF16Engine, denormals apart, by FMA in fp32
extern const cpu::Engine kBF16StepEngine;  // the bits of tdpbf16ps by FMA in fp32

// tdpbf16ps reads denormals as zeros and flushes results to them. Between these two calls the thread's vector
// instructions do too: around all of a product, joins included, so that its bits do not depend on the rows of x.
void flush_denormals();
void keep_denormals();

}  // namespace lowbit::avx512
