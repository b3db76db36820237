// A ring of shared-memory stages filled by cp.async:
//
//   for s in 0 .. kStages - 2: fill stage s; commit()
//   for each tile: acquire(); use stage tile % kStages; fill stage (tile + kStages - 1) % kStages; commit()
//
// The barrier in acquire() has two duties: the stage that was waited for is visible to all, and the stage that is
// filled next has been read by all (it was used one tile ago). commit() is called also when nothing was filled: groups
// count.
#pragma once

#include "cuda/ptx/memory.cuh"

namespace lowbit::cuda {

template <int kStages>
struct Pipeline {
  static __device__ __forceinline__ void commit() { ptx::cp_async_commit_group(); }
  static __device__ __forceinline__ void acquire() {
    ptx::cp_async_wait_group<kStages - 2>();
    __syncthreads();
  }
  // No copy is left under way: before shared memory is used for anything else, and before the end of the kernel.
  static __device__ __forceinline__ void drain() {
    ptx::cp_async_wait_group<0>();
    __syncthreads();
  }
};

}  // namespace lowbit::cuda
