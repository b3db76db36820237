// dequant_gemm_input_grad, grouped_gemm and its gradient over device pointers.
#include "cuda/grouped_gemm.h"

#include "cuda/c_api/operands.h"
#include "cuda/input_grad.h"

using namespace lowbit;

namespace {

struct CGrouped {
  cuda::CMatrix x;             // dY for gradients; null data: codes
  const cuda::CQuantized* xq;  // or null
  cuda::CQuantized w;          // of the first expert
  int64_t m, n, k;
  const void* bias;
  int64_t bias_dtype;
  cuda::CMatrix out;
  const int32_t* offs;
  int64_t experts, w_step, w_scale_step, w_second_step, w_zero_step, bias_step;
};

struct Args {
  cuda::Quantized x, w;
  GemmArgs gemm;
  cuda::GroupedRows grouped;

  Status read(const char* op, const CGrouped& c) {
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
    grouped = {c.offs,     static_cast<int32_t>(c.experts), c.w_step, c.w_scale_step, c.w_second_step, c.w_zero_step,
               c.bias_step};
    return Status();
  }
};

}  // namespace

extern "C" LOWBIT_EXPORT int lowbit_cuda_dequant_gemm_input_grad(const CGrouped* c, const cuda::CCall* call,
                                                                 char* error, int64_t size) {
  Args a;
  Status status = a.read("dequant_gemm_input_grad", *c);
  if (status.ok()) status = cuda::dequant_gemm_input_grad(a.gemm, call->call());
  return cuda::answer(status, error, size);
}

extern "C" LOWBIT_EXPORT int lowbit_cuda_grouped_gemm(const CGrouped* c, const cuda::CCall* call, char* error,
                                                      int64_t size) {
  Args a;
  Status status = a.read("grouped_gemm", *c);
  if (status.ok()) status = cuda::grouped_gemm(a.gemm, a.grouped, call->call());
  return cuda::answer(status, error, size);
}

extern "C" LOWBIT_EXPORT int lowbit_cuda_grouped_gemm_input_grad(const CGrouped* c, const cuda::CCall* call,
                                                                 char* error, int64_t size) {
  Args a;
  Status status = a.read("grouped_gemm_input_grad", *c);
  if (status.ok()) status = cuda::grouped_gemm_input_grad(a.gemm, a.grouped, call->call());
  return cuda::answer(status, error, size);
}
