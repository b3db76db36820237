// The GEMM families of ref/gemm_args.h in vectors. What takes the reference: complex2 operands, activations of mixed
// widths, outliers beside quantized activations.
#pragma once

#include "ref/gemm_args.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {

Status bitplane_gemm(const GemmArgs& args, const Parallel& parallel);
Status dequant_gemm(const GemmArgs& args, const Parallel& parallel);
Status scaled_gemm(const GemmArgs& args, const Parallel& parallel);

}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
