// The threads of a block look together for a flag that nobody raises, pass two barriers each time, and count.
#include "planted.h"

__global__ void look(unsigned* flag, unsigned* looks, int* out) {
  __shared__ unsigned seen;
  if (blockIdx.x == 0) {
    unsigned raised, turns = 0;
    do {
      if (threadIdx.x == 0) seen = atomicAdd(flag, 0u);
      __syncthreads();
      raised = seen;
      ++turns;
      __syncthreads();
    } while (raised == 0u);
    looks[threadIdx.x] = turns;
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
  const Device<unsigned> flag(std::vector<unsigned>(1, 0)), looks(96);
  const Device<int> out(96);
  look<<<2, 96>>>(flag.pointer, looks.pointer, out.pointer);
  return judge(out.get(), std::vector<int>(96, 1));
}
