// Scales on the device (ref/scaling.h): extents of blocks in the workspace, and the stores made of them.
#pragma once

#include <cstdint>

#include "cuda/launch.h"
#include "ref/scaling.h"

namespace lowbit::cuda {

// Bytes of the extents of all blocks (and of the blocks of scales of a two-level rule).
int64_t extents_workspace(const Scaling& scaling);

// Zeroes the extents; a kernel then adds to them (tile/extents.cuh: extent_store).
Status clear_extents(const char* op, const Scaling& scaling, const Call& call);

// Fills the stores of `scaling` from the extents.
Status make_scales(const char* op, const Scaling& scaling, const Call& call);

}  // namespace lowbit::cuda
