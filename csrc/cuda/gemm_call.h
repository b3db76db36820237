// A call of the tensor-core GEMM (gemm.h), for those who launch it and do not look inside.
#pragma once

#include <string>

#include "cuda/launch.h"
#include "ref/gemm_args.h"

namespace lowbit::cuda {

// Names of the engines (gemm.h) that code of an architecture has: "int8 bfloat16 half int4".
std::string gemm_engines(const Arch& code);

// Rows of x and out sorted by expert; device memory.
struct GroupedRows {
  const int32_t* offs = nullptr;  // [experts]: the end of each one's rows
  int32_t experts = 0;
  int64_t w_step = 0, w_scale_step = 0, w_second_step = 0, w_zero_step = 0, bias_step = 0;  // bytes between experts
};

// The workspace that run_gemm needs for these arguments on a device.
// `exact`: no block-scaled engine (gemm.h), so that integer pairs give the bits of the CPU there too.
int64_t gemm_workspace(const char* op, const GemmArgs& args, const Device& device, bool exact = false);
Status run_gemm(const char* op, const GemmArgs& args, const GroupedRows* grouped, const Call& call, bool exact = false);

}  // namespace lowbit::cuda
