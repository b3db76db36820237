// The GEMM families on AVX-512 (VNNI, BF16, VBMI, GFNI): ref/gemm_args.h. What takes the reference: complex2
// operands, activations of mixed widths, outliers beside quantized activations.
#pragma once

#include "ref/gemm_args.h"

namespace lowbit::avx512 {

Status bitplane_gemm(const GemmArgs& args, const Parallel& parallel);
Status dequant_gemm(const GemmArgs& args, const Parallel& parallel);
Status scaled_gemm(const GemmArgs& args, const Parallel& parallel);

}  // namespace lowbit::avx512
