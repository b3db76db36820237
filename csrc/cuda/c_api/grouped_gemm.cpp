// dequant_gemm_input_grad, grouped_gemm and its gradient over device pointers.
#include "cuda/grouped_gemm.h"

#include "cuda/c_api/gemm_args.h"
#include "cuda/input_grad.h"

using namespace lowbit;

extern "C" LOWBIT_EXPORT int lowbit_cuda_dequant_gemm_input_grad(const cuda::CGrouped* c, const cuda::CCall* call,
                                                                 char* error, int64_t size) {
  cuda::GemmOperands a;
  Status status = a.read("dequant_gemm_input_grad", c->gemm);
  if (status.ok()) status = cuda::dequant_gemm_input_grad(a.args, call->call());
  return cuda::answer(status, error, size);
}

extern "C" LOWBIT_EXPORT int64_t lowbit_cuda_grouped_gemm_workspace(const cuda::CGrouped* c) {
  cuda::GemmOperands a;
  cuda::Device device;
  const Status status = a.read("grouped_gemm", c->gemm);
  return status.ok() && cuda::current_device("grouped_gemm", &device).ok()
             ? cuda::grouped_gemm_workspace(a.args, c->rows(), device)
             : 0;
}

extern "C" LOWBIT_EXPORT int lowbit_cuda_grouped_gemm(const cuda::CGrouped* c, const cuda::CCall* call, char* error,
                                                      int64_t size) {
  cuda::GemmOperands a;
  Status status = a.read("grouped_gemm", c->gemm);
  if (status.ok()) status = cuda::grouped_gemm(a.args, c->rows(), call->call());
  return cuda::answer(status, error, size);
}

extern "C" LOWBIT_EXPORT int lowbit_cuda_grouped_gemm_input_grad(const cuda::CGrouped* c, const cuda::CCall* call,
                                                                 char* error, int64_t size) {
  cuda::GemmOperands a;
  Status status = a.read("grouped_gemm_input_grad", c->gemm);
  if (status.ok()) status = cuda::grouped_gemm_input_grad(a.args, c->rows(), call->call());
  return cuda::answer(status, error, size);
}
