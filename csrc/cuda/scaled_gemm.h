// Both operands low-bit with block scales on CUDA (ref/scaled_gemm.h), by the tensor-core GEMM of cuda/gemm.h.
//
// On sm_12x, pairs of MXFP8, MXFP6, MXFP4 and NVFP4 are multiplied together with the scales of their blocks, by
// mma.sync .block_scale on sums of 128 columns. So there MXFP4, NVFP4 and MXFP6 E2M3 pairs, which have the CPU's bits
// elsewhere (the integer path of ref/gemm_args.h), are fp32 sums within the bound of the float path. Whoever needs the
// bits calls bitplane_gemm with the same arguments: it never takes that engine.
#pragma once

#include "cuda/launch.h"
#include "ref/gemm_args.h"

namespace lowbit::cuda {

int64_t scaled_gemm_workspace(const GemmArgs& args, const Device& device);
Status scaled_gemm(const GemmArgs& args, const Call& call);

}  // namespace lowbit::cuda
