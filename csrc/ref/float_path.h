// The float path of gemm_args.h, for dense and for quantized x.
#pragma once

#include "ref/gemm_args.h"

namespace lowbit::ref {

Status float_path(const GemmArgs& args, const Parallel& parallel);

}  // namespace lowbit::ref
