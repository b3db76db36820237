// Codes times codes on CUDA (ref/bitplane_gemm.h), by one of two engines: planes on the binary tensor cores
// (tile/binary_gemm.cuh), or bytes on the int8 ones (cuda/gemm.h). Both are exact and give the bits of the CPU.
#pragma once

#include "cuda/launch.h"
#include "ref/gemm_args.h"

namespace lowbit::cuda {

enum class BitplaneEngine : uint8_t { kBinary, kInt8 };

// One row of the table: where b1 mma is one instruction, a product of p by q planes costs p q binary multiplies of 256
// columns against eight int8 ones of 32.
struct BitplaneRule {
  int sm_from, sm_to;  // compute capability, the last one included
  int planes;          // p q up to which the binary engine multiplies faster
  int rows;            // rows of x up to which memory decides: then the planes as they lie are read, whatever p q
};
inline constexpr int kMaxBinaryPlanes = 4;  // of w, held in registers together

// By architecture alone; kInt8 where no row fits.
BitplaneEngine bitplane_engine(int sm, int p, int q, int64_t m);

// What a call takes on a device that runs code of `sm`: the table, and whether its operands are planes whose segments
// the binary engine can end.
BitplaneEngine bitplane_engine(const GemmArgs& args, int sm);

int64_t bitplane_gemm_workspace(const GemmArgs& args, const Device& device);
Status bitplane_gemm(const GemmArgs& args, const Call& call);

}  // namespace lowbit::cuda
