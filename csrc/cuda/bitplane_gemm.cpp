#include "cuda/bitplane_gemm.h"

#include "cuda/gemm.h"

namespace lowbit::cuda {

int64_t bitplane_gemm_workspace(const GemmArgs& args, const Device& device) {
  return gemm_workspace("bitplane_gemm", args, device.multiprocessors, device.shared_per_block);
}

Status bitplane_gemm(const GemmArgs& args, const Call& call) { return run_gemm("bitplane_gemm", args, nullptr, call); }

}  // namespace lowbit::cuda
