// The host reads a result where it lies, on the device.
#include "planted.h"

__global__ void answer(int* out) { out[threadIdx.x] = 42; }

extern "C" int run() {
  const Device<int> out(32);
  answer<<<1, 32>>>(out.pointer);
#ifdef REPAIRED
  const int first = out.get()[0];
#else
  const int first = *static_cast<volatile int*>(out.pointer);
#endif
  return judge(std::vector<int>(1, first), std::vector<int>(1, 42));
}
