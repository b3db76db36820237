#include "cuda/scaled_gemm.h"

#include "cuda/gemm_call.h"

namespace lowbit::cuda {

int64_t scaled_gemm_workspace(const GemmArgs& args, const Device& device) {
  return gemm_workspace("scaled_gemm", args, device);
}

Status scaled_gemm(const GemmArgs& args, const Call& call) { return run_gemm("scaled_gemm", args, nullptr, call); }

}  // namespace lowbit::cuda
