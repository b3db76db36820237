// A vector of four is loaded from an address that is a multiple of four bytes only.
#include "planted.h"

__global__ void load(const int* in, int4* out) {
#ifdef REPAIRED
  const int offset = 4;
#else
  const int offset = 1;
#endif
  out[threadIdx.x] = *reinterpret_cast<const int4*>(in + offset + 4 * threadIdx.x);
}

extern "C" int run() {
  const Device<int> in(iota(32 * 4 + 8)), out(32 * 4);
  load<<<1, 32>>>(in.pointer, reinterpret_cast<int4*>(out.pointer));
  std::vector<int> expected;
  for (int i = 0; i < 32 * 4; ++i) expected.push_back(i + 4);
  return judge(out.get(), expected);
}
