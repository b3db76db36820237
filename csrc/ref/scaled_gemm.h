// Both operands low-bit with block scales. Arithmetic: gemm_args.h, the integer path where both are integer codes or
// exact in int8, else the float path.
#pragma once

#include "ref/gemm_args.h"

namespace lowbit::ref {

Status scaled_gemm(const GemmArgs& args, const Parallel& parallel);

}  // namespace lowbit::ref
