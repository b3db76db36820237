#include "cpu/simd/kernels.h"

#include "cpu/simd/gemm.h"
#include "cpu/simd/hadamard.h"
#include "cpu/simd/pack.h"
#include "cpu/simd/quantize.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {

void override_kernels(cpu::Kernels* table) {
  table->pack = pack;
  table->unpack = unpack;
  table->prepack = prepack;
  table->unprepack = unprepack;
  table->pack_order = pack_order;
  table->unpack_order = unpack_order;
  table->hadamard = hadamard;
  table->quantize = quantize;
  table->dequantize = dequantize;
  table->stochastic_round = stochastic_round;
  table->stochastic_round_update = stochastic_round_update;
  table->bitplane_gemm = bitplane_gemm;
  table->dequant_gemm = dequant_gemm;
  table->scaled_gemm = scaled_gemm;
}

}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
