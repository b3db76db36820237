// A pipeline of two stages refills the one just read before all warps are done with it.
#include <cuda_pipeline.h>

#include "planted.h"

constexpr int kThreads = 128, kSteps = 6, kStages = 2;

__global__ void pipeline(const int4* in, int* out) {
  __shared__ int4 stages[kStages][kThreads];
  const int t = threadIdx.x;
  for (int s = 0; s < kStages; ++s) {
    __pipeline_memcpy_async(&stages[s][t], &in[s * kThreads + t], sizeof(int4));
    __pipeline_commit();
  }
  int sum = 0;
  for (int step = 0; step < kSteps; ++step) {
    __pipeline_wait_prior(kStages - 1);
    __syncthreads();
    const int4 v = stages[step % kStages][(t + 37) % kThreads];
    sum += v.x + v.y + v.z + v.w;
#ifdef REPAIRED
    __syncthreads();
#endif
    if (step + kStages < kSteps) {
      __pipeline_memcpy_async(&stages[step % kStages][t], &in[(step + kStages) * kThreads + t], sizeof(int4));
    }
    __pipeline_commit();
  }
  out[t] = sum;
}

extern "C" int run() {
  const Device<int> in(iota(kThreads * kSteps * 4)), out(kThreads);
  pipeline<<<1, kThreads>>>(reinterpret_cast<const int4*>(in.pointer), out.pointer);
  std::vector<int> expected(kThreads, 0);
  for (int t = 0; t < kThreads; ++t) {
    for (int step = 0; step < kSteps; ++step) {
      for (int i = 0; i < 4; ++i) expected[t] += (step * kThreads + (t + 37) % kThreads) * 4 + i;
    }
  }
  return judge(out.get(), expected);
}
