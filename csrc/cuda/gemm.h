// The tensor-core GEMM behind bitplane_gemm, dequant_gemm and scaled_gemm on CUDA: what ref/gemm_args.h defines.
// Integer pairs give the bits of the CPU, but where a block-scaled engine is taken (scaled_gemm.h). Float pairs: fp32
// sums of exact products of x and w cut into up to three 16-bit floats whose sum is the value (products of parts i and
// j with i + j >= 3, below 2^-20 of it in all, are left out), of at most `unit` columns of one segment, each of which
// joins by itself. So the result depends on K, the formats and the layout of w, which orders K within a multiply, and
// for any M, kernel and number of multiprocessors is the same.
//
// Either loop shares K among multiprocessors where tiles are few: parts then lie in the workspace and are joined in the
// order of K as if they had not. So are those of integers under one scale that an int32 sum does not hold.
//
// Two loops: gemm_wide.cuh for many rows of x, gemm_narrow.cuh for few. Both read w in the layout mma64 straight from
// memory to tensor cores, and any other layout, any group size, mixed widths and complex weights through registers.
// All that is chosen from the arguments stands in plan_gemm (gemm_plan.cu), which needs no device.
#pragma once

#include "cuda/gemm_call.h"
#include "cuda/tile/gemm_params.h"
#include "cuda/tile/gemm_shape.h"
#include "ref/gemm_args.h"

namespace lowbit::cuda {

// The kernels of one engine and one width of mma64 weights, integers or minifloats (0: weights of any kind and layout,
// through registers into rows).
struct GemmKernels {
  void (*wide)(GemmParams);
  void (*narrow)(GemmParams);
  int64_t (*wide_shared)(const GemmParams& p, int stages);
  int64_t (*narrow_shared)(const GemmParams& p, int stages, bool split);
};
const GemmKernels* int8_gemm_kernels(int bits, bool float_weights);  // minifloats: E2M1
const GemmKernels* bfloat16_gemm_kernels(int bits, bool float_weights);
const GemmKernels* half_gemm_kernels(int bits, bool float_weights);
const GemmKernels* float8_gemm_kernels(int bits, bool w_e5m2, bool x_e5m2);    // bits 0 or 8
const GemmKernels* int4_gemm_kernels(int bits, bool w_signed, bool x_signed);  // bits 0 or 4
const GemmKernels* block_scaled_gemm_kernels(int bits, BlockScaled kind);      // bits 0 or the width of the codes

struct GemmPlan : GemmChoice {
  int64_t tiles;
  const GemmKernels* kernels;
  GemmParams params;
};

// choose_gemm (gemm_call.h) with all that a launch takes.
Status plan_gemm(const char* op, const GemmArgs& args, const GroupedRows* grouped, const Device& device, bool exact,
                 GemmPlan* plan);

}  // namespace lowbit::cuda
