// Codes times codes by bit planes: AND + popcount over the planes of both operands, weighted 2^(i + j), every p and q
// in 1..8, signed, unsigned, bipolar, ternary and complex. Arithmetic: the integer path of gemm_args.h. complex2
// weights: x is [M, 2 K] = [real | imaginary], out [M, 2 N] = [real | imaginary] of x w^T; w scale [N, G], or [2, N, G]
// with one scale for the real and one for the imaginary codes.
#pragma once

#include "ref/gemm_args.h"

namespace lowbit::ref {

Status bitplane_gemm(const GemmArgs& args, const Parallel& parallel);

}  // namespace lowbit::ref
