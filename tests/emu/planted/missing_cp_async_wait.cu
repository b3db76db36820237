// An asynchronous copy to shared memory is committed but not waited for: the barrier alone does not complete it.
#include <cuda_pipeline.h>

#include "planted.h"

constexpr int kThreads = 64;

__global__ void stage(const int4* in, int4* out) {
  __shared__ int4 tile[kThreads];
  __pipeline_memcpy_async(&tile[threadIdx.x], &in[threadIdx.x], sizeof(int4));
  __pipeline_commit();
#ifdef REPAIRED
  __pipeline_wait_prior(0);
#endif
  __syncthreads();
  out[threadIdx.x] = tile[kThreads - 1 - threadIdx.x];
}

extern "C" int run() {
  const Device<int> in(iota(kThreads * 4)), out(kThreads * 4);
  stage<<<1, kThreads>>>(reinterpret_cast<const int4*>(in.pointer), reinterpret_cast<int4*>(out.pointer));
  std::vector<int> expected;
  for (int i = 0; i < kThreads * 4; ++i) expected.push_back((kThreads - 1 - i / 4) * 4 + i % 4);
  return judge(out.get(), expected);
}
