// One GEMM a compilation: ELEMENT is the type of A and B, the other macros its accumulator, instruction and tiles.
#include "cutlass_gemm.h"

extern "C" int gemm(int m, int n, int k, const void* a, const void* b, void* d) {
  return run_gemm<ELEMENT, ACCUMULATOR, cutlass::arch::ARCH, Shape<64, 64, TILE_K>, Shape<32, 32, TILE_K>,
                  Shape<16, 8, MMA_K>, cutlass::arch::OPERATOR, STAGES>(m, n, k, a, b, d);
}
