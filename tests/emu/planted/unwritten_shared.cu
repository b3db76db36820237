// A reduction over a power of two of elements whose tail nobody has cleared.
#include "planted.h"

constexpr int kThreads = 64, kCount = 50;

__global__ void sum(const int* in, int* out) {
  __shared__ int tile[kThreads];
  if (threadIdx.x < kCount) tile[threadIdx.x] = in[threadIdx.x];
#ifdef REPAIRED
  else
    tile[threadIdx.x] = 0;
#endif
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (static_cast<int>(threadIdx.x) < half) tile[threadIdx.x] += tile[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x == 0) *out = tile[0];
}

extern "C" int run() {
  const Device<int> in(iota(kCount)), out(1);
  sum<<<1, kThreads>>>(in.pointer, out.pointer);
  return judge(out.get(), std::vector<int>(1, kCount * (kCount - 1) / 2));
}
