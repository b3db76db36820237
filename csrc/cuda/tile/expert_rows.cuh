// Rows sorted by expert: which rows of which expert a tile has. `offs`, the ends of the experts' rows, lies on the
// device and is not checked, since nothing waits for it: an expert's rows end at the largest of the ends up to its own,
// within 0 .. m.
#pragma once

#include <cstdint>

namespace lowbit::cuda {

struct ExpertRows {
  int32_t expert, begin, end;
};

// Tile `tile` of the tiles of `rows` rows that all experts are cut into, one expert after the other. False: there are
// fewer. A warp looks at 32 experts at a time; all its lanes call, and every warp finds the same.
__device__ __forceinline__ bool find_expert_rows(const int32_t* offs, int32_t experts, int32_t m, int32_t rows,
                                                 int32_t tile, ExpertRows* found) {
  constexpr unsigned kAll = 0xffffffffu;
  const int lane = static_cast<int>(threadIdx.x % 32);
  int32_t begin = 0;  // of the first expert of the 32
#pragma unroll 1
  for (int32_t first = 0; first < experts; first += 32) {
    int32_t end = first + lane < experts ? min(offs[first + lane], m) : 0;
    end = max(end, begin);
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
      const int32_t below = __shfl_up_sync(kAll, end, d);
      if (lane >= d) end = max(end, below);
    }
    const int32_t before = __shfl_up_sync(kAll, end, 1), own = lane == 0 ? begin : before;
    const int32_t tiles = (end - own + rows - 1) / rows;
    int32_t last = tiles;  // tiles up to and with this expert's
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
      const int32_t below = __shfl_up_sync(kAll, last, d);
      if (lane >= d) last += below;
    }
    const unsigned beyond = __ballot_sync(kAll, tile < last);
    if (beyond != 0) {
      const int at = __ffs(static_cast<int>(beyond)) - 1;
      const int32_t skipped = __shfl_sync(kAll, last - tiles, at);
      found->expert = first + at;
      found->begin = __shfl_sync(kAll, own, at) + (tile - skipped) * rows;
      found->end = __shfl_sync(kAll, end, at);
      return true;
    }
    tile -= __shfl_sync(kAll, last, 31);
    begin = __shfl_sync(kAll, end, 31);
  }
  return false;
}

}  // namespace lowbit::cuda
