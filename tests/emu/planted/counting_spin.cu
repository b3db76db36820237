// A consumer waits for a flag that nobody raises, and counts how often it has looked.
#include "planted.h"

__global__ void wait(unsigned* flag, unsigned* looks, int* out) {
  if (blockIdx.x == 0) {
    if (threadIdx.x == 0) {
      unsigned turns = 1;
      while (atomicAdd(flag, 0u) == 0u) ++turns;
      *looks = turns;
      out[0] = turns > 0;
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
  const Device<unsigned> flag(std::vector<unsigned>(1, 0)), looks(1);
  const Device<int> out(std::vector<int>(1, 0));
  wait<<<2, 32>>>(flag.pointer, looks.pointer, out.pointer);
  return judge(out.get(), std::vector<int>(1, 1));
}
