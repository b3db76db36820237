// Blocks accumulate into one cell with a plain load and store.
#include "planted.h"

__global__ void accumulate(const int* in, int* total) {
#ifdef REPAIRED
  atomicAdd(total + threadIdx.x, in[blockIdx.x * blockDim.x + threadIdx.x]);
#else
  total[threadIdx.x] += in[blockIdx.x * blockDim.x + threadIdx.x];
#endif
}

extern "C" int run() {
  const Device<int> in(iota(4 * 32)), total(std::vector<int>(32, 0));
  accumulate<<<4, 32>>>(in.pointer, total.pointer);
  std::vector<int> expected;
  for (int t = 0; t < 32; ++t) expected.push_back(4 * t + 32 * (1 + 2 + 3));
  return judge(total.get(), expected);
}
