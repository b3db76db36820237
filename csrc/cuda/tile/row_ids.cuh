// Rows that are asked for by number: the gather of dequantize.
#pragma once

#include <cstdint>

#include "cuda/launch.h"
#include "cuda/tile/tiling.cuh"

namespace lowbit::cuda {

struct RowId {
  int32_t row = 0;
  bool valid = false;
};

// The row of the matrix that row `out_row` of the output is made of. An id that is no row is reported and not followed:
// no memory is read for it, and its output is zeros.
__device__ __forceinline__ RowId row_id(const int64_t* ids, int32_t out_row, bool valid, int32_t rows,
                                        int32_t* findings) {
  if (!valid) return {};
  if (ids == nullptr) return {out_row, true};
  const int64_t id = ids[out_row];
  if (id >= 0 && id < rows) return {static_cast<int32_t>(id), true};
  report(findings, kBadId);
  return {};
}

}  // namespace lowbit::cuda
