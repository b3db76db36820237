// Differences of neighbours: the last thread reads one element behind the array.
#include "planted.h"

__global__ void differences(const int* in, int* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
#ifdef REPAIRED
  if (i < n - 1) out[i] = in[i + 1] - in[i];
#else
  if (i < n) out[i] = in[i + 1] - in[i];
#endif
}

extern "C" int run() {
  const int n = 96;
  const Device<int> in(iota(n)), out(std::vector<int>(n, 1));
  differences<<<3, 32>>>(in.pointer, out.pointer, n);
  return judge(out.get(), std::vector<int>(n, 1));
}
