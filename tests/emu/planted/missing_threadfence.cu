// Split-K: every block leaves a partial sum, the last one to arrive adds them up. Without the fence the counter may be
// seen before the sum that it announces.
#include "planted.h"

constexpr int kThreads = 64, kSplits = 5;

__global__ void split_k(const int* in, int* partial, unsigned* arrived, int* out) {
  __shared__ bool last;
  partial[blockIdx.x * kThreads + threadIdx.x] = in[blockIdx.x * kThreads + threadIdx.x] * 3;
#ifdef REPAIRED
  __threadfence();
#endif
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(arrived, 1u) == gridDim.x - 1;
  __syncthreads();
  if (!last) return;
#ifdef REPAIRED
  __threadfence();
#endif
  int sum = 0;
  for (int s = 0; s < static_cast<int>(gridDim.x); ++s) sum += partial[s * kThreads + threadIdx.x];
  out[threadIdx.x] = sum;
}

extern "C" int run() {
  const Device<int> in(iota(kThreads * kSplits)), partial(kThreads * kSplits), out(kThreads);
  const Device<unsigned> arrived(std::vector<unsigned>(1, 0));
  split_k<<<kSplits, kThreads>>>(in.pointer, partial.pointer, arrived.pointer, out.pointer);
  std::vector<int> expected(kThreads, 0);
  for (int t = 0; t < kThreads; ++t) {
    for (int s = 0; s < kSplits; ++s) expected[t] += (s * kThreads + t) * 3;
  }
  return judge(out.get(), expected);
}
