#include "cpu/avx512/kernels.h"

#include "cpu/avx512/gemm.h"
#include "cpu/avx512/hadamard.h"
#include "cpu/avx512/pack.h"
#include "cpu/avx512/quantize.h"

namespace lowbit::avx512 {

void override_kernels(cpu::Kernels* table) {
  table->pack = pack;
  table->unpack = unpack;
  table->pack_order = pack_order;
  table->unpack_order = unpack_order;
  table->prepack = prepack;
  table->unprepack = unprepack;
  table->hadamard = hadamard;
  table->quantize = quantize;
  table->dequantize = dequantize;
  table->stochastic_round = stochastic_round;
  table->stochastic_round_update = stochastic_round_update;
  table->bitplane_gemm = bitplane_gemm;
  table->dequant_gemm = dequant_gemm;
  table->scaled_gemm = scaled_gemm;
}

}  // namespace lowbit::avx512
