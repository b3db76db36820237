// Why a block stands still: who waits where, and who never comes.
#include <string>

#include "emu/exec/launch.h"

namespace emu {
namespace {

int first_lane(Mask m) { return __builtin_ctz(m); }

const Instr& instr_of(const Warp& w, int lane) { return w.code->instrs[w.pc[lane]]; }

Site site_of(const Warp& w, int lane) { return w.block->launch->site(w, lane, w.pc[lane]); }

// A lane of the warp waits for others of it at a synchronizing instruction. True when that was reported.
bool report_warp(Warp& w) {
  Launch& launch = *w.block->launch;
  for (Mask pending = w.waiting; pending != 0; pending &= pending - 1) {
    const int lane = first_lane(pending);
    const Instr& i = instr_of(w, lane);
    const Mask members = members_of(w, i, lane);
    const Site site = site_of(w, lane);
    for (Mask m = members & w.living(); m != 0; m &= m - 1) {
      const int missing = first_lane(m);
      const Instr& j = instr_of(w, missing);
      const bool here = (w.waiting >> missing & 1) != 0 &&
                        (w.pc[missing] == w.pc[lane] || (is_warp_barrier(i) && is_warp_barrier(j)));
      if (here && members_of(w, j, missing) == members) continue;
      const Site other = site_of(w, missing);
      const std::string name = "lane " + std::to_string(missing) + " of its warp";
      launch.state->add(Finding::kDivergentBarrier, site,
                        here ? "this thread and " + name + " wait for each other with different member masks"
                             : "this thread waits for " + name + ", which waits elsewhere and never comes",
                        &other);
      return true;
    }
  }
  return false;
}

bool is_at(const Barrier& barrier, const Warp& w, int lane) { return (barrier.waiting[w.index] >> lane & 1) != 0; }

std::string threads_of(const Barrier& b, const Block& block) {
  return std::to_string(b.arrived) + " of " + std::to_string(b.expected == kAllThreads ? block.living : b.expected) +
         " threads have arrived";
}

// Threads stand at a barrier that is not complete.
void report_barrier(Block& block, uint32_t id) {
  const Barrier& barrier = block.barriers[id];
  Launch& launch = *block.launch;
  const Site site = launch.site(block.warps[barrier.warp], static_cast<int>(barrier.lane), barrier.instr);
  const std::string message = "barrier " + std::to_string(id) + " never completes: " + threads_of(barrier, block);
  for (const Warp& w : block.warps) {
    for (Mask m = w.living(); m != 0; m &= m - 1) {
      const int lane = first_lane(m);
      if (is_at(barrier, w, lane)) continue;
      const Site other = site_of(w, lane);
      const bool for_all = barrier.expected == kAllThreads;
      launch.state->add(for_all ? Finding::kDivergentBarrier : Finding::kDeadlock, site,
                        message + ", others wait elsewhere", &other);
      return;
    }
  }
  for (const Warp& w : block.warps) {
    if (w.exited == 0) continue;
    const Site other = site_of(w, first_lane(w.exited));
    launch.state->add(Finding::kDivergentBarrier, site, message + ", others have exited", &other);
    return;
  }
  launch.state->add(Finding::kDeadlock, site, message + ", and there are no other threads", nullptr);
}

}  // namespace

void report_stuck(Block& block, const Warp* only) {
  for (Warp& w : block.warps) {
    if ((only == nullptr || only == &w) && report_warp(w)) return;
  }
  for (uint32_t id = 0; id < kBarriers; ++id) {
    if (block.barriers[id].arrived != 0) return report_barrier(block, id);
  }
}

}  // namespace emu
