// The plan of the binary engine, for tests without a device.
#include "cuda/binary_gemm.h"

#include "cuda/c_api/entry.h"

using namespace lowbit;

extern "C" LOWBIT_EXPORT void lowbit_cuda_binary_plan(int64_t m, int64_t n, int64_t k, int planes, int64_t segment,
                                                      int multiprocessors, cuda::BinaryPlan* plan) {
  *plan = cuda::plan_binary_gemm(m, n, k, planes, segment, multiprocessors);
}
