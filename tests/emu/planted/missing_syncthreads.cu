// A block reverses its elements through shared memory without the barrier between writing and reading.
#include "planted.h"

constexpr int kThreads = 128, kBlocks = 3;

__global__ void reverse(const int* in, int* out) {
  __shared__ int tile[kThreads];
  tile[threadIdx.x] = in[blockIdx.x * kThreads + threadIdx.x];
#ifdef REPAIRED
  __syncthreads();
#endif
  out[blockIdx.x * kThreads + threadIdx.x] = tile[kThreads - 1 - threadIdx.x];
}

extern "C" int run() {
  const int n = kThreads * kBlocks;
  const Device<int> in(iota(n)), out(n);
  reverse<<<kBlocks, kThreads>>>(in.pointer, out.pointer);
  std::vector<int> expected;
  for (int i = 0; i < n; ++i) expected.push_back(i / kThreads * kThreads + kThreads - 1 - i % kThreads);
  return judge(out.get(), expected);
}
