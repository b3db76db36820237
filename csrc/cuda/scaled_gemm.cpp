#include "cuda/scaled_gemm.h"

#include "cuda/byte_rows.h"

namespace lowbit::cuda {

int64_t scaled_gemm_workspace(const GemmArgs& args, const Device& device) {
  return byte_rows_gemm_workspace("scaled_gemm", args, device);
}

Status scaled_gemm(const GemmArgs& args, const Call& call) { return run_byte_rows_gemm("scaled_gemm", args, call); }

}  // namespace lowbit::cuda
