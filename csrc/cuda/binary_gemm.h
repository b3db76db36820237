// The binary engine of bitplane_gemm (tile/binary_gemm.cuh): its tiles, how K is shared by blocks, its launch. Which
// calls take it stands in bitplane_gemm.h.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/launch.h"
#include "ref/gemm_args.h"

namespace lowbit::cuda {

struct BinaryPlan {
  int tiles;       // of eight planes of rows of x under a block: 1, 2, 4 or 8
  int64_t blocks;  // that cover the output
  int32_t splits;  // of K
  int32_t share;   // steps of a block
  int64_t pieces;  // of K: segments cut where shares end
  int64_t workspace_bytes;
};
// Of a product of `planes` planes of x whose segments have `segment` columns. Needs no device: its multiprocessors
// change speed alone.
BinaryPlan plan_binary_gemm(int64_t m, int64_t n, int64_t k, int planes, int64_t segment, int multiprocessors);

// The length of segments that all scales and zero points share, or 0: there is none that the engine can end.
int64_t binary_segment(const GemmArgs& args);

int64_t binary_gemm_workspace(const GemmArgs& args, const Device& device);
Status run_binary_gemm(const char* op, const GemmArgs& args, const Call& call, const Device& device);

}  // namespace lowbit::cuda
