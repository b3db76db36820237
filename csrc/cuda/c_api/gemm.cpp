// bitplane_gemm, dequant_gemm and scaled_gemm over device pointers.
#include "cuda/bitplane_gemm.h"
#include "cuda/c_api/gemm_args.h"
#include "cuda/dequant_gemm.h"
#include "cuda/scaled_gemm.h"

using namespace lowbit;

namespace {

using Workspace = int64_t (*)(const GemmArgs&, const cuda::Device&);
using Run = Status (*)(const GemmArgs&, const cuda::Call&);

int64_t workspace(const char* op, Workspace function, const cuda::CGemm& c) {
  cuda::GemmOperands a;
  cuda::Device device;
  const Status status = a.read(op, c);
  return status.ok() && cuda::current_device(op, &device).ok() ? function(a.args, device) : 0;
}

int run(const char* op, Run function, const cuda::CGemm& c, const cuda::CCall& call, char* error, int64_t size) {
  cuda::GemmOperands a;
  Status status = a.read(op, c);
  cuda::Call given = call.call();
  cuda::Device device;
  if (status.ok() && call.multiprocessors > 0) {
    status = cuda::current_device(op, &device);
    device.multiprocessors = static_cast<int>(call.multiprocessors);
    given.device = &device;
  }
  if (status.ok()) status = function(a.args, given);
  return cuda::answer(status, error, size);
}

}  // namespace

#define LOWBIT_GEMM(name)                                                                                     \
  extern "C" LOWBIT_EXPORT int64_t lowbit_cuda_##name##_workspace(const cuda::CGemm* c) {                     \
    return workspace(#name, cuda::name##_workspace, *c);                                                      \
  }                                                                                                           \
  extern "C" LOWBIT_EXPORT int lowbit_cuda_##name(const cuda::CGemm* c, const cuda::CCall* call, char* error, \
                                                  int64_t size) {                                             \
    return run(#name, cuda::name, *c, *call, error, size);                                                    \
  }
LOWBIT_GEMM(bitplane_gemm)
LOWBIT_GEMM(dequant_gemm)
LOWBIT_GEMM(scaled_gemm)
#undef LOWBIT_GEMM
