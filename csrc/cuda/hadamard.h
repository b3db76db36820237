// hadamard on CUDA (ref/hadamard.h), the butterfly engine: fp32 additions in registers, by shuffles and in shared
// memory.
//
//   blocks of 2^k <= 256          lanes of a warp
//   up to 24,000 or so, any m     a block of threads: butterflies, then the m - 1 additions of H_m from shared memory
//   32,768                        two halves one after the other through shared memory, joined in registers
//   beyond                        two passes: 2^k into the workspace (fp32), then H_m, or H_8 for 65,536
//
// Error of an output against exact arithmetic: with u = 2^-24 and L = k + (m - 1 additions of H_m: m - 1), every sum of
// terms passes at most L roundings, then one of `scale` and one to the dtype of out: at most (L + 1) u / (1 - (L + 1)
// u) times scale * sum |x| of the block, plus half an ulp of the dtype. Exact where ref/hadamard.h says so.
//
// `sign` is device memory. x and out may be the same memory. Nothing is found (Call::findings).
#pragma once

#include "cuda/launch.h"
#include "ref/hadamard.h"

namespace lowbit::cuda {

int64_t hadamard_workspace(const HadamardArgs& args);
Status hadamard(const HadamardArgs& args, const Call& call);

}  // namespace lowbit::cuda
