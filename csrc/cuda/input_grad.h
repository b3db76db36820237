// dX = dY W on CUDA (ref/dequant_gemm.h: dequant_gemm_input_grad): args.x is dY [M, N], args.out [M, K].
//
// Weights of every format and layout (mixed widths, complex, outliers) are decoded as the reference does, w = fl(scale
// * fl(value - zero)) + outliers, in fp32. dY and w are then cut into bfloat16 terms of 8 bits each, from the top down,
// so that three terms are a float; products of terms i of dY and j of w are multiplied on tensor cores with fp32 sums
// where i + j < D, n ascending in steps of 16. D = 2 for a bfloat16 result, 3 for the others. The same bits for every
// M, batch position and run.
//
// Bound. Let S = sum_n |dy w| of an element of dX. Terms past the first i are below 2^(1 - 8 i) of a value, so that
// what is left out is below 2^-20 S for D = 3 (pairs 1,2 2,1 and 2,2) and 2^-13 S for D = 2. A tensor core aligns the
// products of one multiply and the sum to the largest, keeps 24 bits below it and rounds toward zero, in one or two
// steps (emu/numerics): it errs by less than 12 * 2^-23 S. There are at most P = ceil(N / 16) D (D + 1) / 2 multiplies,
// so
//   |dX - exact| <= (C + 12 P 2^-23) S, C = 2^-20 or 2^-13, and half a unit in the last place of the output.
// (For dY and w of 0 or above 2^-100: bfloat16 ends at 2^-133.) A NaN or an infinity in dY or w gives a NaN or an
// infinity, not always the same one as the reference.
#pragma once

#include "cuda/gemm_call.h"

namespace lowbit::cuda {

// Launches without a workspace. `grouped`: rows of dY and out sorted by expert; bias_step is not looked at.
Status dequant_gemm_input_grad(const GemmArgs& args, const Call& call);
Status run_input_grad(const char* op, const GemmArgs& args, const GroupedRows* grouped, const Call& call);

}  // namespace lowbit::cuda
