// Low-bit weights times 16/32-bit activations on CUDA (ref/dequant_gemm.h), by the tensor-core GEMM of cuda/gemm.h.
#pragma once

#include "cuda/launch.h"
#include "ref/gemm_args.h"

namespace lowbit::cuda {

int64_t dequant_gemm_workspace(const GemmArgs& args, const Device& device);
Status dequant_gemm(const GemmArgs& args, const Call& call);

}  // namespace lowbit::cuda
