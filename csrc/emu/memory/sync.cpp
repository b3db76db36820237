// Release and acquire (PTX ISA 9.0, 8.8 "Release and acquire patterns", 8.9.4 "Causality order").
// A fence makes what its thread knows the content of its later strong writes (release pattern), and makes what its
// earlier strong reads found known to it (acquire pattern). A synchronization counts at the narrower of the scopes of
// its fence and its access: cta scope publishes to the own block alone. A read-modify-write carries on the release
// sequence of the value it read; any other write begins a new one.
#include "emu/memory/sync.h"

#include "emu/exec/warp.h"

namespace emu {
namespace {

enum { kOwnBlock = 0, kWide = 1 };

}  // namespace

void on_fence(Warp& warp, Mask lanes, int scope, bool acquire, bool release) {
  const bool wide = scope >= 2;
  for (int l = 0; l < kLanes; l++) {
    if (!(lanes >> l & 1)) continue;
    LaneSync& sync = sync_of(warp, l);
    if (acquire) {
      sync.known = join(sync.known, sync.pending[kOwnBlock]);
      sync.pending[kOwnBlock] = nullptr;
    }
    if (acquire && wide) {
      sync.known = join(sync.known, sync.pending[kWide]);
      sync.pending[kWide] = nullptr;
    }
    if (!release) continue;
    const KnownPtr now = snapshot(warp, Mask{1} << l);
    sync.released[kOwnBlock] = join(sync.released[kOwnBlock], now);
    if (wide) sync.released[kWide] = join(sync.released[kWide], now);
  }
  if (release) warp.clock.epoch++;
}

void on_strong_read(Warp& warp, int lane, const Publication& at, int scope, bool acquire) {
  const auto own = at.cta.find(warp.block->linear);
  const KnownPtr narrow = own == at.cta.end() ? nullptr : own->second;
  const KnownPtr wide = scope >= 2 ? at.wide : nullptr;
  if (!narrow && !wide) return;
  LaneSync& sync = sync_of(warp, lane);
  if (acquire) {
    sync.known = join(join(sync.known, narrow), wide);
  } else {
    sync.pending[kOwnBlock] = join(sync.pending[kOwnBlock], narrow);
    sync.pending[kWide] = join(sync.pending[kWide], wide);
  }
}

void on_strong_write(Warp& warp, int lane, Publication& at, int scope, bool release, bool read_modify_write) {
  KnownPtr narrow, wide;
  if (const LaneSync* sync = warp.clock.sync[lane].get()) {
    narrow = sync->released[kOwnBlock];
    if (scope >= 2) wide = sync->released[kWide];
  }
  if (release) {
    const KnownPtr now = snapshot(warp, Mask{1} << lane);
    narrow = join(narrow, now);
    if (scope >= 2) wide = join(wide, now);
    warp.clock.epoch++;
  }
  if (!read_modify_write) {
    at.wide = nullptr;
    at.cta.clear();
  }
  at.wide = join(at.wide, wide);
  if (narrow) {
    KnownPtr& own = at.cta[warp.block->linear];
    own = join(own, narrow);
  }
}

}  // namespace emu
