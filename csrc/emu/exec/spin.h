// Whether threads that make no progress will ever make any.
//
// A launch in which no memory changes is a machine without input: a warp that comes back to a state it has been in will
// do so for ever, whatever the others do, since a barrier only makes it wait (and a reduction that gives what it gave
// before tells it nothing). So when a launch has gone long without progress, the states of its warps are kept and
// compared with later ones; an endless spin is reported when in every block of the window each warp has come back to an
// earlier state, or stands at a barrier that got no nearer to completion while the others did. A state is what decides
// where the warp goes and what it does to memory (Loop): a spin that only counts its turns comes back to it, a long
// computation does not, since its counters decide when it ends. One that counts its turns in local memory is found by
// its length alone, unless it passes barriers.
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
  // Looks at the warps of the block between two of their turns. True: as said above, of this block, since `suspicion`
  // began. The block must make no progress meanwhile.
  bool repeats(const Block& block, uint64_t suspicion);

 private:
  struct State {
    uint64_t steps = 0, due = 1;  // `due`: the turn at which a fresh state is kept, further away each time
    uint64_t turns = 0;
    uint64_t kept = 0;  // the look that kept it
    bool repeats = false;
    Mask exited = 0, waiting = 0, barred = 0, carry = 0;
    uint32_t pc[kLanes] = {};
    std::vector<Warp::Frame> calls[kLanes];
    std::vector<std::byte> bytes;  // registers, then the frames of the lanes
    // Of a warp none of whose lanes can run: its steps and the arrivals at its barriers, and the look that first saw
    // them so.
    uint64_t stood_steps = ~uint64_t{0}, arrived = 0, stands_since = 0;
  };
  void keep(const Warp& warp, State* state);
  bool same(const Warp& warp, const State& state) const;

  uint64_t suspicion_ = 0, looks_ = 0;
  std::vector<State> states_;
};

}  // namespace emu
