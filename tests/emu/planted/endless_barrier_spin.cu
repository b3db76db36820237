// The threads of a block look together for a flag that nobody raises, and pass two barriers each time.
#include "planted.h"

__global__ void look(unsigned* flag, int* out) {
  __shared__ unsigned seen;
  if (blockIdx.x == 0) {
    unsigned raised;
    do {
      if (threadIdx.x == 0) seen = atomicAdd(flag, 0u);
      __syncthreads();
      raised = seen;
      __syncthreads();
    } while (raised == 0u);
    __threadfence();
    out[threadIdx.x] = 1;
  } else if (threadIdx.x == 0) {
#ifdef REPAIRED
    atomicExch(flag, 1u);
#else
    atomicExch(flag, 0u);
#endif
  }
}

extern "C" int run() {
  const Device<unsigned> flag(std::vector<unsigned>(1, 0));
  const Device<int> out(96);
  look<<<2, 96>>>(flag.pointer, out.pointer);
  return judge(out.get(), std::vector<int>(96, 1));
}
