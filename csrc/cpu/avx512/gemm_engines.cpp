#include "cpu/simd/gemm_engines.h"

#include "cpu/avx512/bf16_gemm.h"
#include "cpu/dispatch.h"

namespace lowbit::avx512 {

void choose_engines(const cpu::Engine* (&engines)[cpu::kNumbers]) {
  engines[static_cast<int>(cpu::Numbers::kInt8)] = &kInt8Engine;
  engines[static_cast<int>(cpu::Numbers::kBF16)] = cpu::bf16_dot_is_fast() ? &kBF16Engine : &kBF16FmaEngine;
  engines[static_cast<int>(cpu::Numbers::kF32)] = &kF32Engine;
}

}  // namespace lowbit::avx512
