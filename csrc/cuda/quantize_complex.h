// The complex2 parts of quantize and dequantize, which go there; devices and sizes have been checked.
#pragma once

#include "cuda/launch.h"
#include "ref/quantize.h"

namespace lowbit::cuda {

Status quantize_complex(const QuantizeArgs& args, const Call& call);
Status dequantize_complex(const DequantizeArgs& args, const Call& call);

}  // namespace lowbit::cuda
