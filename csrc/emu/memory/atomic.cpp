// Read-modify-writes: strong operations, at once a read and a write of their word.
#include <string>
#include <utility>

#include "emu/exec/launch.h"
#include "emu/memory/access.h"

namespace emu {
namespace {

using ptx::Space;

struct Operation {
  Warp& warp;
  const Access& access;
  Update update;
  const void* context;
  std::byte* out;
  uint32_t stride;
  bool changed = false;

  // `shadow` at `offset` is that of `data`; the caller holds what guards both.
  void apply(const Actor& now, int lane, std::byte* data, Shadow& shadow, uint32_t offset, uint64_t address) {
    const uint32_t bytes = access.bytes;
    if (!shadow.is_written(offset, bytes) && config().uninitialized != Uninitialized::kIgnore) {
      warp.block->launch->report(Finding::kUninitialized, warp, lane,
                                 "atomic of " + std::to_string(bytes) + " bytes that nobody wrote, at " +
                                     describe(now.space, address, *warp.block));
    }
    Publication& published = shadow.published(offset / 4);
    const int scope = scope_level(access.scope);
    on_strong_read(warp, lane, published, scope, is_acquire(access.order));
    if (!check_write(now, lane, shadow, offset, address, bytes, "atomic")) return;
    alignas(16) std::byte before[16] = {}, after[16] = {};
    copy_bytes(before, data, bytes);
    update(before, after, lane, context);
    copy_bytes(data, after, bytes);
    changed = changed || std::memcmp(before, after, bytes) != 0;
    shadow.set_written(offset, bytes, true);
    on_strong_write(warp, lane, published, scope, is_release(access.order), true);
    if (out) copy_bytes(out + size_t{stride} * static_cast<unsigned>(lane), before, bytes);
  }
};

}  // namespace

void atomic(Warp& warp, Mask active, const Access& access, const uint64_t address[kLanes], Update update,
            const void* context, void* out, uint32_t stride) {
  int order[kLanes], n = 0;
  for (Mask m = active; m != 0; m &= m - 1) order[n++] = __builtin_ctz(m);
  for (int k = n - 1; k > 0; k--) {
    std::swap(order[k], order[next_random(&warp.block->random) % static_cast<uint64_t>(k + 1)]);
  }
  Operation operation{warp, access, update, context, static_cast<std::byte*>(out), stride};
  SharedMemory& shared = *warp.block->shared;
  Mask global = 0, in_shared = 0;
  uint64_t offsets[kLanes] = {};
  for (int k = 0; k < n; k++) {
    const int lane = order[k];
    const Mask bit = Mask{1} << lane;
    uint64_t at = address[lane];
    Space space = access.space;
    if (out) std::memset(operation.out + size_t{stride} * static_cast<unsigned>(lane), 0, access.bytes);
    if (space == Space::kNone) {
      const uint64_t window = at & ~(kSharedWindow - 1);
      space = window == kSharedWindow ? Space::kShared : window == 0 ? Space::kGlobal : Space::kLocal;
      if (space == Space::kShared) at &= kSharedWindow - 1;
    }
    offsets[lane] = at;
    if (space == Space::kShared) {
      in_shared |= bit;
      const Actor now(warp, strength_of(access.order, access.scope), space);
      for_each_shared(warp, bit, offsets, access.bytes, access.align, "atomic", [&](int l, uint32_t offset) {
        operation.apply(now, l, shared.data() + offset, shared.shadow(), offset, offset);
      });
    } else if (space == Space::kGlobal) {
      global |= bit;
      const Actor now(warp, strength_of(access.order, access.scope), space);
      for_each_global(warp, bit, offsets, access.bytes, access.align, "atomic",
                      [&](int l, Allocation& a, Page& page, uint32_t offset) {
                        if (a.read_only) {
                          report_bounds(warp, l, space, "atomic on constant memory", at, access.bytes);
                          return;
                        }
                        operation.apply(now, l, a.at(at), page.shadow, offset, at);
                      });
    } else {
      report_bounds(warp, lane, Space::kLocal, "atomic on local or parameter memory", at, access.bytes);
    }
  }
  if (operation.changed) warp.block->launch->progress();
  if (global) count_sectors(warp, global, offsets, access.bytes);
  if (in_shared) count_wavefronts(warp, in_shared, offsets, access.bytes);
}

}  // namespace emu
