// What clock.cpp and sync.cpp share: taking and giving the knowledge of single lanes.
#pragma once

#include "emu/memory/clock.h"

namespace emu {

// Everything that `lanes` of the warp know now, what they did themselves up to and with this epoch included. The caller
// moves the warp to its next epoch behind it.
KnownPtr snapshot(const Warp& warp, Mask lanes);
LaneSync& sync_of(Warp& warp, int lane);

}  // namespace emu
