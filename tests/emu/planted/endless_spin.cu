// A consumer waits for a flag that nobody raises.
#include "planted.h"

__global__ void wait(unsigned* flag, int* out) {
  if (blockIdx.x == 0) {
    if (threadIdx.x == 0) {
      while (atomicAdd(flag, 0u) == 0u) {
      }
      out[0] = 1;
    }
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
  const Device<int> out(std::vector<int>(1, 0));
  wait<<<2, 32>>>(flag.pointer, out.pointer);
  return judge(out.get(), std::vector<int>(1, 1));
}
