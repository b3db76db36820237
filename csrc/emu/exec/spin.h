// Whether threads that make no progress will ever make any.
//
// A launch in which no memory changes is a machine without input: a warp that comes back to a state it has been in will
// do so for ever. So when a launch has gone long without progress, the states of its warps are kept and compared with
// later ones; an endless spin is reported when every block of the window has come back to an earlier state. A long
// computation does not, since its counters do not. A spin that counts its turns is found by its length alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "emu/exec/warp.h"

namespace emu {

// Turns without progress of so many times config().spin_limit warp steps are endless whatever the warps do.
inline constexpr uint64_t kCertainSpin = 64;

class SpinWatch {
 public:
  // Looks at the warps of the block between two of their turns. True: all of them that run have come back to a state
  // they were in since `suspicion` began. The block must make no progress meanwhile.
  bool repeats(const Block& block, uint64_t suspicion);

 private:
  struct State {
    uint64_t steps = 0, due = 1;  // `due`: the turn at which a fresh state is kept, further away each time
    uint64_t turns = 0;
    bool repeats = false;
    Mask exited = 0, waiting = 0, barred = 0;
    uint32_t pc[kLanes] = {};
    std::vector<std::byte> bytes;  // registers, then the frames of the lanes
  };
  void keep(const Warp& warp, State* state);
  bool same(const Warp& warp, const State& state) const;

  uint64_t suspicion_ = 0;
  std::vector<State> states_;
};

}  // namespace emu
