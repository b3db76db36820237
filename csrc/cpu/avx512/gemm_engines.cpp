#include "cpu/simd/gemm_engines.h"

#include "cpu/avx512/bf16_gemm.h"
#include "cpu/dispatch.h"

namespace lowbit::avx512 {

cpu::GemmIsa gemm_isa(int64_t) {
  cpu::GemmIsa isa = kGemmRows;
  isa.engines[static_cast<int>(cpu::Numbers::kInt8)] = &kInt8Engine;
  isa.engines[static_cast<int>(cpu::Numbers::kBF16)] = cpu::bf16_dot_is_fast() ? &kBF16Engine : &kBF16FmaEngine;
  isa.engines[static_cast<int>(cpu::Numbers::kF32)] = &kF32Engine;
  return isa;
}

}  // namespace lowbit::avx512
