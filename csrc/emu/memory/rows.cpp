// ldmatrix and stmatrix: rows of a matrix in shared memory, each at the address that one lane gave. The rows of a
// matrix, eight of 16 bytes, are one phase of the banks.
#include "emu/memory/access.h"

namespace emu {

using ptx::Space;

Mask load_rows(Warp& warp, Mask address_lanes, const uint64_t address[kLanes], uint32_t row_bytes, void* out) {
  auto* rows = static_cast<std::byte(*)[16]>(out);
  Mask unwritten = 0;
  const Actor now(warp, Strength::kWeak, Space::kShared);
  SharedMemory& shared = *warp.block->shared;
  Shadow& shadow = shared.shadow();
  const Shadow::Reading reading = shadow.reading(now);
  for (Mask m = address_lanes; m != 0; m &= m - 1) std::memset(rows[__builtin_ctz(m)], 0, 16);
  for_each_shared(warp, address_lanes, address, row_bytes, 16, "ldmatrix row", [&](int lane, uint32_t at) {
    copy_bytes(rows[lane], shared.data() + at, row_bytes);
    if (((now.races && shadow.quick_read(reading, now, lane, at / 4, row_bytes / 4)) ||
         check_read(now, lane, shadow, at, at, row_bytes, "ldmatrix row")) &&
        !shadow.is_written(at, row_bytes)) {
      unwritten |= Mask{1} << lane;
      report_unwritten(warp, lane, Space::kShared, "ldmatrix row", at, row_bytes);
    }
  });
  count_wavefronts(warp, address_lanes, address, 16);
  return unwritten;
}

void store_rows(Warp& warp, Mask address_lanes, const uint64_t address[kLanes], uint32_t row_bytes, const void* in) {
  const auto* rows = static_cast<const std::byte(*)[16]>(in);
  const Actor now(warp, Strength::kWeak, Space::kShared, address_lanes, address, row_bytes, rows[0], 16);
  SharedMemory& shared = *warp.block->shared;
  Shadow& shadow = shared.shadow();
  bool changed = false;
  for_each_shared(warp, address_lanes, address, row_bytes, 16, "stmatrix row", [&](int lane, uint32_t at) {
    if (!check_write(now, lane, shadow, at, at, row_bytes, "stmatrix row")) return;
    changed = changed || std::memcmp(shared.data() + at, rows[lane], row_bytes) != 0;
    copy_bytes(shared.data() + at, rows[lane], row_bytes);
    shadow.set_written(at, row_bytes, true);
    shadow.forget_published(at / 4, row_bytes / 4);
  });
  if (changed) warp.block->launch->progress();
  count_wavefronts(warp, address_lanes, address, 16);
}

}  // namespace emu
