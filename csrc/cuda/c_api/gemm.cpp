// bitplane_gemm, dequant_gemm and scaled_gemm over device pointers.
#include "cuda/bitplane_gemm.h"
#include "cuda/c_api/operands.h"
#include "cuda/dequant_gemm.h"
#include "cuda/scaled_gemm.h"

using namespace lowbit;

namespace {

struct CGemm {
  cuda::CMatrix x;             // null data: codes
  const cuda::CQuantized* xq;  // or null
  cuda::CQuantized w;
  int64_t m, n, k;
  const void* bias;
  int64_t bias_dtype;
  cuda::CMatrix out;
};

struct Args {
  cuda::Quantized x, w;
  GemmArgs gemm;

  Status read(const char* op, const CGemm& c) {
    LOWBIT_RETURN_IF_ERROR(w.read(op, c.w));
    if (c.xq != nullptr) {
      LOWBIT_RETURN_IF_ERROR(x.read(op, *c.xq));
      gemm.xq = &x.matrix;
    }
    gemm.x = c.x.matrix();
    gemm.w = w.matrix;
    gemm.m = c.m;
    gemm.n = c.n;
    gemm.k = c.k;
    gemm.bias = c.bias;
    gemm.bias_dtype = static_cast<DType>(c.bias_dtype);
    gemm.out = c.out.matrix();
    return Status();
  }
};

using Workspace = int64_t (*)(const GemmArgs&, const cuda::Device&);
using Run = Status (*)(const GemmArgs&, const cuda::Call&);

int64_t workspace(const char* op, Workspace function, const CGemm& c) {
  Args a;
  cuda::Device device;
  const Status status = a.read(op, c);
  return status.ok() && cuda::current_device(op, &device).ok() ? function(a.gemm, device) : 0;
}

int run(const char* op, Run function, const CGemm& c, const cuda::CCall& call, char* error, int64_t size) {
  Args a;
  Status status = a.read(op, c);
  if (status.ok()) status = function(a.gemm, call.call());
  return cuda::answer(status, error, size);
}

}  // namespace

#define LOWBIT_GEMM(name)                                                                               \
  extern "C" LOWBIT_EXPORT int64_t lowbit_cuda_##name##_workspace(const CGemm* c) {                     \
    return workspace(#name, cuda::name##_workspace, *c);                                                \
  }                                                                                                     \
  extern "C" LOWBIT_EXPORT int lowbit_cuda_##name(const CGemm* c, const cuda::CCall* call, char* error, \
                                                  int64_t size) {                                       \
    return run(#name, cuda::name, *c, *call, error, size);                                              \
  }
LOWBIT_GEMM(bitplane_gemm)
LOWBIT_GEMM(dequant_gemm)
LOWBIT_GEMM(scaled_gemm)
#undef LOWBIT_GEMM
