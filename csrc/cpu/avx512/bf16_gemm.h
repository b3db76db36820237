// The engines of numbers that are exact in bf16.
#pragma once

#include "cpu/gemm_driver.h"

namespace lowbit::avx512 {

extern const cpu::Engine kBF16Engine;
extern const cpu::Engine kBF16FmaEngine;   // the bits of kBF16Engine, denormals apart, by FMA in fp32
extern const cpu::Engine kBF16StepEngine;  // the bits of tdpbf16ps, denormals apart, by FMA in fp32

}  // namespace lowbit::avx512
