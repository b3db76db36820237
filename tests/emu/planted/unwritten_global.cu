// The histogram adds to counters that were allocated but not cleared.
#include "planted.h"

__global__ void count(const int* in, int* bins) { bins[threadIdx.x] = bins[threadIdx.x] + in[threadIdx.x]; }

extern "C" int run() {
  const Device<int> in(iota(32)), bins(32);
#ifdef REPAIRED
  cudaMemset(bins.pointer, 0, 32 * sizeof(int));
#endif
  count<<<1, 32>>>(in.pointer, bins.pointer);
  return judge(bins.get(), iota(32));
}
