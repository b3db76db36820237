// The arguments of the GEMM entry points: flat mirrors of GemmArgs and GroupedRows.
#pragma once

#include "cuda/c_api/operands.h"
#include "cuda/gemm_call.h"

namespace lowbit::cuda {

struct CGemm {
  CMatrix x;             // dY for gradients; null data: codes
  const CQuantized* xq;  // or null
  CQuantized w;          // grouped: of the first expert
  int64_t m, n, k;
  const void* bias;
  int64_t bias_dtype;
  CMatrix out;
};

struct CGrouped {
  CGemm gemm;
  const int32_t* offs;
  int64_t experts, w_step, w_scale_step, w_second_step, w_zero_step, bias_step;

  GroupedRows rows() const {
    return {offs, static_cast<int32_t>(experts), w_step, w_scale_step, w_second_step, w_zero_step, bias_step};
  }
};

struct GemmOperands {
  Quantized x, w;
  GemmArgs args;

  Status read(const char* op, const CGemm& c) {
    LOWBIT_RETURN_IF_ERROR(w.read(op, c.w));
    if (c.xq != nullptr) {
      LOWBIT_RETURN_IF_ERROR(x.read(op, *c.xq));
      args.xq = &x.matrix;
    }
    args.x = c.x.matrix();
    args.w = w.matrix;
    args.m = c.m, args.n = c.n, args.k = c.k;
    args.bias = c.bias, args.bias_dtype = static_cast<DType>(c.bias_dtype);
    args.out = c.out.matrix();
    return Status();
  }
};

}  // namespace lowbit::cuda
