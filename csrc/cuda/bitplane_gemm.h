// Codes times codes on CUDA (ref/bitplane_gemm.h), by the tensor-core GEMM of cuda/gemm.h.
#pragma once

#include "cuda/launch.h"
#include "ref/gemm_args.h"

namespace lowbit::cuda {

int64_t bitplane_gemm_workspace(const GemmArgs& args, const Device& device);
Status bitplane_gemm(const GemmArgs& args, const Call& call);

}  // namespace lowbit::cuda
