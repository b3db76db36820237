// Low-bit weights times 32/16-bit activations. Arithmetic: the float path of gemm_args.h.
#pragma once

#include "ref/gemm_args.h"

namespace lowbit::ref {

Status dequant_gemm(const GemmArgs& args, const Parallel& parallel);

// dX = dY W: args.x is dY [M, N], args.out [M, K]. fp32 accumulation over n ascending.
Status dequant_gemm_input_grad(const GemmArgs& args, const Parallel& parallel);
}  // namespace lowbit::ref
