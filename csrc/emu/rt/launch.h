// One launch: its configuration judged as the driver judges it, then run to its end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "emu/exec/warp.h"
#include "emu/rt/error.h"
#include "emu/rt/module.h"

namespace emu {

struct LaunchShape {
  abi::Dim3 grid, block;
  uint64_t dynamic_shared = 0;
  bool cooperative = false;
};

// The error that the launch gives its caller: that of its configuration, or of its first finding.
abi::Error launch(Kernel& kernel, const LaunchShape& shape, std::vector<std::byte> parameters);

}  // namespace emu
