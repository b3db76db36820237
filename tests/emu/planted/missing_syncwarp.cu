// Lanes of one warp hand values to each other through shared memory and trust that they run in lockstep.
#include "planted.h"

__global__ void rotate(const int* in, int* out) {
  __shared__ int tile[2][32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  tile[warp][lane] = in[threadIdx.x];
#ifdef REPAIRED
  __syncwarp();
#endif
  out[threadIdx.x] = tile[warp][(lane + 1) % 32];
}

extern "C" int run() {
  const Device<int> in(iota(64)), out(64);
  rotate<<<1, 64>>>(in.pointer, out.pointer);
  std::vector<int> expected;
  for (int i = 0; i < 64; ++i) expected.push_back(i / 32 * 32 + (i + 1) % 32);
  return judge(out.get(), expected);
}
