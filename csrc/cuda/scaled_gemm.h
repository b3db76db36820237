// Both operands low-bit with block scales on CUDA (ref/scaled_gemm.h), by the tensor-core GEMM of cuda/gemm.h.
#pragma once

#include "cuda/launch.h"
#include "ref/gemm_args.h"

namespace lowbit::cuda {

int64_t scaled_gemm_workspace(const GemmArgs& args, const Device& device);
Status scaled_gemm(const GemmArgs& args, const Call& call);

}  // namespace lowbit::cuda
