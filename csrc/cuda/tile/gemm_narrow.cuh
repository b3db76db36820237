// The GEMM for few rows of x: a block of four warps computes 16 rows of w by up to 16 of x, and the warps share K. Each
// leaves the sums of its parts in records, which one thread an output joins in the order of K. So the result has the
// bits of the wide loop. Where rows of w are few, blocks share K too: the records then lie in the workspace, and the
// block that comes last to a tile joins.
//
// Two loops: narrow_stream.cuh where weights of the layout mma64 are cut into parts of powers of two, narrow_walk.cuh
// for everything else.
#pragma once

#include "cuda/tile/narrow_stream.cuh"
#include "cuda/tile/narrow_walk.cuh"

namespace lowbit::cuda {

template <class E, int kBits>
struct NarrowShared {
  // `split`: records of parts lie in the workspace.
  static constexpr int64_t bytes(const GemmParams& p, int stages, bool split) {
    if constexpr (kBits > 0) {
      return StreamShared<E, kBits>::bytes(p, stages, split);
    } else {
      return WalkShared<E>::bytes(p, stages, split);
    }
  }
};

// Two blocks a multiprocessor have 56 KB of 4-bit weights under way; a third would leave too few registers.
template <class E, int kBits>
__global__ void __launch_bounds__(32 * kNarrowWarps, 2) gemm_narrow(const __grid_constant__ GemmParams p) {
  if constexpr (IsNative<E>::value) {
    extern __shared__ __align__(128) uint8_t memory[];
    if constexpr (kBits > 0) {
      NarrowStream<E, kBits>(p, memory).run();
    } else {
      NarrowWalk<E>(p, reinterpret_cast<WalkShared<E>*>(memory)).run();
    }
  }
}

}  // namespace lowbit::cuda
