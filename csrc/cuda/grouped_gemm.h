// Many experts in one launch on CUDA: rows of x (dY) and out sorted by expert, `offs` their ends in device memory, as
// in torch._grouped_mm. args.w, scales, zero points and bias are those of the first expert, the others lie the steps of
// GroupedRows further on; args.m is the number of all rows. Each row is the bits of that expert's own product
// (dequant_gemm, scaled_gemm: the integer or the float path of ref/gemm_args.h; pairs of MX and NV formats on sm_12x as
// cuda/scaled_gemm.h says).
//
// The rows of an expert are found on the device, so that nothing waits for offs: it is not checked. It must ascend and
// end at or below args.m; rows past the last end are not written.
#pragma once

#include "cuda/gemm_call.h"

namespace lowbit::cuda {

// The workspace is none but where integers under one scale are more columns than an int32 sum holds (cuda/gemm.h).
int64_t grouped_gemm_workspace(const GemmArgs& args, const GroupedRows& grouped, const Device& device);
Status grouped_gemm(const GemmArgs& args, const GroupedRows& grouped, const Call& call);
// args as of dequant_gemm_input_grad (cuda/input_grad.h).
Status grouped_gemm_input_grad(const GemmArgs& args, const GroupedRows& grouped, const Call& call);

}  // namespace lowbit::cuda
