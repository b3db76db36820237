#include "cuda/dequant_gemm.h"

#include "cuda/gemm_call.h"

namespace lowbit::cuda {

int64_t dequant_gemm_workspace(const GemmArgs& args, const Device& device) {
  return gemm_workspace("dequant_gemm", args, device);
}

Status dequant_gemm(const GemmArgs& args, const Call& call) { return run_gemm("dequant_gemm", args, nullptr, call); }

}  // namespace lowbit::cuda
