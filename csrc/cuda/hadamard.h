// hadamard on CUDA (ref/hadamard.h). fp32 additions in registers, by shuffles and in shared memory; of 16-bit x in
// blocks of 32 and more the first four of the 2^k, on values that are still exact, by mma.m16n8k16 (tile/hadamard.cuh).
//
//   blocks of 2^k <= 256          lanes of a warp
//   up to 24,000 or so, any m     a block of threads: butterflies, then the m - 1 additions of H_m from shared memory
//   32,768                        two halves one after the other through shared memory, joined in registers
//   beyond                        two passes: 2^k into the workspace (fp32), then H_m, or H_8 for 65,536
//
// Error of an output against exact arithmetic, with u = 2^-24 and S = |scale| * (sum of |x| over the block): every term
// passes at most k + m - 1 additions and the product with `scale`, so gamma S with gamma = (k + m) u / (1 - (k + m) u);
// then half an ulp of the dtype of out. Where tensor cores add, 22 u S more: of 16 terms they sum 8 at a time, keep of
// each term and of the sum so far what is above 2^-24 of the largest (9 * 2^-24), and cut the sum to 24 bits (2^-23),
// twice. There a subnormal of float16 counts as 2^-14, so S grows by 2^-14 for every 16 terms. Exact where
// ref/hadamard.h says so.
//
// `sign` is device memory. x and out may be the same memory. Nothing is found (Call::findings).
#pragma once

#include "cuda/launch.h"
#include "ref/hadamard.h"

namespace lowbit::cuda {

int64_t hadamard_workspace(const HadamardArgs& args);
Status hadamard(const HadamardArgs& args, const Call& call);

}  // namespace lowbit::cuda
