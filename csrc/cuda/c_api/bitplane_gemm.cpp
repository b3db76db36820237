// The table of bitplane_gemm's engines, for tests without a device.
#include "cuda/bitplane_gemm.h"

#include "cuda/c_api/entry.h"

// 0: planes on the binary tensor cores, 1: bytes on those of int8.
extern "C" LOWBIT_EXPORT int lowbit_cuda_bitplane_engine(int sm, int p, int q, int64_t m) {
  return static_cast<int>(lowbit::cuda::bitplane_engine(sm, p, q, m));
}
