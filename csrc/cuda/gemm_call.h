// A call of the tensor-core GEMM (gemm.h), for those who launch it and do not look inside.
#pragma once

#include <string>

#include "cuda/launch.h"
#include "cuda/tile/gemm_shape.h"
#include "ref/gemm_args.h"

namespace lowbit::cuda {

// kInt4: 4-bit integers where s4 is one instruction (sm_80 to sm_89); the bits of kInt8. kFloat8: FP8 by FP8 where
// mma.sync multiplies it (sm_89, sm_12x). kBlockScaled: codes with the scales of their blocks (sm_12x).
enum class GemmEngine : uint8_t { kInt8, kInt4, kBFloat16, kHalf, kFloat8, kBlockScaled };

// Names of the engines that code of an architecture has: "int8 bfloat16 half int4".
std::string gemm_engines(const Arch& code);

// Rows of x and out sorted by expert; device memory.
struct GroupedRows {
  const int32_t* offs = nullptr;  // [experts]: the end of each one's rows
  int32_t experts = 0;
  int64_t w_step = 0, w_scale_step = 0, w_second_step = 0, w_zero_step = 0, bias_step = 0;  // bytes between experts
};

// What is chosen for a call.
struct GemmChoice {
  GemmEngine engine;
  int bits;            // of mma64 weights that go to registers as they lie; 0: all others, by way of rows
  bool float_weights;  // and they are minifloats
  BlockScaled blocks;
  bool narrow;
  int32_t stages, splits;  // splits of K
  dim3 grid, block;
  int64_t shared_bytes, workspace_bytes;
};

// The choice by the arguments and these properties of the device: the architecture of its code chooses the engine, the
// rest changes speed alone. Nothing is asked of a device. `exact`: no block-scaled engine, so that integer pairs give
// the bits of the CPU there too. M changes no bits: it chooses among loops that agree.
Status choose_gemm(const char* op, const GemmArgs& args, const GroupedRows* grouped, const Device& device, bool exact,
                   GemmChoice* choice);

// The workspace that run_gemm needs for these arguments on a device.
int64_t gemm_workspace(const char* op, const GemmArgs& args, const Device& device, bool exact = false,
                       const GroupedRows* grouped = nullptr);
Status run_gemm(const char* op, const GemmArgs& args, const GroupedRows* grouped, const Call& call,
                const Device& device, bool exact);
// On the device of the call.
Status run_gemm(const char* op, const GemmArgs& args, const GroupedRows* grouped, const Call& call);

}  // namespace lowbit::cuda
