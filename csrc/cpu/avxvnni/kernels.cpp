// The entries of the kernel table that differ from those of AVX2: products of integers.
#include "cpu/simd/kernels.h"

#include "cpu/simd/gemm.h"

namespace lowbit::avxvnni {

void override_kernels(cpu::Kernels* table) {
  avx2::override_kernels(table);
  table->bitplane_gemm = bitplane_gemm;
  table->dequant_gemm = dequant_gemm;
  table->scaled_gemm = scaled_gemm;
}

}  // namespace lowbit::avxvnni
