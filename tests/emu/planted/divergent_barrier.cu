// Half of a warp waits at one barrier, the other half at another: neither is reached by all.
#include "planted.h"

constexpr int kThreads = 64;

__global__ void halves(const int* in, int* out) {
  __shared__ int tile[kThreads];
  const int t = threadIdx.x;
#ifdef REPAIRED
  tile[t] = t % 32 < 16 ? in[t] : in[t] * 2;
  __syncthreads();
#else
  if (t % 32 < 16) {
    tile[t] = in[t];
    __syncthreads();
    out[t] = 1;
  } else {
    tile[t] = in[t] * 2;
    __syncthreads();
    out[t] = 2;
  }
#endif
  out[t] = tile[kThreads - 1 - t];
}

extern "C" int run() {
  const Device<int> in(iota(kThreads)), out(kThreads);
  halves<<<1, kThreads>>>(in.pointer, out.pointer);
  std::vector<int> expected;
  for (int t = kThreads - 1; t >= 0; --t) expected.push_back(t % 32 < 16 ? t : t * 2);
  return judge(out.get(), expected);
}
